import { mkdir } from "node:fs/promises"
import { dirname, resolve } from "node:path"
import { Worker } from "node:worker_threads"
import { fail } from "../errors.ts"
import { type Connection, connectHere } from "./connection.ts"
import { type Cell, type Database, Listeners, type Queries, type Row } from "./database.ts"
import type { Answered, Asked } from "./sqlite-thread.ts"

const now = "CAST(unixepoch('subsec') * 1000 AS INTEGER)"

/** SQLite's form of a text. */
const dialect = (text: string): string =>
  text
    .replaceAll("{now}", now)
    .replaceAll("{skip}", "")
    .replaceAll("{serial}", "SELECT 1") // BEGIN IMMEDIATE lets one writer in
    .replace(/\$(\d+)/g, "?$1")

/** Longest wait for other processes, in milliseconds. */
const patience = 30_000
const pause = () => new Promise((done) => setTimeout(done, 1 + Math.random() * 8))
const isBusy = (error: unknown): boolean =>
  /SQLITE_BUSY|database (table )?is locked/.test(
    `${(error as { code?: string }).code} ${(error as Error).message}`,
  )

/** A connection in a thread of its own: every commit waits for the disk, and this thread does not. */
async function connectThread(path: string): Promise<Connection> {
  const thread = new Worker(new URL("./sqlite-thread.js", import.meta.url), { workerData: path })
  const waiting = new Map<number, { done(rows: Row[]): void; refuse(error: Error): void }>()
  let last = 0
  const expect = (id: number) =>
    new Promise<Row[]>((done, refuse) => {
      waiting.set(id, { done, refuse })
      thread.ref()
    })
  thread.on("message", (answer: Answered) => {
    const asked = waiting.get(answer.id)
    waiting.delete(answer.id)
    // an idle database keeps no process alive
    if (waiting.size === 0) thread.unref()
    if ("rows" in answer) asked?.done(answer.rows)
    else asked?.refuse(Object.assign(new Error(answer.message), { code: answer.code }))
  })
  const gone = (why: string) => {
    for (const { refuse } of waiting.values()) refuse(new Error(why))
    waiting.clear()
  }
  thread.on("error", (error) => gone(`the database's thread ended: ${error.message}`))
  thread.on("exit", () => gone("the database is closed"))
  const ask = (asked: { text: string; values: readonly Cell[] } | { close: true }): Promise<Row[]> => {
    const answer = expect(++last)
    thread.postMessage({ id: last, ...asked } satisfies Asked)
    return answer
  }
  await expect(0)
  return {
    all: (text, values) => ask({ text, values }),
    close: async () => {
      await ask({ close: true })
    },
  }
}

/** Beside this file as TypeScript, where tests run it, there is no compiled thread. */
const connect = import.meta.url.endsWith(".ts") ? connectHere : connectThread

class Sqlite implements Database {
  readonly engine = "sqlite"
  private readonly connection: Connection
  private readonly listeners = new Listeners()
  /** Ends when the transaction that is under way does: one connection, one transaction. */
  private turn: Promise<unknown> = Promise.resolve()
  private busy = 0

  constructor(connection: Connection) {
    this.connection = connection
  }

  private run(text: string, values: readonly Cell[] = []): Promise<Row[]> {
    return this.connection.all(dialect(text), values)
  }

  /** Waits for our own transaction, and for another process's. */
  async query(text: string, values: readonly Cell[] = []): Promise<Row[]> {
    for (const end = Date.now() + patience; ; await pause()) {
      while (this.busy > 0) await this.turn
      try {
        return await this.run(text, values)
      } catch (error) {
        if (!isBusy(error) || Date.now() > end) throw error
      }
    }
  }

  transaction<T>(work: (q: Queries) => Promise<T>): Promise<T> {
    this.busy++
    const result = this.turn.then(() => this.alone(work)).finally(() => this.busy--)
    this.turn = result.catch(() => {})
    return result
  }

  private async alone<T>(work: (q: Queries) => Promise<T>): Promise<T> {
    for (const end = Date.now() + patience; ; await pause()) {
      try {
        await this.run("BEGIN IMMEDIATE")
        break
      } catch (error) {
        if (!isBusy(error) || Date.now() > end) throw error
      }
    }
    try {
      const result = await work({ query: (text, values) => this.run(text, values) })
      await this.run("COMMIT")
      return result
    } catch (error) {
      // a full disk has ended it already
      await this.run("ROLLBACK").catch(() => {})
      throw error
    }
  }

  async notify(message: string): Promise<void> {
    this.listeners.tell(message)
  }

  listen(heard: (message: string) => void): () => void {
    return this.listeners.add(heard)
  }

  hear(message: string): void {
    this.listeners.tell(message)
  }

  async close(): Promise<void> {
    await this.turn
    await this.connection.close()
  }
}

/**
 * A database in one file, safe with several processes. A commit is on disk before it is reported (WAL with
 * `synchronous = FULL`).
 * @throws DATABASE_OPEN
 */
export async function openSqlite(path: string): Promise<Database> {
  const file = resolve(path)
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    return new Sqlite(await connect(file))
  } catch (cause) {
    return fail("DATABASE_OPEN", `the database cannot be opened: ${(cause as Error).message}`, {
      cause,
      file: path,
      hint: "choose another file with --database, in a folder that you may write to",
    })
  }
}

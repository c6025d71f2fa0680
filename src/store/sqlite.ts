import { mkdir } from "node:fs/promises"
import { dirname, resolve } from "node:path"
import { fail } from "../errors.ts"
import { type Cell, type Database, Listeners, type Queries, type Row } from "./database.ts"

/** What node:sqlite and libsql have in common. */
interface Connection {
  exec(text: string): unknown
  prepare(text: string): { all(...values: Cell[]): unknown[] }
  close(): unknown
}

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
const breath = () => new Promise((done) => setImmediate(done))
const isBusy = (error: unknown): boolean =>
  /SQLITE_BUSY|database (table )?is locked/.test(
    `${(error as { code?: string }).code} ${(error as Error).message}`,
  )

/** node:sqlite where Node has it, otherwise libsql, which comes prebuilt. */
async function connect(path: string): Promise<Connection> {
  const builtin = "node:sqlite"
  const own = (await import(builtin).catch(() => null)) as {
    DatabaseSync: new (path: string) => Connection
  } | null
  if (own) return new own.DatabaseSync(path)
  const { default: Libsql } = await import("libsql")
  return new Libsql(path) as unknown as Connection
}

class Sqlite implements Database {
  readonly engine = "sqlite"
  private readonly connection: Connection
  private readonly statements = new Map<string, ReturnType<Connection["prepare"]>>()
  private readonly listeners = new Listeners()
  /** Ends when the transaction that is under way does: one connection, one transaction. */
  private turn: Promise<unknown> = Promise.resolve()
  private busy = 0

  constructor(connection: Connection) {
    this.connection = connection
  }

  private run(text: string, values: readonly Cell[]): Row[] {
    let statement = this.statements.get(text)
    if (!statement) {
      statement = this.connection.prepare(dialect(text))
      if (this.statements.size < 200) this.statements.set(text, statement)
    }
    // node:sqlite gives rows without a prototype, libsql plain ones
    return statement.all(...values).map((row) => ({ ...(row as Row) }))
  }

  async query(text: string, values: readonly Cell[] = []): Promise<Row[]> {
    return this.patiently(() => this.run(text, values))
  }

  /** Waits for our own transaction, and for another process's without holding up the event loop. */
  private async patiently<T>(work: () => T): Promise<T> {
    for (const end = Date.now() + patience; ; ) {
      while (this.busy > 0) await this.turn
      try {
        return work()
      } catch (error) {
        if (!isBusy(error) || Date.now() > end) throw error
      }
      await pause()
    }
  }

  transaction<T>(work: (q: Queries) => Promise<T>): Promise<T> {
    this.busy++
    // each commit waits for the disk: a crowd of them leaves the event loop time for others in between
    const result = this.turn
      .then(breath)
      .then(() => this.alone(work))
      .finally(() => this.busy--)
    this.turn = result.catch(() => {})
    return result
  }

  private async alone<T>(work: (q: Queries) => Promise<T>): Promise<T> {
    for (const end = Date.now() + patience; ; await pause()) {
      try {
        this.connection.exec("BEGIN IMMEDIATE")
        break
      } catch (error) {
        if (!isBusy(error) || Date.now() > end) throw error
      }
    }
    try {
      const result = await work({ query: async (text, values = []) => this.run(text, values) })
      this.connection.exec("COMMIT")
      return result
    } catch (error) {
      try {
        this.connection.exec("ROLLBACK")
      } catch {} // a full disk has ended it already
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
    this.statements.clear()
    this.connection.close()
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
    const connection = await connect(file)
    connection.exec("PRAGMA busy_timeout = 5000")
    connection.exec("PRAGMA journal_mode = WAL")
    connection.exec("PRAGMA synchronous = FULL")
    connection.exec("PRAGMA busy_timeout = 0")
    return new Sqlite(connection)
  } catch (cause) {
    return fail("DATABASE_OPEN", `the database cannot be opened: ${(cause as Error).message}`, {
      cause,
      file: path,
      hint: "choose another file with --database, in a folder that you may write to",
    })
  }
}

import pg from "pg"
import { fail } from "../errors.ts"
import { type Cell, type Database, Listeners, type Queries, type Row } from "./database.ts"

const channel = "aquatint"
/** Any number that nothing else in the database locks. */
const lock = 7_160_322

const dialect = (text: string): string =>
  text
    .replaceAll("{now}", "(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    .replaceAll("{skip}", "FOR UPDATE SKIP LOCKED")
    .replaceAll("{serial}", `SELECT pg_advisory_xact_lock(${lock})`)

/** 64-bit integers as numbers: times and counts stay below 2^53. */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    oid === pg.types.builtins.INT8
      ? Number
      : pg.types.getTypeParser(oid, format as "text")) as typeof pg.types.getTypeParser,
}

const transient = new Set(["40001", "40P01"])

class Postgres implements Database {
  readonly engine = "postgres"
  private readonly pool: pg.Pool
  private readonly listeners = new Listeners()
  private ear: Promise<pg.Client> | undefined
  private closed = false

  constructor(pool: pg.Pool) {
    this.pool = pool
    // an idle connection that breaks is replaced when it is next needed
    pool.on("error", () => {})
  }

  async query(text: string, values: readonly Cell[] = []): Promise<Row[]> {
    const { rows } = await this.pool.query(dialect(text), [...values])
    return rows as Row[]
  }

  async transaction<T>(work: (q: Queries) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.once(work)
      } catch (error) {
        if (tries === 5 || !transient.has((error as { code?: string }).code ?? "")) throw error
      }
    }
  }

  private async once<T>(work: (q: Queries) => Promise<T>): Promise<T> {
    const client = await this.pool.connect()
    let broken: Error | undefined
    try {
      await client.query("BEGIN")
      const result = await work({
        query: async (text, values = []) => (await client.query(dialect(text), [...values])).rows as Row[],
      })
      await client.query("COMMIT")
      return result
    } catch (error) {
      await client.query("ROLLBACK").catch((e: Error) => {
        broken = e
      })
      throw error
    } finally {
      client.release(broken)
    }
  }

  async notify(message: string): Promise<void> {
    await this.pool.query("SELECT pg_notify($1, $2)", [channel, message])
  }

  listen(heard: (message: string) => void): () => void {
    this.ear ??= this.attach()
    this.ear.catch(() => {})
    return this.listeners.add(heard)
  }

  hear(message: string): void {
    this.listeners.tell(message)
  }

  /** A connection of its own that listens, and is made again when it breaks. */
  private async attach(): Promise<pg.Client> {
    const client = new pg.Client({ ...this.pool.options, types, keepAlive: true })
    const again = () => {
      if (this.closed) return
      setTimeout(() => {
        if (this.closed) return
        this.ear = this.attach()
        this.ear.catch(() => {})
      }, 1000).unref()
    }
    client.on("notification", ({ payload }) => this.listeners.tell(payload ?? ""))
    client.once("end", again)
    client.on("error", () => {})
    try {
      await client.connect()
      await client.query(`LISTEN ${channel}`)
    } catch (error) {
      await client.end().catch(() => {})
      throw error
    }
    // what was said while nobody listened is found by asking again
    this.listeners.tell("again")
    return client
  }

  async close(): Promise<void> {
    this.closed = true
    const ear = await this.ear?.catch(() => null)
    await ear?.end()
    await this.pool.end()
  }
}

/** A shared database for several machines. @throws DATABASE_OPEN */
export async function openPostgres(url: string): Promise<Database> {
  const pool = new pg.Pool({
    connectionString: url,
    types,
    max: 8,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    application_name: "aquatint",
  })
  try {
    await pool.query("SELECT 1")
    return new Postgres(pool)
  } catch (cause) {
    await pool.end().catch(() => {})
    // the address holds a password and is not repeated
    return fail("DATABASE_OPEN", `the PostgreSQL database cannot be reached: ${(cause as Error).message}`, {
      cause,
      blame: "here",
      hint: "check --database postgres://user:password@host/database",
    })
  }
}

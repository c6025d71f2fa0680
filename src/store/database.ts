import { fail } from "../errors.ts"

/** A value that both engines store and give back alike; JSON is kept as text. */
export type Cell = string | number | null
export type Row = Record<string, Cell>

/**
 * One SQL text for two engines. Texts are PostgreSQL's with `$1` parameters; `{now}` is the database's clock in
 * milliseconds, `{skip}` passes over rows that another worker is about to take, `{serial}` lets one transaction at a
 * time go on.
 */
export interface Queries {
  query(text: string, values?: readonly Cell[]): Promise<Row[]>
}

export interface Database extends Queries {
  readonly engine: "sqlite" | "postgres"
  /** All or nothing; on disk when the promise resolves. */
  transaction<T>(work: (q: Queries) => Promise<T>): Promise<T>
  /** Tells everyone who listens, in this process and, on PostgreSQL, on every machine. */
  notify(message: string): Promise<void>
  listen(heard: (message: string) => void): () => void
  /** Hands on what a process that shares the file said. */
  hear(message: string): void
  close(): Promise<void>
}

/**
 * Opens the database that a name stands for: `postgres://...`, or the path of an SQLite file, which is made where it
 * is missing.
 * @throws DATABASE_URL, DATABASE_OPEN
 */
export async function openDatabase(name: string): Promise<Database> {
  if (/^postgres(ql)?:\/\//.test(name)) {
    const { openPostgres } = await import("./postgres.ts")
    return openPostgres(name)
  }
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(name))
    fail("DATABASE_URL", `${name.split(":")[0]} is no database that is known here`, {
      hint: "give the path of an SQLite file, or postgres://user:password@host/database",
    })
  const { openSqlite } = await import("./sqlite.ts")
  return openSqlite(name)
}

/** Calls whoever listens in this process. */
export class Listeners {
  private readonly all = new Set<(message: string) => void>()

  add(heard: (message: string) => void): () => void {
    this.all.add(heard)
    return () => this.all.delete(heard)
  }

  tell(message: string): void {
    for (const heard of this.all) heard(message)
  }
}

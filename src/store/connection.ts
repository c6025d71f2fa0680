import type { Cell, Row } from "./database.ts"

/** One connection to an SQLite file; statements run in the order in which they were given. */
export interface Connection {
  /** Runs SQLite's own text, with what it finds. */
  all(text: string, values: readonly Cell[]): Promise<Row[]>
  close(): Promise<void>
}

/** What node:sqlite and libsql have in common. */
interface Binding {
  exec(text: string): unknown
  prepare(text: string): { all(...values: Cell[]): unknown[] }
  close(): unknown
}

/** node:sqlite where Node has it, otherwise libsql, which comes prebuilt. */
async function bind(path: string): Promise<Binding> {
  const builtin = "node:sqlite"
  const own = (await import(builtin).catch(() => null)) as {
    DatabaseSync: new (path: string) => Binding
  } | null
  if (own) return new own.DatabaseSync(path)
  const { default: Libsql } = await import("libsql")
  return new Libsql(path) as unknown as Binding
}

const remembered = 200

/** A connection in this thread, which waits for the disk with every commit. */
export async function connectHere(path: string): Promise<Connection> {
  const binding = await bind(path)
  binding.exec("PRAGMA busy_timeout = 5000")
  binding.exec("PRAGMA journal_mode = WAL")
  binding.exec("PRAGMA synchronous = FULL")
  binding.exec("PRAGMA busy_timeout = 0")
  const statements = new Map<string, ReturnType<Binding["prepare"]>>()
  const prepared = (text: string) => {
    const known = statements.get(text)
    if (known) return known
    const made = binding.prepare(text)
    if (statements.size < remembered) statements.set(text, made)
    return made
  }
  return {
    // node:sqlite gives rows without a prototype, libsql plain ones
    all: async (text, values) =>
      prepared(text)
        .all(...values)
        .map((row) => ({ ...(row as Row) })),
    close: async () => {
      statements.clear()
      binding.close()
    },
  }
}

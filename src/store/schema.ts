import { fail } from "../errors.ts"
import type { Database, Queries } from "./database.ts"

/** Version `i + 1` is reached by running step `i`. Steps are never edited, only added. */
const steps: readonly (readonly string[])[] = [
  [
    `CREATE TABLE jobs (
      id TEXT PRIMARY KEY, owner TEXT NOT NULL, client TEXT NOT NULL, source TEXT NOT NULL, grouping_word TEXT,
      idempotency_key TEXT, fingerprint TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'poisoned')),
      priority BIGINT NOT NULL, turn BIGINT NOT NULL, place BIGINT NOT NULL,
      model TEXT NOT NULL, request TEXT NOT NULL,
      attempts BIGINT NOT NULL DEFAULT 0, deaths BIGINT NOT NULL DEFAULT 0,
      worker TEXT, lease BIGINT, progress TEXT, preview TEXT, error TEXT,
      created BIGINT NOT NULL, started BIGINT, finished BIGINT, updated BIGINT NOT NULL, version BIGINT NOT NULL)`,
    "CREATE UNIQUE INDEX jobs_key ON jobs (owner, idempotency_key)",
    "CREATE INDEX jobs_order ON jobs (state, priority, turn, place)",
    "CREATE INDEX jobs_owner ON jobs (owner, created)",
    "CREATE INDEX jobs_client ON jobs (client, turn)",
    "CREATE INDEX jobs_updated ON jobs (updated)",
    `CREATE TABLE images (
      id TEXT PRIMARY KEY, job TEXT NOT NULL, number BIGINT NOT NULL, owner TEXT NOT NULL,
      file TEXT NOT NULL, thumbnail TEXT NOT NULL, format TEXT NOT NULL,
      width BIGINT NOT NULL, height BIGINT NOT NULL, bytes BIGINT NOT NULL, sha256 TEXT NOT NULL,
      seed BIGINT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL, negative TEXT NOT NULL,
      infotext TEXT NOT NULL, request TEXT NOT NULL, search TEXT NOT NULL,
      created BIGINT NOT NULL, deleted BIGINT)`,
    "CREATE UNIQUE INDEX images_job ON images (job, number)",
    "CREATE UNIQUE INDEX images_file ON images (file)",
    "CREATE INDEX images_owner ON images (owner, created)",
    `CREATE TABLE uploads (
      id TEXT PRIMARY KEY, owner TEXT NOT NULL, file TEXT NOT NULL, format TEXT NOT NULL,
      width BIGINT NOT NULL, height BIGINT NOT NULL, bytes BIGINT NOT NULL, sha256 TEXT NOT NULL,
      created BIGINT NOT NULL)`,
    "CREATE UNIQUE INDEX uploads_same ON uploads (owner, sha256)",
    "CREATE TABLE inputs (job TEXT NOT NULL, upload TEXT NOT NULL, PRIMARY KEY (job, upload))",
    "CREATE INDEX inputs_upload ON inputs (upload)",
    "CREATE TABLE models (id TEXT PRIMARY KEY, crashes BIGINT NOT NULL, until BIGINT)",
  ],
]

async function versionOf(q: Queries): Promise<number> {
  await q.query("CREATE TABLE IF NOT EXISTS aquatint (version BIGINT NOT NULL)")
  const [row] = await q.query("SELECT max(version) AS version FROM aquatint")
  return Number(row?.version ?? 0)
}

/** Brings a database to this program's tables. @throws DATABASE_VERSION for a newer program's */
export async function migrate(db: Database): Promise<void> {
  await db.transaction(async (q) => {
    await q.query("{serial}")
    const version = await versionOf(q)
    if (version > steps.length)
      fail("DATABASE_VERSION", `the database has version ${version}, this program knows ${steps.length}`, {
        hint: "use the newer aquatint that made it, or another --database",
      })
    for (const [i, texts] of steps.entries()) {
      if (i < version) continue
      for (const text of texts) await q.query(text)
      await q.query("INSERT INTO aquatint (version) VALUES ($1)", [i + 1])
    }
  })
}

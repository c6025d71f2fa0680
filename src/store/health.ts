import type { Database } from "./database.ts"

/** A model that ended its process too often in a row. */
export interface SetAside {
  model: string
  crashes: number
  /** Milliseconds since 1970 by the database's clock: then it is tried once more. */
  until: number
}

/** Counts one more crash; the third in a row, and each after it, sets the model aside for `pause` milliseconds. */
export async function modelCrashed(db: Database, model: string, limit: number, pause: number): Promise<void> {
  await db.query(
    `INSERT INTO models (id, crashes, until) VALUES ($1, 1, CASE WHEN CAST($2 AS BIGINT) <= 1 THEN {now} + $3 END)
     ON CONFLICT (id) DO UPDATE SET crashes = models.crashes + 1,
       until = CASE WHEN models.crashes + 1 >= CAST($2 AS BIGINT) THEN {now} + $3 END`,
    [model, limit, pause],
  )
}

/** It drew a picture, or somebody wants it back: nothing is held against it. */
export async function modelWorks(db: Database, model: string): Promise<void> {
  await db.query("DELETE FROM models WHERE id = $1", [model])
}

/** Models that are set aside now. */
export async function modelsSetAside(db: Database): Promise<Map<string, SetAside>> {
  const rows = await db.query("SELECT id, crashes, until FROM models WHERE until > {now}")
  return new Map(
    rows.map((row) => [
      String(row.id),
      { model: String(row.id), crashes: Number(row.crashes), until: Number(row.until) },
    ]),
  )
}

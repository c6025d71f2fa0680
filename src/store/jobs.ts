import type { Cell, Database } from "./database.ts"
import { columns, type Job, type JobState, jobOf } from "./job.ts"

export interface JobQuery {
  owner: string
  states?: readonly JobState[] | undefined
  group?: string | undefined
  limit: number
  /** What the page before ended with. */
  after?: string | undefined
}

/** A job, or null when there is none or it is somebody else's. Without an owner: anybody's. */
export async function findJob(db: Database, id: string, owner?: string): Promise<Job | null> {
  const [row] = await db.query(
    `SELECT ${columns} FROM jobs j WHERE j.id = $1 AND ($2 = '' OR j.owner = $2)`,
    [id, owner ?? ""],
  )
  return row ? jobOf(row) : null
}

/** These jobs, whoever's they are. */
export async function jobsByIds(db: Database, ids: readonly string[]): Promise<Job[]> {
  const found: Job[] = []
  for (let at = 0; at < ids.length; at += 200) {
    const part = ids.slice(at, at + 200)
    const names = part.map((_, i) => `$${i + 1}`).join(", ")
    const rows = await db.query(`SELECT ${columns} FROM jobs j WHERE j.id IN (${names})`, part)
    found.push(...rows.map(jobOf))
  }
  return found
}

/** The small picture of a running job's last estimate: base64 of a PNG. */
export async function findPreview(db: Database, id: string): Promise<string | null> {
  const [row] = await db.query("SELECT preview FROM jobs WHERE id = $1", [id])
  return (row?.preview as string | null | undefined) ?? null
}

const rank = "CASE j.state WHEN 'running' THEN 0 WHEN 'queued' THEN 1 ELSE 2 END"

/** Jobs of an owner: those that run, those that wait in their order, then the others, newest first. */
export async function listJobs(db: Database, query: JobQuery): Promise<{ jobs: Job[]; next: string | null }> {
  const values: Cell[] = [query.owner]
  const where = ["j.owner = $1"]
  const bind = (value: Cell) => `$${values.push(value)}`
  if (query.states) where.push(`j.state IN (${query.states.map(bind).join(", ") || "''"})`)
  if (query.group !== undefined) where.push(`j.grouping_word = ${bind(query.group)}`)
  const skip = query.after === undefined ? 0 : Number.parseInt(query.after, 36) || 0
  const rows = await db.query(
    `SELECT ${columns} FROM jobs j WHERE ${where.join(" AND ")}
     ORDER BY ${rank}, CASE WHEN j.state = 'queued' THEN -j.priority ELSE 0 END,
       CASE WHEN j.state = 'queued' THEN j.turn ELSE 0 END, CASE WHEN j.state = 'queued' THEN j.place ELSE 0 END,
       j.created DESC, j.id DESC
     LIMIT ${bind(query.limit + 1)} OFFSET ${bind(skip)}`,
    values,
  )
  const jobs = rows.slice(0, query.limit).map(jobOf)
  return { jobs, next: rows.length > query.limit ? (skip + query.limit).toString(36) : null }
}

/**
 * Cancels a job that waits or runs; the worker that runs it finds out at its next step.
 * @returns the job as it is now, or null when there is none or it is somebody else's
 */
export async function cancelJob(db: Database, id: string, owner?: string): Promise<Job | null> {
  const rows = await db.query(
    `UPDATE jobs SET state = 'cancelled', worker = NULL, lease = NULL, preview = NULL, finished = {now},
       updated = {now}, version = version + 1
     WHERE id = $1 AND ($2 = '' OR owner = $2) AND state IN ('queued', 'running') RETURNING id`,
    [id, owner ?? ""],
  )
  if (rows.length > 0) {
    await db.notify(`cancel ${id}`)
    await db.notify(`job ${id}`)
  }
  return findJob(db, id, owner)
}

/** How many jobs there are in each state. */
export async function countJobs(db: Database): Promise<Record<JobState, number>> {
  const counts: Record<JobState, number> = {
    queued: 0,
    running: 0,
    done: 0,
    failed: 0,
    cancelled: 0,
    poisoned: 0,
  }
  for (const row of await db.query("SELECT state, count(*) AS n FROM jobs GROUP BY state"))
    counts[row.state as JobState] = Number(row.n)
  return counts
}

/** Jobs that changed since this moment of the database's clock, and the moment now. */
export async function changedSince(
  db: Database,
  since: number,
): Promise<{ jobs: { id: string; version: number }[]; now: number }> {
  const [clock] = await db.query("SELECT {now} AS now")
  const rows = await db.query("SELECT id, version FROM jobs WHERE updated >= $1", [since])
  return {
    jobs: rows.map((row) => ({ id: String(row.id), version: Number(row.version) })),
    now: Number(clock!.now),
  }
}

/** Forgets jobs that are over, made no picture that is still there, and are older than this many milliseconds. */
export async function forgetJobs(db: Database, age: number): Promise<void> {
  await db.transaction(async (q) => {
    const old = `SELECT j.id FROM jobs j WHERE j.state NOT IN ('queued', 'running') AND j.finished < {now} - $1
      AND NOT EXISTS (SELECT 1 FROM images i WHERE i.job = j.id)`
    await q.query(`DELETE FROM inputs WHERE job IN (${old})`, [age])
    await q.query(`DELETE FROM jobs WHERE id IN (${old})`, [age])
  })
}

import { fail } from "../errors.ts"
import type { Database, Queries, Row } from "./database.ts"
import { newId } from "./ids.ts"
import { columns, type Job, jobOf, type NewJob } from "./job.ts"

export interface QueueLimits {
  /** Jobs that may wait in all. */
  total: number
  /** Jobs of one client that may wait. */
  client: number
}

/**
 * Puts a job in the queue; it is on disk when the promise resolves. Clients take turns: a job's turn is the one after
 * its client's last, but never before the turn that is being served (start-time fair queueing, Goyal et al. 1996, with
 * every job of cost 1).
 * @returns the job, and whether it is new (a repeated key gives the first one's)
 * @throws QUEUE_FULL with `details.retryAfter` in seconds, IDEMPOTENCY_KEY
 */
export async function enqueue(
  db: Database,
  job: NewJob,
  limits: QueueLimits,
): Promise<{ job: Job; fresh: boolean }> {
  const id = newId()
  const known = await db.transaction(async (q) => {
    await q.query("{serial}")
    const first = await repeated(q, job)
    if (first) return first
    await refuseFull(q, job, limits)
    await insert(q, id, job)
    return null
  })
  const row = await one(db, known ?? id)
  if (known === null) await db.notify("queued")
  return { job: row, fresh: known === null }
}

async function repeated(q: Queries, { owner, key, fingerprint }: NewJob): Promise<string | null> {
  if (key == null) return null
  const [row] = await q.query("SELECT id, fingerprint FROM jobs WHERE owner = $1 AND idempotency_key = $2", [
    owner,
    key,
  ])
  if (!row) return null
  if (row.fingerprint !== fingerprint)
    fail("IDEMPOTENCY_KEY", "this Idempotency-Key came with another request before", {
      hint: "use a new key for a new request",
    })
  return String(row.id)
}

/** Refuses a client's job where the queue has no room for it. @throws QUEUE_FULL with `details.retryAfter` in seconds */
export async function refuseFull(
  q: Queries,
  { client }: Pick<NewJob, "client">,
  limits: QueueLimits,
): Promise<void> {
  const [row] = await q.query(
    `SELECT count(*) AS total, coalesce(sum(CASE WHEN client = $1 THEN 1 ELSE 0 END), 0) AS own
     FROM jobs WHERE state = 'queued'`,
    [client],
  )
  const full = Number(row!.total) >= limits.total ? "the queue" : "your share of the queue"
  if (Number(row!.total) < limits.total && Number(row!.own) < limits.client) return
  const [past] = await q.query(
    `SELECT avg(finished - started) AS mean FROM
     (SELECT finished, started FROM jobs WHERE state = 'done' ORDER BY updated DESC LIMIT 20) AS last`,
  )
  const seconds = Math.min(600, Math.max(1, Math.ceil(Number(past?.mean ?? 0) / 1000)))
  fail("QUEUE_FULL", `${full} is full: ${row!.total} jobs wait`, {
    hint: `try again in ${seconds} s`,
    details: { retryAfter: seconds },
  })
}

async function insert(q: Queries, id: string, job: NewJob): Promise<void> {
  const priority = job.priority ?? 0
  await q.query(
    `INSERT INTO jobs (id, owner, client, source, grouping_word, idempotency_key, fingerprint, state, priority, turn,
       place, model, request, created, updated, version)
     SELECT $1, $2, $3, $4, $5, $6, $7, 'queued', CAST($8 AS BIGINT),
       CASE WHEN t.served > t.own THEN t.served ELSE t.own END, t.place, $9, $10, {now}, {now}, 1
     FROM (SELECT
       coalesce((SELECT min(turn) FROM jobs WHERE state = 'queued'), (SELECT max(turn) FROM jobs WHERE state = 'running'),
         0) AS served,
       coalesce((SELECT max(turn) + 1 FROM jobs WHERE client = $3), 0) AS own,
       coalesce((SELECT max(place) + 1 FROM jobs), 1) AS place) AS t`,
    [
      id,
      job.owner,
      job.client,
      job.source,
      job.group ?? null,
      job.key ?? null,
      job.fingerprint,
      priority,
      job.model,
      JSON.stringify(job.request),
    ],
  )
  for (const upload of new Set(job.inputs))
    await q.query("INSERT INTO inputs (job, upload) VALUES ($1, $2)", [id, upload])
}

async function one(db: Queries, id: string): Promise<Job> {
  const [row] = await db.query(`SELECT ${columns} FROM jobs j WHERE j.id = $1`, [id])
  return jobOf(row!)
}

/** Where a job goes among its owner's own waiting jobs of the same priority. */
export type Move = { before: string } | { to: "first" | "last" }

/**
 * Moves a waiting job among its owner's own; the places that the owner's jobs hold stay the same, so nobody else waits
 * longer. @returns false when it does not wait, or `before` is none of them
 */
export async function move(db: Database, owner: string, id: string, where: Move): Promise<boolean> {
  const moved = await db.transaction(async (q) => {
    await q.query("{serial}")
    const rows = await q.query(
      `SELECT id, turn, place FROM jobs WHERE state = 'queued' AND owner = $1
       AND priority = (SELECT priority FROM jobs WHERE id = $2) ORDER BY turn, place`,
      [owner, id],
    )
    const order = reordered(
      rows.map((row) => String(row.id)),
      id,
      where,
    )
    if (!order) return false
    await assign(q, rows, order)
    return true
  })
  if (moved) await db.notify("again")
  return moved
}

function reordered(ids: readonly string[], id: string, where: Move): string[] | null {
  if (!ids.includes(id)) return null
  const rest = ids.filter((other) => other !== id)
  const at = "before" in where ? rest.indexOf(where.before) : where.to === "first" ? 0 : rest.length
  return at < 0 ? null : rest.toSpliced(at, 0, id)
}

async function assign(q: Queries, slots: readonly Row[], order: readonly string[]): Promise<void> {
  for (const [i, id] of order.entries()) {
    if (slots[i]!.id === id) continue
    await q.query(
      `UPDATE jobs SET turn = $2, place = $3, updated = {now}, version = version + 1
       WHERE id = $1 AND state = 'queued'`,
      [id, slots[i]!.turn!, slots[i]!.place!],
    )
  }
}

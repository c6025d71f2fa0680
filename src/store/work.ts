import type { Database, Queries } from "./database.ts"
import { newId } from "./ids.ts"
import { columns, type Job, type JobError, type JobProgress, jobOf } from "./job.ts"

/** Proof that a worker holds a job: a job that was begun again has another attempt number. */
export interface Hold {
  readonly id: string
  readonly attempt: number
  readonly worker: string
}

/** A picture that a job made; its files are on disk already. */
export interface NewImage {
  number: number
  file: string
  thumbnail: string
  format: string
  width: number
  height: number
  bytes: number
  sha256: string
  seed: number
  infotext: string
}

export interface Claim {
  worker: string
  /** Milliseconds for which the job is held without a sign of life. */
  lease: number
  /** Models that this worker can draw with. */
  models: readonly string[]
  /** The model in memory: it goes first among jobs whose turn is the same. */
  resident?: string | null
}

const held = "id = $1 AND state = 'running' AND attempts = $2 AND worker = $3"
const holder = ({ id, attempt, worker }: Hold) => [id, attempt, worker]

/** Takes the next job, or null when none waits for these models. No two workers get the same one. */
export async function claim(db: Database, { worker, lease, models, resident }: Claim): Promise<Job | null> {
  if (models.length === 0) return null
  const names = models.map((_, i) => `$${i + 4}`).join(", ")
  const rows = await db.query(
    `UPDATE jobs SET state = 'running', attempts = attempts + 1, worker = $1, lease = {now} + $2,
       started = {now}, updated = {now}, version = version + 1, progress = NULL, preview = NULL
     WHERE id = (SELECT id FROM jobs WHERE state = 'queued' AND model IN (${names})
       ORDER BY priority DESC, turn, CASE WHEN model = $3 THEN 0 ELSE 1 END, place LIMIT 1 {skip})
     AND state = 'queued' RETURNING id`,
    [worker, lease, resident ?? "", ...models],
  )
  if (!rows[0]) return null
  const [row] = await db.query(`SELECT ${columns} FROM jobs j WHERE j.id = $1`, [rows[0].id!])
  const job = jobOf(row!)
  await db.notify(`job ${job.id}`)
  return job
}

/** A sign of life, with where the job stands. @returns false when the job is no longer this worker's: leave it. */
export async function note(
  db: Database,
  hold: Hold,
  lease: number,
  progress: JobProgress | null,
  preview: string | null,
): Promise<boolean> {
  const rows = await db.query(
    `UPDATE jobs SET lease = {now} + $4, progress = coalesce($5, progress), preview = coalesce($6, preview),
       updated = {now}, version = version + 1 WHERE ${held} RETURNING id`,
    [...holder(hold), lease, progress && JSON.stringify(progress), preview],
  )
  if (rows.length > 0) await db.notify(`job ${hold.id}`)
  return rows.length > 0
}

/** Whether the job is still this worker's. */
export async function holds(db: Queries, hold: Hold): Promise<boolean> {
  return (await db.query(`SELECT id FROM jobs WHERE ${held}`, holder(hold))).length > 0
}

/** The job and its pictures, in one step. @returns false when the job was no longer this worker's */
export async function finish(
  db: Database,
  hold: Hold,
  job: Job,
  images: readonly NewImage[],
): Promise<boolean> {
  const done = await db.transaction(async (q) => {
    const rows = await q.query(
      `UPDATE jobs SET state = 'done', worker = NULL, lease = NULL, preview = NULL, finished = {now},
         updated = {now}, version = version + 1 WHERE ${held} RETURNING id`,
      holder(hold),
    )
    if (rows.length === 0) return false
    for (const image of images) await insertImage(q, job, image)
    return true
  })
  if (done) await db.notify(`job ${hold.id}`)
  return done
}

async function insertImage(q: Queries, job: Job, image: NewImage): Promise<void> {
  const prompt = String(job.request.prompt ?? "")
  const negative = String(job.request.negative ?? "")
  const request = JSON.stringify({ ...job.request, seed: image.seed, count: 1 })
  const search = searchable([prompt, negative, job.model, String(image.seed)].join("\n"))
  await q.query(
    `INSERT INTO images (id, job, number, owner, file, thumbnail, format, width, height, bytes, sha256, seed, model,
       prompt, negative, infotext, request, search, created)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, {now})`,
    [
      newId(),
      job.id,
      image.number,
      job.owner,
      image.file,
      image.thumbnail,
      image.format,
      image.width,
      image.height,
      image.bytes,
      image.sha256,
      image.seed,
      job.model,
      prompt,
      negative,
      image.infotext,
      request,
      search,
    ],
  )
}

/** Text as it is searched: one case, one form of each letter. */
export const searchable = (text: string): string => text.normalize("NFKC").toLowerCase()

/** The job cannot be done. @returns false when it was no longer this worker's */
export async function failJob(db: Database, hold: Hold, error: JobError): Promise<boolean> {
  const rows = await db.query(
    `UPDATE jobs SET state = 'failed', worker = NULL, lease = NULL, preview = NULL, error = $4, finished = {now},
       updated = {now}, version = version + 1 WHERE ${held} RETURNING id`,
    [...holder(hold), JSON.stringify(error)],
  )
  if (rows.length > 0) await db.notify(`job ${hold.id}`)
  return rows.length > 0
}

/** Back into the queue, at its old place: a worker that stops in good order. */
export async function giveBack(db: Database, hold: Hold): Promise<void> {
  await db.query(
    `UPDATE jobs SET state = 'queued', worker = NULL, lease = NULL, preview = NULL, progress = NULL,
       updated = {now}, version = version + 1 WHERE ${held}`,
    holder(hold),
  )
  await db.notify("queued")
}

const poisonError: JobError = {
  code: "JOB_POISONED",
  message: "the process that drew it ended every time",
  hint: "ask for a smaller picture, or another model",
}

/** After its process ended under it: into the queue again, or set aside for good after `deaths` of them. */
export async function died(db: Database, id: string, attempt: number, deaths: number): Promise<void> {
  await db.query(
    `UPDATE jobs SET deaths = deaths + 1, worker = NULL, lease = NULL, preview = NULL, progress = NULL,
       state = CASE WHEN deaths + 1 >= $3 THEN 'poisoned' ELSE 'queued' END,
       error = CASE WHEN deaths + 1 >= $3 THEN $4 END,
       finished = CASE WHEN deaths + 1 >= $3 THEN {now} END,
       updated = {now}, version = version + 1
     WHERE id = $1 AND state = 'running' AND attempts = $2`,
    [id, attempt, deaths, JSON.stringify(poisonError)],
  )
  await db.notify(`job ${id}`)
  await db.notify("queued")
}

/**
 * Jobs whose worker is gone go back into the queue: those without a sign of life for a whole lease, and those of
 * workers that `gone` knows to be dead. @returns how many
 */
export async function reclaim(
  db: Database,
  deaths: number,
  gone: (worker: string) => boolean = () => false,
): Promise<number> {
  const rows = await db.query(
    "SELECT id, attempts, worker, CASE WHEN lease < {now} THEN 1 ELSE 0 END AS late FROM jobs WHERE state = 'running'",
  )
  const lost = rows.filter((row) => row.late === 1 || gone(String(row.worker)))
  for (const row of lost) await died(db, String(row.id), Number(row.attempts), deaths)
  return lost.length
}

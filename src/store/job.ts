import type { Row } from "./database.ts"

export const states = ["queued", "running", "done", "failed", "cancelled", "poisoned"] as const
export type JobState = (typeof states)[number]

/** Where a running job stands. */
export interface JobProgress {
  phase: string
  picture: number
  step: number
  steps: number
  /** 0..1 over all pictures. */
  progress: number
  /** Seconds left, a guess. */
  remaining: number | null
}

export interface JobError {
  code: string
  message: string
  hint?: string
}

/** A job as the store gives it. Times in milliseconds since 1970 by the database's clock. */
export interface Job {
  id: string
  /** Whose it is: nobody else sees it. */
  owner: string
  /** Who takes turns with whom; within one owner there can be several. */
  client: string
  /** Which interface it came by. */
  source: string
  group: string | null
  state: JobState
  priority: number
  model: string
  request: Record<string, unknown>
  /** Times it was begun. */
  attempts: number
  /** Times its process ended under it. */
  deaths: number
  worker: string | null
  progress: JobProgress | null
  error: JobError | null
  created: number
  started: number | null
  finished: number | null
  updated: number
  /** Grows with every change. */
  version: number
  /** 1 is next, 0 runs, null is over. */
  position: number | null
}

/** What a new job is made of. */
export interface NewJob {
  owner: string
  client: string
  source: string
  group?: string | null
  priority?: number
  model: string
  request: Record<string, unknown>
  /** Repeats with the same key are the same job. */
  key?: string | null
  /** What must be equal in repeats: a hash of the body. */
  fingerprint: string
  /** Uploads that the request names. */
  inputs?: readonly string[]
}

const ahead = `(SELECT count(*) FROM jobs o WHERE o.state = 'queued' AND (o.priority > j.priority OR
  (o.priority = j.priority AND (o.turn < j.turn OR (o.turn = j.turn AND o.place < j.place)))))`

/** The columns of a job, without its preview. */
export const columns = `j.id, j.owner, j.client, j.source, j.grouping_word, j.state, j.priority, j.model, j.request,
  j.attempts, j.deaths, j.worker, j.progress, j.error, j.created, j.started, j.finished, j.updated, j.version,
  CASE j.state WHEN 'queued' THEN 1 + ${ahead} WHEN 'running' THEN 0 END AS position`

export const parse = <T>(text: Row[string] | undefined): T | null =>
  typeof text === "string" ? (JSON.parse(text) as T) : null

const count = (cell: Row[string] | undefined): number => Number(cell ?? 0)
const countOrNull = (cell: Row[string] | undefined): number | null => (cell == null ? null : Number(cell))

export function jobOf(row: Row): Job {
  return {
    id: String(row.id),
    owner: String(row.owner),
    client: String(row.client),
    source: String(row.source),
    group: row.grouping_word as string | null,
    state: row.state as JobState,
    priority: count(row.priority),
    model: String(row.model),
    request: parse<Record<string, unknown>>(row.request) ?? {},
    attempts: count(row.attempts),
    deaths: count(row.deaths),
    worker: row.worker as string | null,
    progress: parse<JobProgress>(row.progress),
    error: parse<JobError>(row.error),
    created: count(row.created),
    started: countOrNull(row.started),
    finished: countOrNull(row.finished),
    updated: count(row.updated),
    version: count(row.version),
    position: countOrNull(row.position),
  }
}

export const isOver = (state: JobState): boolean => state !== "queued" && state !== "running"

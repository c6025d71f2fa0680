import { type Database, type Image, imagesOf, type Job } from "../store/index.ts"
import type { ImageBody, JobBody } from "./schemas.ts"

/** A picture as clients see it. */
export function imageBodyOf(image: Image): ImageBody {
  const { number, file: _file, thumbnail: _thumbnail, owner: _owner, ...rest } = image
  return {
    ...rest,
    index: number,
    url: `/api/images/${image.id}/file`,
    thumbnail: `/api/images/${image.id}/thumbnail`,
  }
}

/** Where a job stands, as clients see it. */
export function progressOf(job: Job) {
  const { progress } = job
  return {
    phase: progress?.phase ?? null,
    step: progress?.step ?? 0,
    steps: progress?.steps ?? 0,
    picture: progress?.picture ?? 0,
    progress: job.state === "done" ? 1 : (progress?.progress ?? 0),
    remaining: job.state === "running" ? (progress?.remaining ?? null) : null,
  }
}

function jobBodyOf(job: Job, images: readonly Image[]): JobBody {
  return {
    id: job.id,
    state: job.state,
    position: job.position,
    attempts: job.attempts,
    priority: job.priority,
    group: job.group,
    source: job.source,
    created: job.created,
    started: job.started,
    finished: job.finished,
    ...progressOf(job),
    request: job.request,
    images: images.map(imageBodyOf),
    error: job.error,
  }
}

/** Jobs with their pictures. */
export async function jobBodies(db: Database, jobs: readonly Job[]): Promise<JobBody[]> {
  const done = jobs.filter((job) => job.state === "done").map((job) => job.id)
  const images = await imagesOf(db, done)
  return jobs.map((job) => jobBodyOf(job, images.get(job.id) ?? []))
}

import {
  changedSince,
  type Database,
  findPreview,
  isOver,
  type Job,
  jobsByIds,
  listJobs,
  ownerOf,
} from "../store/index.ts"
import { jobBodies, progressOf } from "./bodies.ts"
import type { JobBody } from "./schemas.ts"

export type WatchEvent =
  | { event: "state" | "end"; data: JobBody }
  | { event: "progress"; data: { id: string } & ReturnType<typeof progressOf> }
  | { event: "preview"; data: { id: string; step: number; picture: number; image: string } }
  | { event: "images"; data: { added: string[]; removed: string[] } }

export interface Subscription {
  owner: string
  /** One job, or all of the owner's. */
  id?: string
  /** Previews cost a read each. */
  previews?: boolean
  emit(event: WatchEvent): void
}

/** What a subscriber was last told of a job. */
interface Told {
  state: string
  position: number | null
  progress: string
}

/** Milliseconds after which changes are looked for that nobody announced, and for which announcements are gathered. */
const poll = 500
const gather = 20
/** The database's clock of two machines' writes may interleave; what was seen is told apart by its version. */
const overlap = 2000

/** Follows jobs in the database and tells subscribers; everything told was read from there. */
export class Watch {
  private readonly db: Database
  private readonly told = new Map<Subscription, Map<string, Told>>()
  private versions = new Map<string, number>()
  private since = 0
  private timer: NodeJS.Timeout | undefined
  private soon: NodeJS.Timeout | undefined
  private working: Promise<void> = Promise.resolve()
  private readonly silence: () => void

  constructor(db: Database) {
    this.db = db
    this.silence = db.listen((message) => this.heard(message))
  }

  close(): void {
    this.silence()
    clearInterval(this.timer)
    clearTimeout(this.soon)
    this.told.clear()
  }

  /** Begins to tell; the first events say where things stand. @returns what ends it */
  async subscribe(subscription: Subscription): Promise<() => void> {
    if (this.told.size === 0) await this.begin()
    this.told.set(subscription, new Map())
    this.timer ??= setInterval(() => this.flush(), poll).unref()
    const { owner, id } = subscription
    const jobs =
      id === undefined
        ? (await listJobs(this.db, { owner, states: ["queued", "running"], limit: 500 })).jobs
        : await jobsByIds(this.db, [id])
    await this.tell(jobs, [subscription])
    return () => {
      this.told.delete(subscription)
      if (this.told.size > 0) return
      clearInterval(this.timer)
      this.timer = undefined
      this.versions.clear()
    }
  }

  /** What changed before anybody asked is no news. */
  private async begin(): Promise<void> {
    const { now } = await changedSince(this.db, Number.MAX_SAFE_INTEGER)
    const { jobs } = await changedSince(this.db, now - overlap)
    this.since = now
    this.versions = new Map(jobs.map(({ id, version }) => [id, version]))
  }

  private heard(message: string): void {
    if (this.told.size === 0) return
    if (message.startsWith("image ")) void this.imageChanged(message.slice(6)).catch(() => {})
    else this.soon ??= setTimeout(() => this.flush(), gather)
  }

  private async imageChanged(id: string): Promise<void> {
    const found = await ownerOf(this.db, id)
    for (const subscription of this.told.keys())
      if (found && subscription.id === undefined && subscription.owner === found.owner)
        subscription.emit({
          event: "images",
          data: found.deleted ? { added: [], removed: [id] } : { added: [id], removed: [] },
        })
  }

  private flush(): void {
    clearTimeout(this.soon)
    this.soon = undefined
    // one after the other, so that nobody is told an older state after a newer one
    this.working = this.working.then(() => this.look()).catch(() => {})
  }

  private async look(): Promise<void> {
    if (this.told.size === 0) return
    const { jobs, now } = await changedSince(this.db, this.since - overlap)
    this.since = now
    const fresh = jobs.filter(({ id, version }) => this.versions.get(id) !== version)
    if (fresh.length === 0) return
    this.versions = new Map(jobs.map(({ id, version }) => [id, version]))
    const changed = await jobsByIds(
      this.db,
      fresh.map(({ id }) => id),
    )
    const all = new Map(changed.map((job) => [job.id, job]))
    // one job's end moves the others up
    for (const owner of new Set([...this.told.keys()].map((s) => s.owner)))
      for (const job of (await listJobs(this.db, { owner, states: ["queued"], limit: 500 })).jobs)
        if (!all.has(job.id)) all.set(job.id, job)
    await this.tell([...all.values()], [...this.told.keys()])
  }

  private async tell(jobs: readonly Job[], subscriptions: readonly Subscription[]): Promise<void> {
    const wanted = (job: Job) =>
      subscriptions.filter((s) => s.owner === job.owner && (s.id === undefined || s.id === job.id))
    const interesting = jobs.filter((job) => wanted(job).length > 0)
    const bodies = await jobBodies(this.db, interesting)
    for (const [i, job] of interesting.entries()) {
      const to = wanted(job)
      const preview =
        job.state === "running" && job.progress && to.some((s) => s.previews)
          ? await findPreview(this.db, job.id)
          : null
      for (const subscription of to) this.inform(subscription, job, bodies[i]!, preview)
    }
  }

  private inform(subscription: Subscription, job: Job, body: JobBody, preview: string | null): void {
    const told = this.told.get(subscription)
    if (!told) return
    const before = told.get(job.id)
    const progress = job.progress ? JSON.stringify(job.progress) : ""
    // what is over stays over, and is told once
    if (before && isOver(before.state as Job["state"])) return
    told.set(job.id, { state: job.state, position: job.position, progress })
    if (before?.state !== job.state || before.position !== job.position)
      subscription.emit({ event: "state", data: body })
    if (job.state === "running" && progress !== "" && before?.progress !== progress) {
      subscription.emit({ event: "progress", data: { id: job.id, ...progressOf(job) } })
      if (preview && subscription.previews)
        subscription.emit({ event: "preview", data: previewOf(job, preview) })
    }
    if (!isOver(job.state)) return
    if (subscription.id !== undefined) subscription.emit({ event: "end", data: body })
    else if (body.images.length > 0)
      subscription.emit({
        event: "images",
        data: { added: body.images.map((image) => image.id), removed: [] },
      })
  }
}

const previewOf = (job: Job, image: string) => ({
  id: job.id,
  step: job.progress!.step,
  picture: job.progress!.picture,
  image: `data:image/png;base64,${image}`,
})

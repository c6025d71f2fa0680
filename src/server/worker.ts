import {
  AquatintError,
  encodeImage,
  type GenerateRequest,
  type GenerateResult,
  type Generation,
} from "../index.ts"
import {
  claim,
  type Database,
  died,
  type Files,
  failJob,
  finish,
  giveBack,
  type Hold,
  holds,
  type Job,
  type JobProgress,
  modelCrashed,
  modelsSetAside,
  modelWorks,
  type NewImage,
  note,
  pass,
  reclaim,
} from "../store/index.ts"
import { enlargeJob, noModel } from "./chores.ts"
import { askOf, discard, store } from "./draw.ts"
import type { Keeper, Resident } from "./keeper.ts"
import type { Log } from "./log.ts"
import type { KnownModel, Models } from "./models.ts"
import { isStudy, StudySteps, studyFile, studyOf } from "./study.ts"
import { Enlargers } from "./upscale.ts"

export interface WorkerOptions {
  /** Unique among all workers of the database. */
  name: string
  db: Database
  files: Files
  models: Models
  keeper: Keeper
  log: Log
  /** Milliseconds without a sign of life after which others take the job. */
  lease: number
  /** Deaths of its process after which a job is poisoned, and crashes in a row that set a model aside. */
  deaths: number
  /** Milliseconds for which a model is set aside. */
  pause: number
  /** Load models before the first job. */
  warm?: boolean
  /** Whether the worker of this name is known to be dead. */
  gone?: (worker: string) => boolean
}

/** Milliseconds between looks at the queue where nothing calls, and at a running job for a cancellation. */
const idle = 1000
const watch = 300
/** Least milliseconds between two notes of progress; each is a write to the disk. */
const pace = 250
/** A step may take this many times as long as the longest so far, and at least so many milliseconds. */
const patience = 10
const leastPatience = 120_000
const firstPatience = 900_000

/** Why a generation was stopped. */
type Stop = "lost" | "stopping" | "hung"

/** Takes jobs from the queue one after the other and draws them. */
export class Worker {
  private readonly options: WorkerOptions
  private stopping = false
  private wake: () => void = () => {}
  private current: { job: Job; hold: Hold; abort: (why: Stop) => void } | null = null
  private ended: Promise<void> = Promise.resolve()
  private silence: () => void = () => {}
  private readonly warming = new AbortController()
  private readonly enlargers: Enlargers

  constructor(options: WorkerOptions) {
    this.options = options
    this.enlargers = new Enlargers((id) => options.models.upscalers.get(id).path)
  }

  /** Begins to work, until `stop`. */
  start(): void {
    const { models, log } = this.options
    this.silence = this.options.db.listen((message) => {
      if (message === "queued" || message === "again") this.wake()
      if (message === "unload" && !this.current) void this.unload()
      if (message === "models")
        void models
          .refresh()
          .then(() => this.wake())
          .catch((error: Error) => log.warn("the models could not be read again", { reason: error.message }))
      if (this.current && message === `cancel ${this.current.job.id}`) this.current.abort("lost")
    })
    this.ended = this.loop()
  }

  /** Looks at the queue now. */
  call(): void {
    this.wake()
  }

  /** Stops; the job under way goes back into the queue. Returns within a few seconds. */
  async stop(): Promise<void> {
    this.stopping = true
    this.warming.abort()
    this.silence()
    this.wake()
    this.current?.abort("stopping")
    // a step of a large model takes longer than a stop may
    const impatient = setTimeout(() => void this.unload(), 3000)
    await this.ended
    clearTimeout(impatient)
    await this.unload()
  }

  /** Gives all memory back; what is being drawn fails. */
  private async unload(): Promise<void> {
    await this.options.keeper.close()
    await this.enlargers.close()
  }

  private async loop(): Promise<void> {
    const { db, log, deaths, gone } = this.options
    let looked = 0
    if (this.options.warm) await this.warm()
    while (!this.stopping) {
      try {
        // again and again: other machines' workers may have died since
        if (Date.now() - looked > idle) {
          const back = await reclaim(db, deaths, gone)
          if (back > 0) log.warn("jobs of workers that are gone wait again", { jobs: back })
          looked = Date.now()
        }
        if (!(await this.next())) await this.rest()
      } catch (error) {
        // the database is away: nothing is lost, it is asked again
        log.error("the worker could not work", { reason: (error as Error).message })
        await this.rest()
      }
    }
  }

  private async warm(): Promise<void> {
    const { keeper, models, log } = this.options
    const began = performance.now()
    const ready = await keeper.warm(models.all, this.warming.signal)
    log.info("models are warm", { models: ready.join(" "), seconds: (performance.now() - began) / 1000 })
  }

  private async rest(): Promise<void> {
    if (this.stopping) return
    await new Promise<void>((done) => {
      const timer = setTimeout(done, idle * (0.75 + Math.random() / 2))
      this.wake = () => {
        clearTimeout(timer)
        done()
      }
    })
    this.wake = () => {}
  }

  /** Takes one job and sees it through. @returns false when there was none */
  private async next(): Promise<boolean> {
    const { db, name, lease, models, keeper } = this.options
    const aside = await modelsSetAside(db)
    const able = [noModel, ...models.ids.filter((id) => !aside.has(id))]
    const job = await claim(db, { worker: name, lease, models: able, resident: keeper.latest ?? null })
    if (!job) return false
    pass("claimed")
    const hold: Hold = { id: job.id, attempt: job.attempts, worker: name }
    if (this.stopping) await giveBack(db, hold)
    else await this.see(job, hold)
    return true
  }

  private async see(job: Job, hold: Hold): Promise<void> {
    const { log } = this.options
    const controller = new AbortController()
    const abort = (why: Stop) => controller.abort(why)
    this.current = { job, hold, abort }
    const beat = this.heart(hold, abort)
    const began = performance.now()
    try {
      if (job.model === noModel) await this.chore(job, hold, controller)
      else await this.draw(job, hold, this.options.models.get(job.model), controller)
      log.info("job", { id: job.id, model: job.model, seconds: (performance.now() - began) / 1000 })
    } catch (error) {
      await this.failed(job, hold, controller.signal.aborted ? controller.signal.reason : error)
    } finally {
      beat()
      this.current = null
    }
  }

  /** Renews the lease, and notices a cancellation, while the job runs. @returns what ends it */
  private heart(hold: Hold, abort: (why: Stop) => void): () => void {
    const { db, lease } = this.options
    let last = Date.now()
    let busy = false
    const look = async () => {
      if (busy) return
      busy = true
      try {
        const late = Date.now() - last > lease / 3
        const ours = late ? await note(db, hold, lease, null, null) : await holds(db, hold)
        if (late) last = Date.now()
        if (!ours) abort("lost")
      } catch {
        // the lease goes on for a while without the database
      } finally {
        busy = false
      }
    }
    const timer = setInterval(() => void look(), watch)
    return () => clearInterval(timer)
  }

  /** A job that needs no model. */
  private async chore(job: Job, hold: Hold, controller: AbortController): Promise<void> {
    const { db } = this.options
    const images = await enlargeJob(this.options, job, this.enlargers, controller.signal)
    if (!(await finish(db, hold, job, images))) controller.abort("lost" satisfies Stop)
    controller.signal.throwIfAborted()
    pass("finished")
  }

  private async draw(job: Job, hold: Hold, model: KnownModel, controller: AbortController): Promise<void> {
    const { db, files, keeper } = this.options
    const ask = await askOf(db, files, job, model, this.options.models)
    const resident = await keeper.use(model)
    const study = isStudy(job) ? new StudySteps() : null
    const result = await this.steps(resident, hold, ask, model, controller, study)
    controller.signal.throwIfAborted()
    await modelWorks(db, model.id)
    const images = study ? await this.study(job, result, study) : await store(files, job, result)
    if (!(await finish(db, hold, job, images))) controller.abort("lost" satisfies Stop)
    controller.signal.throwIfAborted()
    pass("finished")
    await keeper.settle(model.id)
  }

  /** Keeps how a picture came about; the picture itself is there already. */
  private async study(job: Job, { attention }: GenerateResult, { steps }: StudySteps): Promise<NewImage[]> {
    const study = studyOf(attention!, steps)
    await this.options.files.put(studyFile(job.id), Buffer.from(JSON.stringify(study)))
    return []
  }

  /** Runs a generation to its end, telling how it goes. */
  private async steps(
    resident: Resident,
    hold: Hold,
    ask: GenerateRequest,
    model: KnownModel,
    controller: AbortController,
    study: StudySteps | null,
  ): Promise<GenerateResult> {
    const generation = resident.generate(ask, controller.signal, study !== null)
    const teller = new Teller(this.options, hold)
    let longest = 0
    let last = performance.now()
    let hang: NodeJS.Timeout | undefined
    const guard = (milliseconds: number) => {
      clearTimeout(hang)
      hang = setTimeout(() => {
        controller.abort("hung" satisfies Stop)
        void this.options.keeper.drop(model.id)
      }, milliseconds)
    }
    guard(firstPatience)
    try {
      for await (const step of generation) {
        pass("denoising")
        await study?.add(step)
        if (step.step > 1) longest = Math.max(longest, performance.now() - last)
        last = performance.now()
        guard(longest === 0 ? firstPatience : Math.max(leastPatience, patience * longest))
        if (!(await teller.tell(step))) controller.abort("lost" satisfies Stop)
        controller.signal.throwIfAborted()
      }
      return await (generation as Generation)
    } finally {
      clearTimeout(hang)
    }
  }

  private async failed(job: Job, hold: Hold, reason: unknown): Promise<void> {
    const { db, files, log, deaths, pause, keeper } = this.options
    if (reason === "lost") {
      // somebody else may be drawing it: only what nobody will finish is thrown away
      const [row] = await db.query("SELECT state FROM jobs WHERE id = $1", [job.id])
      if (row?.state !== "running" && row?.state !== "queued" && row?.state !== "done")
        await discard(files, job)
      return
    }
    if (reason === "stopping" || this.stopping) return giveBack(db, hold)
    const error = asError(reason)
    if (reason === "hung" || error.code === "ENGINE_GONE") {
      log.error("a model's process ended", { id: job.id, model: job.model, reason: error.message })
      await keeper.drop(job.model)
      if (job.model === noModel) await this.enlargers.close()
      await modelCrashed(db, job.model, deaths, pause)
      await died(db, job.id, hold.attempt, deaths)
      return
    }
    if (error.blame === "here")
      log.error("a job failed", { id: job.id, code: error.code, reason: error.message })
    await discard(files, job)
    await failJob(db, hold, outward(error))
  }
}

function asError(reason: unknown): AquatintError {
  if (reason instanceof AquatintError) return reason
  const message = reason instanceof Error ? reason.message : String(reason)
  return new AquatintError("INTERNAL", message, { blame: "here" })
}

/** An error without anything of this machine's: no paths, and of what failed here only its code. */
export function outward(error: AquatintError): { code: string; message: string; hint?: string } {
  const strip = (text: string) =>
    text.replace(/(?:[A-Za-z]:)?(?:[/\\][^\s/\\:,;'"]+){2,}/g, (path) =>
      /^\/(api|sdapi|v1)\//.test(path) ? path : (path.split(/[/\\]/).at(-1) ?? ""),
    )
  if (error.blame === "here" && error.code === "INTERNAL")
    return { code: "INTERNAL", message: "something failed here; the server's log says what" }
  return {
    code: error.code,
    message: strip(error.message),
    ...(error.hint === undefined ? {} : { hint: strip(error.hint) }),
  }
}

/** Writes down where a job stands, not more often than disks and readers can bear. */
class Teller {
  private readonly options: WorkerOptions
  private readonly hold: Hold
  private readonly began = performance.now()
  private last = 0

  constructor(options: WorkerOptions, hold: Hold) {
    this.options = options
    this.hold = hold
  }

  /** @returns false when the job is no longer ours */
  async tell(step: {
    phase: string
    picture: number
    step: number
    steps: number
    progress: number
    preview(): Parameters<typeof encodeImage>[0] | null
    look?(): Promise<Parameters<typeof encodeImage>[0] | null>
  }): Promise<boolean> {
    const now = performance.now()
    if (now - this.last < pace) return true
    this.last = now
    const elapsed = (now - this.began) / 1000
    const progress: JobProgress = {
      phase: step.phase,
      picture: step.picture,
      step: step.step,
      steps: step.steps,
      progress: step.progress,
      remaining: step.progress > 0.02 ? (elapsed / step.progress) * (1 - step.progress) : null,
    }
    const seen = (await step.look?.()) ?? step.preview()
    const preview = seen ? Buffer.from(await encodeImage(seen, { format: "png" })).toString("base64") : null
    return note(this.options.db, this.hold, this.options.lease, progress, preview)
  }
}

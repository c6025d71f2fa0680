import { createHash, randomInt } from "node:crypto"
import { AquatintError, fail } from "../errors.ts"
import { checkAsk, checkImage, promptLoras } from "../index.ts"
import {
  addUpload,
  cancelJob,
  type Database,
  enqueue,
  type Files,
  findImage,
  findJob,
  findUpload,
  type Image,
  isOver,
  type Job,
  modelsSetAside,
  newId,
  pass,
  refuseFull,
  type Upload,
} from "../store/index.ts"
import { noModel } from "./chores.ts"
import type { KnownModel, Models } from "./models.ts"
import { type Drawing, hiresUpscalers, type Limits, type NewJobBody, type PictureRef } from "./schemas.ts"
import { type Enlarging, enlargedSize, upscalerNamed } from "./upscale.ts"
import { Watch, type WatchEvent } from "./watch.ts"

/** Milliseconds for which a client that found the queue full is told so again without a look. */
const verdict = 100

/** Who asks: `owner` decides what they see, `client` with whom they take turns. */
export interface Who {
  owner: string
  client: string
}

export interface ServiceOptions {
  db: Database
  files: Files
  models: Models
  limits: Limits
}

export interface Submission {
  who: Who
  body: NewJobBody
  source: string
  key?: string | null
}

/** The job service that every interface stands on. */
export class Service {
  readonly db: Database
  readonly files: Files
  readonly models: Models
  readonly limits: Limits
  readonly watch: Watch
  private looking: Promise<void> | null = null
  /** What clients were refused with, until something happens in the queue. */
  private readonly full = new Map<string, AquatintError>()
  private readonly silence: () => void

  constructor({ db, files, models, limits }: ServiceOptions) {
    this.db = db
    this.files = files
    this.models = models
    this.limits = limits
    this.watch = new Watch(db)
    this.silence = db.listen(() => this.full.clear())
  }

  close(): void {
    this.silence()
    this.watch.close()
  }

  /** Sends a crowd away before its pictures are kept, and without standing in line for the database. @throws QUEUE_FULL */
  private async refuseCrowd({ client }: Who): Promise<void> {
    const known = this.full.get(client)
    if (known) throw known
    await refuseFull(this.db, { client }, this.room).catch((error: unknown) => {
      if (!(error instanceof AquatintError)) throw error
      this.full.set(client, error)
      setTimeout(() => this.full.delete(client), verdict).unref()
      throw error
    })
  }

  /** Jobs that may wait. */
  private get room() {
    return { total: this.limits.queue, client: this.limits.clientQueue }
  }

  /**
   * Checks a request and queues it; it is on disk when the promise resolves.
   * @throws MODEL_*, REQUEST_*, SAMPLER, IMAGE_*, INPUT_UNKNOWN, QUEUE_FULL, IDEMPOTENCY_KEY
   */
  async submit({ who, body, source, key }: Submission): Promise<{ job: Job; fresh: boolean }> {
    const { priority, group, init, mask, ...rest } = body
    // a repeated key is answered with its job, however full it is
    if (key == null) await this.refuseCrowd(who)
    const model = this.models.get(body.model)
    const fingerprint = createHash("sha256").update(JSON.stringify(body)).digest("hex")
    await this.refuseSetAside(model)
    if (mask !== undefined && init === undefined)
      fail("REQUEST_MASK", "a mask without a start picture", { hint: "send init as well" })
    const start = init && (await this.held(who, init))
    const paint = mask && (await this.held(who, mask))
    const drawing = this.settled(rest, model, start)
    if (start) drawing.init = start.ref
    if (paint) drawing.mask = paint.ref
    const inputs = [start, paint].flatMap((one) => (one && "upload" in one.ref ? [one.ref.upload] : []))
    const request = drawing as unknown as Record<string, unknown>
    const made = await enqueue(
      this.db,
      {
        owner: who.owner,
        client: who.client,
        source,
        group: group ?? null,
        priority: priority ?? 0,
        model: model.id,
        request,
        key: key ?? null,
        fingerprint,
        inputs,
      },
      this.room,
    )
    pass("accepted")
    return made
  }

  /** Queues the enlarging of a picture. @throws REQUEST_SIZE, IMAGE_*, INPUT_UNKNOWN, QUEUE_FULL */
  async enlarge(
    who: Who,
    picture: PictureRef | { data: string },
    asked: Enlarging,
    source: string,
  ): Promise<Job> {
    await this.refuseCrowd(who)
    const held = await this.held(who, picture)
    const { width, height } = enlargedSize(held, asked)
    if (width * height > this.limits.uploadPixels)
      fail("REQUEST_SIZE", `${width}x${height} is more than this server makes`, {
        hint: `at most ${this.limits.uploadPixels} pixels`,
      })
    const of = "image" in held.ref ? await findImage(this.db, held.ref.image, who.owner) : null
    const about = { prompt: of?.prompt ?? "", negative: of?.negative ?? "", seed: of?.seed ?? 0 }
    return this.chore(who, source, noModel, { kind: "enlarge", ...about, init: held.ref, ...asked })
  }

  /**
   * Queues drawing a picture again, with the same seed, to see how it comes about.
   * @throws MODEL_*, REQUEST_STUDY, QUEUE_FULL
   */
  async study(who: Who, image: Image): Promise<Job> {
    if (image.model === noModel)
      fail("REQUEST_STUDY", "this picture was not drawn but enlarged", { hint: "choose one that was drawn" })
    const model = this.models.get(image.model)
    await this.refuseSetAside(model)
    return this.chore(who, "study", model.id, { ...image.request, kind: "study", count: 1, seed: image.seed })
  }

  private async chore(
    who: Who,
    source: string,
    model: string,
    request: Record<string, unknown> & { init?: PictureRef; mask?: PictureRef },
  ): Promise<Job> {
    const inputs = [request.init, request.mask].flatMap((ref) => (ref && "upload" in ref ? [ref.upload] : []))
    const { job } = await enqueue(
      this.db,
      {
        owner: who.owner,
        client: who.client,
        source,
        model,
        request,
        fingerprint: createHash("sha256").update(JSON.stringify(request)).digest("hex"),
        inputs,
      },
      this.room,
    )
    return job
  }

  /** Everything that a picture depends on is decided now, so that a second attempt makes the same one. */
  private settled(
    { loras, ...ask }: Omit<NewJobBody, "priority" | "group" | "init" | "mask">,
    model: KnownModel,
    start: { width: number; height: number } | undefined,
  ): Drawing {
    const { card } = model
    for (const text of [ask.prompt, ask.hires?.prompt ?? ""])
      for (const name of promptLoras(text, ask.syntax)) this.models.loras.get(name)
    const used = loras?.map(({ id, weight }) => ({ id: this.models.loras.get(id).id, weight: weight ?? 1 }))
    if (!start && card.variant !== "base" && ["inpaint", "instruct"].includes(card.variant))
      fail("REQUEST_INIT", `${model.id} needs a start picture`, { hint: "send init" })
    const side = (pixels: number | undefined) =>
      pixels === undefined ? card.size : Math.max(card.step, Math.floor(pixels / card.step) * card.step)
    const like = ask.inpaintArea === "masked" ? undefined : start
    const drawing: Drawing = {
      ...ask,
      model: model.id,
      seed: ask.seed ?? randomInt(2 ** 32),
      width: ask.width ?? side(like?.width),
      height: ask.height ?? side(like?.height),
      count: ask.count ?? 1,
      ...(used?.length ? { loras: used } : {}),
      ...(ask.hires ? { hires: this.secondPass(ask.hires) } : {}),
      ...(ask.variationStrength ? { variationSeed: ask.variationSeed ?? randomInt(2 ** 32) } : {}),
    }
    const { loras: _, maskBlur: _b, maskPadding: _p, inpaintArea: _a, fill: _f, ...plain } = drawing
    checkAsk(plain as unknown as Parameters<typeof checkAsk>[0], card)
    this.refuseLarge(drawing)
    return drawing
  }

  /** A second pass whose way of enlarging is one of ours: no name of a request becomes a path. @throws UPSCALER */
  private secondPass(hires: NewJobBody["hires"]): NewJobBody["hires"] {
    const { upscaler } = hires ?? {}
    if (upscaler === undefined || hiresUpscalers.includes(upscaler)) return hires
    const known = upscalerNamed(this.models, upscaler)
    const plain = known.toLowerCase()
    return { ...hires, upscaler: hiresUpscalers.includes(plain) ? plain : known }
  }

  private refuseLarge({ hires, ...first }: Drawing): void {
    const { pixels, side } = this.limits
    const { scale = 2, width: w = 0, height: h = 0 } = hires ?? { scale: 1 }
    // one side alone keeps the shape
    const factor = Math.max(w / first.width, h / first.height) || scale
    const [width, height] = [Math.round(first.width * factor), Math.round(first.height * factor)]
    if (width * height > pixels || Math.max(width, height) > side)
      fail("REQUEST_SIZE", `${width}x${height} is more than this server draws`, {
        hint: `at most ${pixels} pixels, no side above ${side}`,
      })
  }

  private async refuseSetAside(model: KnownModel): Promise<void> {
    const aside = (await modelsSetAside(this.db)).get(model.id)
    if (aside)
      fail("MODEL_SET_ASIDE", `${model.id} ended its process ${aside.crashes} times in a row`, {
        blame: "here",
        hint: "choose another model, or look at the server's log",
        details: { retryAfter: Math.max(1, Math.ceil((aside.until - Date.now()) / 1000)) },
      })
  }

  /** A picture of a request as one that is held here. */
  private async held(
    who: Who,
    given: PictureRef | { data: string },
  ): Promise<{ ref: PictureRef; width: number; height: number }> {
    if ("data" in given) {
      const upload = await this.upload(who, bytesOf(given.data))
      return { ref: { upload: upload.id }, width: upload.width, height: upload.height }
    }
    const found =
      "upload" in given
        ? await findUpload(this.db, given.upload, who.owner)
        : await findImage(this.db, given.image, who.owner)
    if (!found)
      return fail("INPUT_UNKNOWN", "there is no such picture here", { hint: "send it to /api/uploads first" })
    return { ref: given, width: found.width, height: found.height }
  }

  /** Keeps a picture from outside after a look at its header; it is decoded by the worker only. @throws IMAGE_* */
  async upload(who: Who, bytes: Uint8Array): Promise<Upload> {
    const { uploadBytes, uploadPixels } = this.limits
    const header = checkImage(bytes, { bytes: uploadBytes, pixels: uploadPixels })
    const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)
    const sha256 = Buffer.from(digest).toString("hex")
    const file = `in-${newId()}.${header.format === "jpeg" ? "jpg" : header.format}`
    await this.files.put(file, bytes)
    pass("upload-written")
    const upload = await addUpload(this.db, {
      owner: who.owner,
      file,
      format: header.format,
      width: header.width,
      height: header.height,
      bytes: bytes.length,
      sha256,
    })
    // the same picture was here before
    if (upload.file !== file) await this.files.remove(file)
    return upload
  }

  /** Waits until a job is over. If the signal comes first the job is cancelled. @throws CANCELLED */
  async finished(job: Job, signal: AbortSignal, heard: (event: WatchEvent) => void = () => {}): Promise<Job> {
    let stop = () => {}
    try {
      await new Promise<void>((done, refuse) => {
        const leave = () => {
          void cancelJob(this.db, job.id)
          refuse(signal.reason)
        }
        if (signal.aborted) return leave()
        signal.addEventListener("abort", leave, { once: true })
        const emit = (event: WatchEvent) => {
          heard(event)
          if (event.event === "end") done()
        }
        this.watch.subscribe({ owner: job.owner, id: job.id, previews: true, emit }).then((end) => {
          stop = end
        }, refuse)
      })
    } finally {
      stop()
    }
    return (await findJob(this.db, job.id)) ?? job
  }

  /** Looks again for models and what lies beside them, here and in every worker. */
  refresh(): Promise<void> {
    const look = async () => {
      await this.models.refresh()
      await this.db.notify("models")
    }
    // who asks while somebody looks gets what is found
    this.looking ??= look().finally(() => {
      this.looking = null
    })
    return this.looking
  }

  isOver(job: Job): boolean {
    return isOver(job.state)
  }
}

/** The bytes of base64 text or a data: URL. @throws IMAGE_BASE64 */
export function bytesOf(text: string): Uint8Array {
  const at = text.startsWith("data:") ? text.indexOf(",") : -1
  if (text.startsWith("data:") && !/^data:[^,]{0,200};base64$/.test(text.slice(0, at)))
    fail("IMAGE_BASE64", "the data: URL of a picture is not in base64", { hint: "data:image/png;base64,..." })
  const body = text.slice(at + 1)
  if (/^https?:/i.test(body))
    fail("IMAGE_URL", "pictures are not fetched from addresses", {
      hint: "send the picture itself in base64",
    })
  const bytes = Buffer.from(body, "base64")
  if (bytes.length < Math.floor((body.trim().length * 3) / 4) - 3)
    fail("IMAGE_BASE64", "a picture is not in base64", { hint: "send PNG, JPEG or WebP in base64" })
  return bytes
}

import { z } from "zod"
import { latentUpscalers, mostMerged, promptLimit, samplerIds, scheduleIds, speeds } from "../index.ts"
import { idPattern, states } from "../store/index.ts"

/** What requests may ask for at most. */
export interface Limits {
  /** Width times height of a picture to draw. */
  pixels: number
  side: number
  steps: number
  /** Pictures of one job. */
  count: number
  promptLength: number
  /** A picture that is sent. */
  uploadBytes: number
  uploadPixels: number
  /** Any other body. */
  bodyBytes: number
  /** Jobs that may wait in all, and of one client. */
  queue: number
  clientQueue: number
}

export const defaultLimits: Limits = {
  pixels: 2048 * 2048,
  side: 4096,
  steps: 150,
  count: 16,
  promptLength: promptLimit,
  uploadBytes: 32 * 1024 * 1024,
  uploadPixels: 16 * 1024 * 1024,
  bodyBytes: 1024 * 1024,
  queue: 200,
  clientQueue: 200,
}

export const id = z.string().regex(idPattern).meta({ description: "26 lower-case letters and digits" })

/** A picture that the server holds. */
export const heldRef = z.union([z.strictObject({ upload: id }), z.strictObject({ image: id })])
export type PictureRef = z.infer<typeof heldRef>

const inline = z.strictObject({
  data: z.string().min(1).meta({ description: "base64, or a data: URL, of a PNG, JPEG or WebP file" }),
})

const words = z.string().max(promptLimit)
const name = z.string().min(1).max(200)
const whole = (low: number, high: number) => z.int().min(low).max(high)
const real = (low: number, high: number) => z.number().min(low).max(high)

/** Ways to enlarge between two passes that need no file. */
export const hiresUpscalers = [...Object.keys(latentUpscalers), "lanczos", "nearest", "none"]

const hires = (limits: Limits) =>
  z.strictObject({
    scale: real(1, 8).optional(),
    width: whole(8, limits.side).optional(),
    height: whole(8, limits.side).optional(),
    upscaler: name.optional().meta({
      description: `${hiresUpscalers.join(", ")}, or the id of an upscaler that GET /api/models lists`,
    }),
    steps: whole(1, limits.steps).optional(),
    strength: real(0.01, 1).optional(),
    sampler: name.optional(),
    schedule: name.optional(),
    cfg: real(0, 100).optional(),
    prompt: words.optional(),
    negative: words.optional(),
  })

/** What is asked of a start picture and its mask. */
const startShape = {
  imageCfg: real(0, 100).optional(),
  strength: real(0, 1).optional(),
  fit: z
    .enum(["stretch", "crop", "fill"])
    .optional()
    .meta({ description: "how init and mask are brought to the picture's size" }),
  maskBlur: real(0, 256)
    .optional()
    .meta({ description: "pixels over which new and old flow into each other" }),
  inpaintArea: z
    .enum(["whole", "masked"])
    .optional()
    .meta({ description: "masked: only the part around the mask is drawn, at the size asked for" }),
  maskPadding: whole(0, 1024).optional().meta({ description: "pixels around the mask that are drawn along" }),
  fill: z
    .enum(["fill", "original", "latent-noise", "latent-nothing"])
    .optional()
    .meta({ description: "what masked places begin from, default original" }),
  invertMask: z.boolean().optional(),
  maskFrom: z
    .enum(["white", "transparent"])
    .optional()
    .meta({ description: "what of the mask is repainted, default white" }),
}

/** What a picture is asked to be; `library` holds the pictures by reference. */
const drawingShape = (limits: Limits) => ({
  prompt: words,
  negative: words.optional(),
  model: name.optional(),
  steps: whole(1, limits.steps).optional(),
  cfg: real(0, 100).optional(),
  sampler: name.optional().meta({ description: `${samplerIds.join(", ")}, or A1111's and ComfyUI's labels` }),
  schedule: name.optional().meta({ description: `${scheduleIds.join(", ")}, or A1111's labels` }),
  eta: real(0, 1).optional(),
  clipSkip: whole(1, 100).optional(),
  seed: whole(0, 2 ** 32 - 1).optional(),
  width: whole(8, limits.side).optional(),
  height: whole(8, limits.side).optional(),
  count: whole(1, limits.count).optional(),
  rng: z.enum(["cpu", "cuda"]).optional(),
  syntax: z.enum(["a1111", "comfy", "plain"]).optional(),
  guidanceRescale: real(0, 1).optional(),
  speed: z
    .enum(speeds)
    .optional()
    .meta({ description: "fast leaves out work at a small price (docs/speed.md)" }),
  stepCache: whole(1, 10).optional(),
  guidanceStart: real(0, 1).optional(),
  guidanceEnd: real(0, 1).optional(),
  guidanceHold: real(0, 1).optional(),
  tokenMerge: real(0, mostMerged).optional(),
  hires: hires(limits)
    .optional()
    .meta({ description: "a second pass over the enlarged result of the first" }),
  variationSeed: whole(0, 2 ** 32 - 1).optional(),
  variationStrength: real(0, 1).optional(),
  seedFrom: z.strictObject({ width: whole(8, limits.side), height: whole(8, limits.side) }).optional(),
  format: z.enum(["png", "jpeg", "webp"]).optional(),
  quality: whole(1, 100).optional(),
})

const lora = z.strictObject({ id: name, weight: real(-10, 10).optional() })

/** The body of POST /api/jobs. */
export const newJob = (limits: Limits) =>
  z
    .strictObject({
      ...drawingShape(limits),
      ...startShape,
      init: z.union([heldRef, inline]).optional(),
      mask: z.union([heldRef, inline]).optional(),
      loras: z.array(lora).max(20).optional(),
      priority: whole(-10, 10).optional(),
      group: z.string().min(1).max(100).optional(),
    })
    .meta({ id: "NewJob" })
export type NewJobBody = z.infer<ReturnType<typeof newJob>>

/** The body of POST /api/enlarge. */
export const enlarging = z
  .strictObject({
    picture: z.union([heldRef, inline]),
    factor: real(1, 8).optional(),
    upscaler: name
      .optional()
      .meta({ description: "Lanczos (default), Nearest, or an id of GET /api/models" }),
  })
  .meta({ id: "Enlarging" })

/** A request as it is kept: defaults that a picture depends on are filled in. */
export interface Drawing extends Omit<NewJobBody, "init" | "mask" | "priority" | "group"> {
  model: string
  seed: number
  width: number
  height: number
  count: number
  init?: PictureRef
  mask?: PictureRef
}

export const errorBody = z
  .object({ error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional() }) })
  .meta({ id: "Error" })

const time = z.number().meta({ description: "milliseconds since 1970" })

export const imageBody = z
  .object({
    id,
    job: id,
    index: z.int(),
    created: time,
    width: z.int(),
    height: z.int(),
    format: z.enum(["png", "jpeg", "webp"]),
    bytes: z.int(),
    sha256: z.string(),
    seed: z.int(),
    prompt: z.string(),
    negative: z.string(),
    model: z.string(),
    infotext: z.string(),
    request: z.record(z.string(), z.unknown()),
    deleted: time.nullable(),
    url: z.string(),
    thumbnail: z.string(),
  })
  .meta({ id: "Image" })
export type ImageBody = z.infer<typeof imageBody>

export const progressBody = z.object({
  phase: z.string().nullable(),
  step: z.int(),
  steps: z.int(),
  picture: z.int(),
  progress: z.number(),
  remaining: z.number().nullable(),
})

export const jobBody = z
  .object({
    id,
    state: z.enum(states),
    position: z.int().nullable(),
    attempts: z.int(),
    priority: z.int(),
    group: z.string().nullable(),
    source: z.string(),
    created: time,
    started: time.nullable(),
    finished: time.nullable(),
    ...progressBody.shape,
    request: z.record(z.string(), z.unknown()),
    images: z.array(imageBody),
    error: errorBody.shape.error.nullable(),
  })
  .meta({ id: "Job" })
export type JobBody = z.infer<typeof jobBody>

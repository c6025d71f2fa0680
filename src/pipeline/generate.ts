import { pictureNoise } from "../diffusion/random.ts"
import type { DrawNoise, Predict, Sampling } from "../diffusion/types.ts"
import { fail } from "../errors.ts"
import { type Picture, pictureFromPlanes } from "../image/pixels.ts"
import { vaeFactor } from "../models/index.ts"
import { f32, i64, type Value } from "../runtime/engine.ts"
import { type ControlPart, Controls } from "./control.ts"
import { hole, latentMask, maskInput, pictureInput } from "./inputs.ts"
import type { Networks } from "./networks.ts"
import { latentPreview } from "./preview.ts"
import type { PromptPlan } from "./prompt.ts"
import { type ExtraChannels, Rows } from "./rows.ts"
import type { Settings } from "./settings.ts"
import type { Trace } from "./trace.ts"
import { modeLatents, type Planes, rescale, sampleLatents, tiled, unscale } from "./vae.ts"

/** Where a generation stands. `progress` runs from 0 to 1 over all pictures. */
export interface GenerateStep {
  readonly phase: "text" | "encode" | "denoise" | "decode"
  readonly picture: number
  readonly step: number
  readonly steps: number
  readonly progress: number
  /** A rough small picture of the current estimate, or null where there is none yet. */
  preview(): Picture | null
}

/** Everything that the parts of one generation share. */
export interface Job {
  readonly networks: Networks
  readonly settings: Settings
  readonly sampling: Sampling
  readonly plan: PromptPlan
  readonly controls?: readonly ControlPart[]
  readonly trace: Trace | null
  readonly signal: AbortSignal | undefined
  /** Give each kind of network back once it is no longer needed. */
  readonly frugal: boolean
  /** Called before each denoiser call, counted from 0: adapters whose strength changes follow it. */
  at?(call: number): Promise<void>
  /** Called as each phase ends, with its seconds. */
  timed(phase: "text" | "denoise" | "decode", seconds: number): void
}

interface Sized {
  /** Latent height and width. */
  readonly size: readonly [number, number]
  readonly channels: number
}

/** What the start picture and the mask become for one picture of the batch. */
interface Start {
  readonly x: Float32Array
  readonly extra: ExtraChannels
  /** Inpainting with an ordinary model: keeps what the mask protects, after each step. */
  readonly protect: {
    readonly mask: Float32Array
    readonly original: Float32Array
    readonly noise: Float32Array
  } | null
}

const now = () => performance.now() / 1000
const still = (phase: GenerateStep["phase"], progress: number, picture = 0): GenerateStep => ({
  phase,
  picture,
  step: 0,
  steps: 0,
  progress,
  preview: () => null,
})

/**
 * A sentence, and perhaps a picture and a mask, become pictures: Rombach et al. 2022, fig. 3. Picture i is the same
 * as the picture made alone with seed + i. Cancelled between steps by `job.signal`.
 */
export async function* generate(job: Job): AsyncGenerator<GenerateStep, Picture[]> {
  const { networks, settings, frugal } = job
  const factor = vaeFactor(networks.vae)
  const sized: Sized = {
    size: [settings.height / factor, settings.width / factor],
    channels: networks.vae.latent_channels,
  }
  const began = now()
  yield still("text", 0)
  const rows = new Rows(networks, job.plan, settings)
  await rows.prepare() // τ(y)    n 77 d
  traceText(job, rows)
  if (frugal) await networks.release("text")
  job.timed("text", now() - began)
  const latents: Float32Array[] = []
  const denoising = now()
  for (let i = 0; i < settings.count; i++) latents.push(yield* denoise(job, rows, sized, i))
  if (frugal) await networks.release("unet")
  job.timed("denoise", now() - denoising)
  const decoding = now()
  const pictures: Picture[] = []
  for (const [i, z] of latents.entries()) {
    job.signal?.throwIfAborted()
    yield still("decode", (settings.count + i * 0.1) / (settings.count * 1.1), i)
    pictures.push(await decode(job, z, sized)) // D(z_0)  1 3 8h 8w
  }
  if (frugal) await networks.release("vae")
  job.timed("decode", now() - decoding)
  return pictures
}

/** One picture's latents from its noise. */
async function* denoise(
  job: Job,
  rows: Rows,
  sized: Sized,
  i: number,
): AsyncGenerator<GenerateStep, Float32Array> {
  const { sampling, settings, networks, trace, signal } = job
  const length = sized.channels * sized.size[0] * sized.size[1]
  const noise = pictureNoise(settings.seed + i, settings.rng, length) // z_T     4 h w
  const start = await begin(job, sized, noise)
  if (job.frugal && settings.init && i === settings.count - 1) await networks.release("vae")
  const asked = job.controls ?? []
  const net = await networks.denoiser(...sized.size, asked.length)
  const controls =
    asked.length === 0
      ? null
      : await Controls.prepare(networks, asked, {
          ...settings,
          size: sized.size,
          calls: sampling.timesteps.length || settings.steps,
        })
  const times: number[] = []
  const predict: Predict = async (x, t) => {
    signal?.throwIfAborted()
    times.push(t)
    await job.at?.(times.length - 1)
    return rows.predict(net, x, t, times.length - 1, sized.size, start.extra, controls) // ε_θ(z_t, t, τ(y))
  }
  let x = start.x
  for await (const step of sampling.run({ predict, x, noise, seed: settings.seed + i, rng: settings.rng })) {
    signal?.throwIfAborted()
    if (!step.x0.every(Number.isFinite)) overflow(step.index)
    if (start.protect) protect(step.x, start.protect, sampling, step.index)
    x = step.x
    const share = (i + (step.index + 1) / step.total) / (settings.count * 1.1)
    yield {
      phase: "denoise",
      picture: i,
      step: step.index + 1,
      steps: step.total,
      progress: Math.min(1, share),
      preview: () => latentPreview(step.x0, sized),
    }
  }
  await controls?.end()
  trace?.set("timesteps", f32(Float32Array.from(times), [times.length]))
  trace?.add("latents", f32(x, [1, sized.channels, ...sized.size]))
  return x
}

/** A black picture is never handed out as if it were one. */
function overflow(step: number): never {
  fail("NOT_FINITE", `the network's result at step ${step + 1} is not finite`, {
    hint: "the weights may be damaged; try another sampler, or a lower guidance scale",
  })
}

/** Puts the protected places back, at the noise level the sampler has reached. */
function protect(
  x: Float32Array,
  { mask, original, noise }: NonNullable<Start["protect"]>,
  sampling: Sampling,
  index: number,
): void {
  const kept = sampling.noisedAfter(original, noise, index)
  for (let k = 0; k < x.length; k++) if (mask[k % mask.length]! < 0.5) x[k] = kept[k]!
}

/** Start latents; the order of draws is that of diffusers' pipelines: the picture's sample, the noise, the hole's sample. */
async function begin(job: Job, sized: Sized, noise: DrawNoise): Promise<Start> {
  const { settings, sampling, networks, trace } = job
  const shape = [1, sized.channels, ...sized.size]
  const draw = (): Float32Array => {
    const drawn = noise()
    trace?.add("noise", f32(drawn, shape))
    return drawn
  }
  if (!settings.init) {
    const drawn = draw()
    return { x: sampling.start(drawn), extra: null, protect: null }
  }
  const picture = pictureInput(settings.init, settings.width, settings.height)
  if (networks.unet.in_channels === 2 * sized.channels) return instructStart(job, sized, draw, picture)
  const nine = networks.unet.in_channels === 2 * sized.channels + 1
  const fromNoise = settings.mask !== undefined && settings.strength === 1
  const original = nine && fromNoise ? null : await encode(job, picture, noise)
  const drawn = draw()
  const x = fromNoise || original === null ? sampling.start(drawn) : sampling.noised(original, drawn)
  if (!settings.mask && !nine) return { x, extra: null, protect: null }
  const pixels = settings.mask
    ? maskInput(settings.mask, settings.width, settings.height)
    : new Float32Array(settings.width * settings.height).fill(1)
  const mask = latentMask(pixels, settings.width, settings.height, settings.width / sized.size[1])
  // drawn also where an ordinary model makes no use of it, as diffusers does
  const masked = await encode(job, hole(picture, pixels), noise)
  if (nine) return { x, extra: { data: concatenate(mask, masked) }, protect: null }
  return { x, extra: null, protect: { mask, original: original!, noise: drawn } }
}

async function instructStart(
  job: Job,
  sized: Sized,
  draw: () => Float32Array,
  picture: Planes,
): Promise<Start> {
  const x = job.sampling.start(draw())
  const tiny = "tiny" in job.networks.vae
  const data = tiny ? await moments(job, picture) : modeLatents(await moments(job, picture))
  return {
    x,
    extra: { data, zero: new Float32Array(sized.channels * sized.size[0] * sized.size[1]) },
    protect: null,
  }
}

function concatenate(...parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Latent side above which the VAE works in tiles: 1024 pixels at factor 8. */
const wholeLatents = 128
const tileLatents = 64

/** A picture's latents: a draw from the encoder's distribution, or what a tiny VAE says without a draw. */
async function encode(job: Job, picture: Planes, noise: DrawNoise): Promise<Float32Array> {
  const { vae } = job.networks
  const found = await moments(job, picture)
  return "tiny" in vae ? rescale(found, vae) : sampleLatents(found, noise(), vae)
}

async function moments(job: Job, picture: Planes): Promise<Float32Array> {
  const factor = vaeFactor(job.networks.vae)
  const tile =
    picture.width * picture.height > (wholeLatents * factor) ** 2
      ? tileLatents * factor
      : Number.POSITIVE_INFINITY
  const net = await job.networks.encoder()
  const out = await tiled(picture, { tile, scale: 1 / factor }, async (x) => {
    job.signal?.throwIfAborted()
    const out = await net.run({ image: f32(x.data, [1, x.channels, x.height, x.width]) })
    return planes((out.moments ?? out.latents)!)
  })
  return out.data
}

async function decode(job: Job, z: Float32Array, { size, channels }: Sized): Promise<Picture> {
  const { networks, trace } = job
  const tile = size[0] * size[1] > wholeLatents ** 2 ? tileLatents : Number.POSITIVE_INFINITY
  const net = await networks.decoder(...size)
  const latents: Planes = { data: unscale(z, networks.vae), channels, height: size[0], width: size[1] }
  const image = await tiled(latents, { tile, scale: vaeFactor(networks.vae) }, async (x) => {
    job.signal?.throwIfAborted()
    return planes((await net.run({ latents: f32(x.data, [1, x.channels, x.height, x.width]) })).image!)
  })
  if (!image.data.every(Number.isFinite))
    fail("NOT_FINITE", "the VAE's picture is not finite", {
      hint: "its weights may be damaged; try another one with --vae",
    })
  trace?.add("image", f32(image.data, [1, image.channels, image.height, image.width]))
  return pictureFromPlanes(image.data, image.width, image.height)
}

const planes = (v: Value): Planes => ({
  data: v.data as Float32Array,
  channels: v.shape[1]!,
  height: v.shape[2]!,
  width: v.shape[3]!,
})

function traceText({ trace, plan }: Job, rows: Rows): void {
  if (!trace) return
  const chunks = plan.positive[0]!.schedule[0]!.text.chunks[0]!
  trace.set(
    "text.ids",
    i64(
      chunks.flatMap((c) => Array.from(c.ids)),
      [chunks.length, chunks[0]!.ids.length],
    ),
  )
  const { cond, uncond } = rows.embeddingsAt(0)
  for (const [name, e] of [
    ["text.cond", cond],
    ["text.uncond", uncond],
  ] as const) {
    if (!e) continue
    trace.set(name, e.context)
    if (e.pooled) trace.set(`${name}.pooled`, e.pooled)
  }
}

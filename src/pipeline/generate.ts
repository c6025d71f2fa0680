import { callsOf, type Sampling } from "../diffusion/types.ts"
import type { Picture } from "../image/pixels.ts"
import { vaeFactor } from "../models/index.ts"
import { f32, i64 } from "../runtime/engine.ts"
import type { AttentionMaps } from "./attention.ts"
import { decode, type Sized } from "./autoencode.ts"
import type { ControlPart } from "./control.ts"
import { type Enlarger, enlarge } from "./enlarge.ts"
import type { Hires } from "./hires.ts"
import type { Networks } from "./networks.ts"
import type { FileRef } from "./other-files.ts"
import type { PromptPlan } from "./prompt.ts"
import { Rows } from "./rows.ts"
import { type Scene, sceneOf } from "./scene.ts"
import { type SecondPass, secondPass } from "./second-pass.ts"
import type { Settings } from "./settings.ts"
import { begin, noiseOf, type PictureNoise } from "./start.ts"
import { redrawTiles } from "./tiles.ts"
import type { Trace } from "./trace.ts"
import { walk } from "./walk.ts"

/** Where a generation stands. `progress` runs from 0 to 1 over all pictures. */
export interface GenerateStep {
  readonly phase: "text" | "encode" | "denoise" | "decode"
  readonly picture: number
  readonly step: number
  readonly steps: number
  readonly progress: number
  /** A rough small picture of the current estimate, or null where there is none yet. */
  preview(): Picture | null
  /** The current estimate in the picture's size, by the model's small autoencoder (`LoadOptions.preview`); null without one. */
  look?(): Promise<Picture | null>
}

/** Everything that the parts of one generation share. */
export interface Job {
  readonly networks: Networks
  readonly settings: Settings
  readonly sampling: Sampling
  readonly plan: PromptPlan
  /** A second pass over the enlarged result of the first. */
  readonly second?: { readonly hires: Hires; readonly sampling: Sampling; readonly plan: PromptPlan }
  /** What a second pass enlarges pictures by. */
  upscaler?(name: FileRef): Promise<Enlarger>
  readonly controls?: readonly ControlPart[]
  /** Another model that walks the rest of the way, and decodes. */
  readonly refiner?: RefinerPart
  readonly trace: Trace | null
  /** Called with where the first picture's attention was, in its first pass; absent: nobody asks. */
  readonly watched?: (maps: AttentionMaps) => void
  readonly signal: AbortSignal | undefined
  /** Give each kind of network back once it is no longer needed. */
  readonly frugal: boolean
  /** Called before each denoiser call, counted from 0: adapters whose strength changes follow it. */
  at?(call: number): Promise<void>
  /** Called as each phase ends, with its seconds. */
  timed(phase: "text" | "denoise" | "decode", seconds: number): void
}

/** A model that goes on where another stopped. */
export type RefinerPart = Pick<Job, "networks" | "sampling" | "plan" | "settings"> & Required<Pick<Job, "at">>

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
  if (job.settings.sdUpscale) return yield* redrawTiles(job)
  const { networks, settings, frugal } = job
  const factor = vaeFactor(networks.vae)
  const sized: Sized = {
    size: [settings.height / factor, settings.width / factor],
    channels: networks.vae.latent_channels,
  }
  const scene = sceneOf(settings)
  const began = now()
  yield still("text", 0)
  const rows = new Rows(networks, job.plan, { ...settings, calls: callsOf(job.sampling) })
  await rows.prepare() // τ(y)    n 77 d
  const second = await prepareSecond(job, sized)
  const { refiner } = job
  const finer = refiner
    ? new Rows(refiner.networks, refiner.plan, { ...refiner.settings, calls: callsOf(refiner.sampling) })
    : null
  await finer?.prepare()
  traceText(job, rows)
  if (frugal) await networks.release("text")
  job.timed("text", now() - began)
  const latents: Float32Array[] = []
  const denoising = now()
  const noises = Array.from({ length: settings.count }, (_, i) => noiseOf(settings, sized, i))
  for (const [i, drawn] of noises.entries())
    latents.push(yield* denoise(job, { rows, second, finer }, sized, scene, i, drawn))
  if (frugal) await networks.release("unet")
  for (const [i, drawn] of noises.entries())
    if (refiner && finer) latents[i] = yield* refine(job, refiner, finer, sized, i, drawn, latents[i]!)
  job.timed("denoise", now() - denoising)
  return yield* develop(job, scene, latents, second?.sized ?? sized)
}

/** Latents become pictures. */
async function* develop(
  job: Job,
  scene: Scene | null,
  latents: readonly Float32Array[],
  sized: Sized,
): AsyncGenerator<GenerateStep, Picture[]> {
  const { networks, settings, refiner } = job
  const decoding = now()
  const pictures: Picture[] = []
  for (const [i, z] of latents.entries()) {
    job.signal?.throwIfAborted()
    yield still("decode", (settings.count + i * 0.1) / (settings.count * 1.1), i)
    const drawn = await decode(refiner ? { ...job, networks: refiner.networks } : job, z, sized) // D(z_0)  1 3 8h 8w
    pictures.push(await enlarged(job, scene ? scene.finish(drawn) : drawn))
  }
  if (job.frugal) await networks.release("vae")
  job.timed("decode", now() - decoding)
  return pictures
}

/** What was drawn, larger where that was asked for. */
async function enlarged(job: Job, picture: Picture): Promise<Picture> {
  const { upscale, upscaler } = job.settings
  if (upscale === 1) return picture
  const to = (n: number) => Math.round(n * upscale)
  return enlarge(picture, to(picture.width), to(picture.height), await job.upscaler?.(upscaler))
}

/** One picture's latents from its noise, after its last pass. */
async function* denoise(
  job: Job,
  { rows, second, finer }: { rows: Rows; second: SecondPass | null; finer: Rows | null },
  sized: Sized,
  scene: Scene | null,
  i: number,
  drawn: PictureNoise,
): AsyncGenerator<GenerateStep, Float32Array> {
  const { sampling, settings, networks, trace, at } = job
  const start = await begin(job, sized, scene, drawn)
  if (job.frugal && settings.init && i === settings.count - 1) await networks.release("vae")
  const steps = sampling.steps + ((second ?? job.refiner)?.sampling.steps ?? 0)
  const share = (n: number) => n / (settings.count * 1.1)
  const middle = share(i + firstShare(sampling, sized, second))
  const about = { picture: i, before: 0, steps, from: share(i), to: middle }
  const { noise, seed } = drawn
  const size = { width: settings.width, height: settings.height }
  const pass = { ...size, rows, sampling, sized, start, noise, seed, traced: "timesteps", at, about }
  let x = yield* walk(job, pass)
  if (second) {
    const then = { ...about, before: sampling.steps, from: middle, to: share(i + 1) }
    x = yield* secondPass(job, second, x, sized, then)
  }
  if (!finer) trace?.add("latents", f32(x, [1, sized.channels, ...(second?.sized ?? sized).size]))
  return x
}

/** The rest of a picture's way with another model, its noise going on where it was. */
async function* refine(
  job: Job,
  refiner: RefinerPart,
  rows: Rows,
  sized: Sized,
  i: number,
  { noise, seed }: PictureNoise,
  x: Float32Array,
): AsyncGenerator<GenerateStep, Float32Array> {
  const { sampling, settings, at } = refiner
  const { width, height, count } = settings
  const before = job.sampling.steps
  const share = (part: number) => (i + part) / (count * 1.1)
  const [from, to] = [share(before / (before + sampling.steps)), share(1)]
  const about = { picture: i, before, steps: before + sampling.steps, from, to }
  const start = { x, extra: null, protect: null }
  const pass = { width, height, rows, sampling, sized, start, noise, seed, at, about }
  const { trace, signal, frugal, timed } = job
  const own: Job = { ...refiner, trace, signal, frugal, timed }
  const z = yield* walk(own, { ...pass, traced: "refiner.timesteps" })
  trace?.add("latents", f32(z, [1, sized.channels, ...sized.size]))
  return z
}

/** Share of the first pass in the work of a picture. */
function firstShare(sampling: Sampling, { size: [h, w] }: Sized, second: SecondPass | null): number {
  if (!second) return 1
  const [first, rest] = [
    sampling.steps * h * w,
    second.sampling.steps * second.sized.size[0] * second.sized.size[1],
  ]
  return first / (first + rest)
}

/** The rows and sizes of a second pass, its texts encoded. */
async function prepareSecond(job: Job, sized: Sized): Promise<SecondPass | null> {
  const { second, settings, networks } = job
  if (!second) return null
  const { hires } = second
  const { width, height, cfg } = hires
  const calls = callsOf(second.sampling)
  const rows = new Rows(networks, second.plan, { ...settings, width, height, cfg, calls })
  await rows.prepare()
  const size = [height / settings.factor, width / settings.factor] as const
  return { hires, rows, sampling: second.sampling, sized: { ...sized, size } }
}

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

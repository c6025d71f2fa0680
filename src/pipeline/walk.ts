import type { DrawNoise, Predict, Sampling } from "../diffusion/types.ts"
import { fail } from "../errors.ts"
import { type Picture, pictureFromPlanes } from "../image/pixels.ts"
import { f32 } from "../runtime/engine.ts"
import { AttentionSum } from "./attention.ts"
import type { Sized } from "./autoencode.ts"
import { Controls } from "./control.ts"
import type { GenerateStep, Job } from "./generate.ts"
import { coloursOf, latentPreview } from "./preview.ts"
import type { Rows } from "./rows.ts"
import { CachedDenoise, type Denoise, plainDenoise } from "./shortcuts.ts"
import type { Start } from "./start.ts"

/** One way down the noise levels, for one picture. */
export interface Pass {
  readonly rows: Rows
  readonly sampling: Sampling
  readonly sized: Sized
  /** Pixels. */
  readonly width: number
  readonly height: number
  readonly start: Start
  readonly noise: DrawNoise
  readonly seed: number
  /** Name of its timesteps in a trace. */
  readonly traced: string
  /** Called before each denoiser call, counted from 0. */
  at?(call: number): Promise<void>
  /** Which picture it is, the steps taken before, all steps, and the share of the work from where to where. */
  readonly about: {
    readonly picture: number
    readonly before: number
    readonly steps: number
    readonly from: number
    readonly to: number
  }
}

/** Walks a sampler from its start latents to the result. @throws NOT_FINITE */
export async function* walk(job: Job, pass: Pass): AsyncGenerator<GenerateStep, Float32Array> {
  const { settings, networks, trace, signal } = job
  const { rows, sampling, sized, start, noise, seed, about } = pass
  const watch = job.watched && about.picture + about.before === 0 ? watchFor(job, sized) : null
  const controls = await controlsOf(job, pass)
  const how = { watched: watch !== null, wrap: settings.wrap }
  const net = await denoiseOf(job, pass, controls, how)
  const colours = await coloursOf(networks, sized)
  const times: number[] = []
  const predict: Predict = async (x, t) => {
    signal?.throwIfAborted()
    times.push(t)
    await pass.at?.(times.length - 1)
    const index = times.length - 1
    return rows.predict(net, { x, t, index, size: sized.size, extra: start.extra, controls, watch }) // ε_θ(z_t, t, τ(y))
  }
  let x = start.x
  for await (const step of sampling.run({ predict, x, noise, seed, rng: settings.rng })) {
    signal?.throwIfAborted()
    if (!step.x0.every(Number.isFinite)) overflow(step.index)
    if (start.protect) protect(step.x, start.protect, sampling, step.index)
    x = step.x
    yield {
      phase: "denoise",
      picture: about.picture,
      step: about.before + step.index + 1,
      steps: Math.max(about.steps, about.before + step.total),
      progress: Math.min(1, about.from + ((about.to - about.from) * (step.index + 1)) / step.total),
      preview: () => latentPreview(step.x0, sized, colours),
      look: looker(networks, step.x0.slice(), sized),
    }
  }
  await controls?.end()
  await net.end()
  if (watch) job.watched?.(watch.maps())
  trace?.set(pass.traced, f32(Float32Array.from(times), [times.length]))
  return x
}

/** The denoiser, whole at every call or with its deep part kept over some. */
async function denoiseOf(
  { networks, settings: { shortcuts } }: Job,
  { sized: { size } }: Pass,
  controls: Controls | null,
  how: { watched: boolean; wrap: Job["settings"]["wrap"] },
): Promise<Denoise> {
  const parts = { ...controls?.parts, merge: shortcuts.tokenMerge }
  if (shortcuts.stepCache === 1 || how.watched)
    return plainDenoise(await networks.denoiser(...size, parts, how))
  const whole = await networks.denoiser(...size, { ...parts, deep: "told" }, how)
  const last = await networks.denoiser(...size, { ...parts, deep: "given" }, how)
  return new CachedDenoise(whole, last, shortcuts.stepCache)
}

/** Decodes an estimate when somebody wants to see it. */
const looker =
  (networks: Job["networks"], x0: Float32Array, { size, channels }: Sized) =>
  async (): Promise<Picture | null> => {
    const previewer = await networks.previewer(...size)
    if (!previewer) return null
    const z = x0.map((v) => v / previewer.scaling.scaling_factor)
    const { image } = await previewer.net.run({ latents: f32(z, [1, channels, ...size]) })
    const [, , height, width] = image!.shape as [number, number, number, number]
    return pictureFromPlanes(image!.data as Float32Array, width, height)
  }

/** Watches the tokens of the prompt's first part, as its first tokenizer cuts them. */
function watchFor({ plan, networks }: Job, { size }: Sized): AttentionSum {
  return new AttentionSum(size, plan.tokens(), networks.texts[0]!.max_position_embeddings)
}

async function controlsOf({ networks, settings, controls = [] }: Job, pass: Pass): Promise<Controls | null> {
  if (controls.length === 0) return null
  const { sampling, sized, width, height } = pass
  const calls = sampling.timesteps.length || settings.steps
  return Controls.prepare(networks, controls, { width, height, size: sized.size, calls })
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

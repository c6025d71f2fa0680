import { interpolate } from "../diffusion/interpolate.ts"
import { callsOf, type Sampling } from "../diffusion/types.ts"
import { planesFromPicture } from "../image/pixels.ts"
import { cut } from "../image/region.ts"
import { f32 } from "../runtime/engine.ts"
import { decode, encode, type Sized } from "./autoencode.ts"
import { enlarge } from "./enlarge.ts"
import type { GenerateStep, Job } from "./generate.ts"
import { type Hires, isLatent, latentUpscalers } from "./hires.ts"
import type { Rows } from "./rows.ts"
import { noiseOf } from "./start.ts"
import { type Pass, walk } from "./walk.ts"

/** What a second pass reads beside the job: its own prompt rows and sampler. */
export interface SecondPass {
  readonly hires: Hires
  readonly rows: Rows
  readonly sampling: Sampling
  readonly sized: Sized
}

/**
 * The enlarged result of the first pass is noised by the picture's seed anew and drawn once more (A1111's
 * sample_hr_pass).
 * @param z latents of the first pass
 */
export async function* secondPass(
  job: Job,
  { hires, rows, sampling, sized }: SecondPass,
  z: Float32Array,
  first: Sized,
  about: Pass["about"],
): AsyncGenerator<GenerateStep, Float32Array> {
  const { trace, networks } = job
  const drawn = noiseOf(job.settings, sized, about.picture)
  const shape = [1, sized.channels, ...sized.size]
  const noise = drawn.first()
  trace?.add("hires.noise", f32(noise, shape))
  trace?.add("hires.first", f32(z, [1, first.channels, ...first.size]))
  const x0 = isLatent(hires.upscaler)
    ? grown(z, first, hires, sized)
    : await redrawn(job, z, first, hires, drawn.noise)
  if (job.frugal && !networks.sharesDenoiser(first.size, sized.size)) await networks.release("unet")
  const start = { x: sampling.noised(x0, noise), extra: null, protect: null }
  const { width, height } = hires
  // adapters that follow the run begin anew, over as many calls as this pass has
  const [before, here] = [job.sampling, sampling].map(callsOf)
  const at = (call: number) => job.at?.(Math.trunc((call * before!) / here!)) ?? Promise.resolve()
  const pass = { width, height, rows, sampling, sized, start, at, about, traced: "hires.timesteps" }
  return yield* walk(job, { ...pass, noise: drawn.noise, seed: drawn.seed })
}

/** Latents enlarged, and cut evenly where the result is smaller. */
function grown(z: Float32Array, first: Sized, hires: Hires, { size: [h, w], channels }: Sized): Float32Array {
  if (!isLatent(hires.upscaler)) return z
  const factor = hires.width / w
  const [width, height] = hires.grown.map((n) => n / factor) as [number, number]
  const large = interpolate(z, first.size, [height, width], latentUpscalers[hires.upscaler].mode)
  const [top, left] = [Math.floor((height - h) / 2), Math.floor((width - w) / 2)]
  const out = new Float32Array(channels * h * w)
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < h; y++) {
      const from = (c * height + top + y) * width + left
      out.set(large.subarray(from, from + w), (c * h + y) * w)
    }
  return out
}

/** The decoded picture enlarged and encoded again. */
async function redrawn(
  job: Job,
  z: Float32Array,
  first: Sized,
  { upscaler, grown, width, height }: Hires,
  noise: () => Float32Array,
): Promise<Float32Array> {
  const picture = await decode({ ...job, trace: null }, z, first)
  const large = await enlarge(picture, grown[0], grown[1], await job.upscaler?.(upscaler))
  const [left, top] = [Math.floor((grown[0] - width) / 2), Math.floor((grown[1] - height) / 2)]
  const part = cut(large, [left, top, left + width, top + height])
  return encode(job, { data: planesFromPicture(part), channels: 3, height, width }, noise)
}

import type { StepNoise } from "../brownian.ts"
import type { NoiseLevels } from "../denoiser.ts"
import type { Weighted } from "../latent.ts"
import type { Denoise } from "../types.ts"

export interface SamplerOptions {
  /** Share of fresh noise per step. Ancestral and SDE samplers 1; ddim, tcd, dpm-fast and dpm-adaptive 0. */
  readonly eta?: number
  /** Multiplies all fresh noise, 1. */
  readonly sNoise?: number
  /** Karras et al. 2022, Alg. 2: noise added before steps of euler, heun and dpm2 between two sigmas; 0. */
  readonly sChurn?: number
  readonly sTmin?: number
  readonly sTmax?: number
  /** dpmpp-2m-sde: `midpoint` or `heun`; unipc: `bh1` or `bh2`. */
  readonly solver?: string
}

/** Everything a sampler sees. It goes on with the very array it yields, so a caller may change that in place. */
export interface KRun {
  readonly denoise: Denoise
  /** Noisy latents at sigmas[0]. */
  readonly x: Float32Array
  /** Falling noise levels; a last 0 is the clean picture. */
  readonly sigmas: readonly number[]
  readonly noise: StepNoise
  readonly levels: NoiseLevels
  readonly options: SamplerOptions
}

export interface KStep {
  readonly x: Float32Array
  readonly x0: Float32Array
}

/** What is known of a run before it starts. */
export interface Plan {
  /** Noise level of each denoiser call. */
  readonly calls: readonly number[]
  /** Noise level after each step. */
  readonly after: readonly number[]
}

export type PlanRun = Pick<KRun, "sigmas" | "levels" | "options">

export interface KSampler {
  readonly run: (run: KRun) => AsyncGenerator<KStep, void>
  /** Absent where the steps depend on the picture. */
  readonly plan?: (run: PlanRun) => Plan
}

/** Plan of samplers that take one step from each level to the next, calling the denoiser as `calls` says. */
export const stepwise =
  (calls: (sigma: number, next: number, index: number, run: PlanRun) => readonly number[]) =>
  (run: PlanRun): Plan => ({
    calls: run.sigmas.slice(0, -1).flatMap((s, i) => calls(s, run.sigmas[i + 1]!, i, run)),
    after: run.sigmas.slice(1),
  })

export const oneCall = stepwise((sigma) => [sigma])

/** Level to step down to, and deviation of the noise to add, so that the step ends at `next`. */
export function ancestral(sigma: number, next: number, eta: number): [down: number, up: number] {
  if (eta === 0 || next === 0) return [next, 0]
  const up = Math.min(next, eta * Math.sqrt((next ** 2 * (sigma ** 2 - next ** 2)) / sigma ** 2))
  return [Math.sqrt(Math.max(next ** 2 - up ** 2, 0)), up]
}

/** Fresh noise of a deviation as a term of a mix; none is drawn for 0. */
export function fresh({ noise, options }: KRun, up: number, sigma: number, next: number): Weighted[] {
  return up > 0 ? [[up * (options.sNoise ?? 1), noise(sigma, next)]] : []
}

/** Slope dx/dsigma = (x - x0) / sigma as terms of a mix. */
export const slope = (weight: number, sigma: number, x: Float32Array, x0: Float32Array): Weighted[] => [
  [weight / sigma, x],
  [-weight / sigma, x0],
]

/** Euler's step of the probability flow: x + (next - sigma) dx/dsigma. */
export const flow = (sigma: number, next: number, x: Float32Array, x0: Float32Array): Weighted[] => [
  [next / sigma, x],
  [1 - next / sigma, x0],
]

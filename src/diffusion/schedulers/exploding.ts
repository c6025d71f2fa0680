import type { Asked } from "./define.ts"
import { oneSigmaSpacing } from "./define.ts"
import { interpolate, roundEven } from "./numpy.ts"
import { f32, sqrt } from "./pictures.ts"
import type { Solver } from "./sampling.ts"
import { logSigmasOf, respaced, type SigmaKeys, timestepOf } from "./sigmas.ts"
import { type SpacingKeys, spacedTimesteps } from "./spacing.ts"
import { trained } from "./training.ts"

/** Keys that every scheduler over x0 + sigma * noise has in common. */
export type ExplodingKeys = SpacingKeys & SigmaKeys & Parameters<typeof trained>[0]

export interface Schedule {
  /** Timesteps in double, one per step. */
  readonly timesteps: readonly number[]
  /** Falling float32 sigmas, one per step, without the end. */
  readonly sigmas: readonly number[]
  /** The same before rounding. */
  readonly exact: readonly number[]
  /** Logarithms of the training sigmas. */
  readonly logSigmas: Float32Array
}

/** Sigmas at the spaced timesteps, or the spacing the keys ask for with the timesteps that belong to it. */
export function explodingSchedule(
  keys: ExplodingKeys,
  { steps }: Asked,
  { double = false, wholeKarras = false } = {},
): Schedule {
  oneSigmaSpacing(keys)
  const training = trained(keys).sigmas
  const logSigmas = logSigmasOf(training)
  const fractional = spacedTimesteps(keys, steps, true)
  const spaced = double ? fractional : fractional.map(f32)
  const plain = spaced.map((t) => interpolate(t, training))
  const sigmas = respaced(keys, plain, steps)
  if (!sigmas) return { timesteps: spaced, sigmas: plain.map(f32), exact: plain, logSigmas }
  const times = sigmas.map((sigma) => timestepOf(sigma, logSigmas))
  const timesteps = wholeKarras && keys.use_karras_sigmas ? times.map(roundEven) : times
  return { timesteps, sigmas: sigmas.map(f32), exact: sigmas, logSigmas }
}

/** sqrt(sigma^2 + 1): latents are divided by it before the network sees them. */
export const inputScaleOf = (sigma: number): number => sqrt(f32(f32(sigma * sigma) + 1))

/** Pure noise has the first sigma, or with `leading` spacing that of clean latents under it. */
export function startScale(spacing: SpacingKeys["timestep_spacing"], sigmas: readonly number[]): number {
  const most = Math.max(...sigmas)
  return spacing === "leading" ? inputScaleOf(most) : most
}

/** What the solvers over x0 + sigma * noise share. `sigmas` has an entry per network call. */
export const explodingSolver = (
  keys: { timestep_spacing: SpacingKeys["timestep_spacing"] },
  timesteps: readonly number[],
  sigmas: readonly number[],
  begin: Solver["begin"],
): Solver => ({
  timesteps,
  startScale: startScale(keys.timestep_spacing, sigmas),
  inputScale: (index) => inputScaleOf(sigmas[index]!),
  shares: (index) => ({ signal: 1, noise: sigmas[index]! }),
  begin,
})

/** Each entry but the first twice: the calls of two-call steps. */
export const twice = <T>(values: readonly T[]): T[] => values.flatMap((v, i) => (i === 0 ? [v] : [v, v]))

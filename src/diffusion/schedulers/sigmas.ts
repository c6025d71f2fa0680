import { betaQuantile } from "./beta-quantile.ts"
import { linspace, log32 } from "./numpy.ts"
import { f32 } from "./pictures.ts"

export interface SigmaKeys {
  readonly use_karras_sigmas: boolean
  readonly use_exponential_sigmas: boolean
  readonly use_beta_sigmas: boolean
  readonly sigma_min: number | null
  readonly sigma_max: number | null
}

/** From `max` to `min`, evenly in sigma^(1/rho): Karras et al. 2022, eq. 5. */
export function karrasSigmas(min: number, max: number, steps: number, rho = 7): number[] {
  const from = max ** (1 / rho)
  const to = min ** (1 / rho)
  return linspace(0, 1, steps).map((ramp) => (from + ramp * (to - from)) ** rho)
}

const exponentialSigmas = (min: number, max: number, steps: number): number[] =>
  linspace(Math.log(max), Math.log(min), steps).map(Math.exp)

/** Dense at both ends: Lee et al. 2024, "Beta Sampling is All You Need". */
const betaSigmas = (min: number, max: number, steps: number): number[] =>
  linspace(0, 1, steps).map((u) => min + betaQuantile(1 - u, 0.6) * (max - min))

/** Sigmas of the spacing the keys ask for between the ends of `sigmas` (falling), or undefined where they ask none. */
export function respaced(keys: SigmaKeys, sigmas: ArrayLike<number>, steps: number): number[] | undefined {
  const min = keys.sigma_min ?? sigmas[sigmas.length - 1]!
  const max = keys.sigma_max ?? sigmas[0]!
  if (keys.use_karras_sigmas) return karrasSigmas(min, max, steps)
  if (keys.use_exponential_sigmas) return exponentialSigmas(min, max, steps)
  if (keys.use_beta_sigmas) return betaSigmas(min, max, steps)
  return undefined
}

/** Evenly in log sigma: Lu et al. 2022 (DPM-Solver), section 4. */
export const luSigmas = (logSigmas: Float32Array, steps: number): number[] =>
  linspace(0, 1, steps).map((ramp) => {
    const [from, to] = [logSigmas.at(-1)!, logSigmas[0]!]
    return Math.exp(from + ramp * (to - from))
  })

/** sigma -> shift sigma / (1 + (shift - 1) sigma): Esser et al. 2024, eq. 23. */
export const shifted = (sigma: number, shift: number): number => (shift * sigma) / (1 + (shift - 1) * sigma)

/** Falling sigmas of a straight flow, the clean end left out. */
export const flowSigmas = (train: number, shift: number, steps: number): number[] =>
  linspace(1, 1 / train, steps + 1)
    .map((alpha) => shifted(1 - alpha, shift))
    .reverse()
    .slice(0, -1)

/** Logarithms of the training sigmas as numpy rounds them. */
export const logSigmasOf = (sigmas: Float32Array): Float32Array => sigmas.map(log32)

/** Last training sigma not above the given one. */
function lowerIndex(logSigma: number, logSigmas: Float32Array): number {
  let low = 0
  for (let i = 0; i < logSigmas.length; i++) if (logSigmas[i]! <= logSigma) low = i
  return Math.min(low, logSigmas.length - 2)
}

/** Timestep at which the training schedule has this sigma, linear in log sigma. */
export function timestepOf(sigma: number, logSigmas: Float32Array): number {
  const logSigma = Math.log(Math.max(sigma, 1e-10))
  const i = lowerIndex(logSigma, logSigmas)
  const low = logSigmas[i]!
  const w = Math.max(0, Math.min(1, (low - logSigma) / f32(low - logSigmas[i + 1]!)))
  return (1 - w) * i + w * (i + 1)
}

/** The same for a float32 sigma, where diffusers' arithmetic is float32 throughout. */
export function timestepOf32(sigma: number, logSigmas: Float32Array): number {
  const logSigma = log32(Math.max(sigma, f32(1e-10)))
  const i = lowerIndex(logSigma, logSigmas)
  const low = logSigmas[i]!
  const w = Math.max(0, Math.min(1, f32(f32(low - logSigma) / f32(low - logSigmas[i + 1]!))))
  return f32(f32(f32(1 - w) * i) + f32(w * (i + 1)))
}

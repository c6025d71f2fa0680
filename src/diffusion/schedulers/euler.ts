import { linspace32, sigmaOf } from "../betas.ts"
import { type Asked, define, type ShapeKeys } from "./define.ts"
import { explodingSchedule, explodingSolver } from "./exploding.ts"
import * as k from "./keys.ts"
import { along, exp, f32, log, slopeOf, sqrt } from "./pictures.ts"
import { cleanFromExploding } from "./prediction.ts"
import type { Answer, Call } from "./sampling.ts"
import { respaced } from "./sigmas.ts"
import { trained } from "./training.ts"

/** x + (x - x0) / sigma * (to - sigma): Karras et al. 2022, algorithm 1. */
export const eulerStep = (x: Float32Array, x0: Float32Array, sigma: number, to: number): Float32Array =>
  along(x, slopeOf(x, x0, sigma), f32(to - sigma))

const eulerShape = {
  ...k.training(),
  ...k.prediction("epsilon", "sample", "v_prediction", "original_sample"),
  ...k.spacing("linspace"),
  ...k.sigmaSpacing,
  ...k.zeroSnr,
  ...k.finalSigma,
  interpolation_type: k.choice(["linear", "log_linear"], "linear"),
  timestep_type: k.choice(["discrete", "continuous"], "discrete"),
}
type EulerKeys = ShapeKeys<typeof eulerShape>

/** Sigmas of Euler's schedule with their end. */
function eulerSchedule(keys: EulerKeys, asked: Asked): { timesteps: readonly number[]; sigmas: number[] } {
  const { alphasCumprod } = trained(keys)
  const end = keys.final_sigmas_type === "zero" ? 0 : sigmaOf(alphasCumprod[0]!)
  const plain = explodingSchedule(keys, asked)
  if (keys.interpolation_type === "linear") return { ...plain, sigmas: [...plain.sigmas, end] }
  // one sigma more than steps: the last step ends at the least training sigma
  const even = linspace32(plain.logSigmas.at(-1)!, plain.logSigmas[0]!, asked.steps + 1).map(exp)
  const spaced = respaced(keys, even, asked.steps)
  if (!spaced) return { timesteps: plain.timesteps, sigmas: [...even, end] }
  const ends = { ...keys, sigma_min: keys.sigma_min ?? even.at(-1)!, sigma_max: keys.sigma_max ?? even[0]! }
  const respacedSchedule = explodingSchedule(ends, asked)
  return { ...respacedSchedule, sigmas: [...respacedSchedule.sigmas, end] }
}

/** Euler's method on the probability flow, Karras et al. 2022, algorithm 1 without churn. */
export const euler = define(eulerShape, (keys, asked) => {
  const { timesteps, sigmas } = eulerSchedule(keys, asked)
  const kind = keys.prediction_type === "original_sample" ? "sample" : keys.prediction_type
  const continuous = keys.timestep_type === "continuous" && kind === "v_prediction"

  const step = ({ raw, x, index }: Call): Answer => {
    const sigma = sigmas[index]!
    const x0 = cleanFromExploding(kind, sigma, x, raw)
    return { x: eulerStep(x, x0, sigma, sigmas[index + 1]!), x0 }
  }
  const seen = continuous ? sigmas.slice(0, -1).map((s) => f32(0.25 * log(s))) : timesteps.map(f32)
  return explodingSolver(keys, seen, sigmas, () => step)
})

/** Where an ancestral step stops, and the noise that is added there: Karras et al. 2022, as k-diffusion splits it. */
export function ancestral(from: number, to: number): { up: number; down: number } {
  const square = f32(to * to)
  const fromSquare = f32(from * from)
  const up = sqrt(f32(f32(square * f32(fromSquare - square)) / fromSquare))
  return { up, down: sqrt(Math.max(0, f32(square - f32(up * up)))) }
}

/** Euler's method with noise added after each step. */
export const eulerAncestral = define(
  {
    ...k.training(),
    ...k.prediction("epsilon", "v_prediction"),
    ...k.spacing("linspace"),
    ...k.zeroSnr,
  },
  (keys, asked) => {
    const plain = { use_karras_sigmas: false, use_exponential_sigmas: false, use_beta_sigmas: false }
    const schedule = explodingSchedule({ ...keys, ...plain, sigma_min: null, sigma_max: null }, asked)
    const sigmas = [...schedule.sigmas, 0]

    const step = ({ raw, x, index, noise }: Call): Answer => {
      const sigma = sigmas[index]!
      const x0 = cleanFromExploding(keys.prediction_type, sigma, x, raw)
      const { up, down } = ancestral(sigma, sigmas[index + 1]!)
      return { x: along(eulerStep(x, x0, sigma, down), noise(), up), x0 }
    }
    return explodingSolver(keys, schedule.timesteps.map(f32), sigmas, () => step)
  },
)

import { define } from "./define.ts"
import { explodingSchedule, explodingSolver } from "./exploding.ts"
import * as k from "./keys.ts"
import { along, f32, mix, slopeOf, type Weighted } from "./pictures.ts"
import { cleanFromExploding } from "./prediction.ts"
import type { Rule } from "./sampling.ts"

// two-point Gauss-Legendre: exact for the cubics below
const nodes = [-1 / Math.sqrt(3), 1 / Math.sqrt(3)] as const

/** Integral over the next step of the polynomial that is 1 at one known sigma and 0 at the others. */
function coefficient(sigmas: readonly number[], at: number, order: number, current: number): number {
  const [from, to] = [sigmas[at]!, sigmas[at + 1]!]
  const basis = (tau: number): number => {
    let product = 1
    for (let j = 0; j < order; j++) {
      if (j !== current) product *= (tau - sigmas[at - j]!) / (sigmas[at - current]! - sigmas[at - j]!)
    }
    return product
  }
  const half = (to - from) / 2
  return half * nodes.reduce((sum, node) => sum + basis(from + half * (1 + node)), 0)
}

/** Linear multistep of order four in sigma: Katherine Crowson's k-diffusion, `sample_lms`. */
export const lms = define(
  {
    ...k.training(),
    ...k.prediction("epsilon", "sample", "v_prediction"),
    ...k.spacing("linspace"),
    ...k.sigmaSpacing,
  },
  (keys, asked) => {
    // the Karras spacing of this class reads its ends from the schedule only
    const ends = keys.use_karras_sigmas ? { ...keys, sigma_min: null, sigma_max: null } : keys
    const schedule = explodingSchedule(ends, asked)
    const sigmas = [...schedule.sigmas, 0]

    const begin = (): Rule => {
      const slopes: Float32Array[] = []
      return ({ raw, x, index }) => {
        const sigma = sigmas[index]!
        const x0 = cleanFromExploding(keys.prediction_type, sigma, x, raw)
        slopes.unshift(slopeOf(x, x0, sigma))
        slopes.splice(4)
        // the order counts from the schedule's start, so image to image may know fewer slopes than it has weights for
        const order = Math.min(index + 1, 4)
        const terms = slopes.map((slope, i): Weighted => [f32(coefficient(sigmas, index, order, i)), slope])
        return { x: along(x, mix(...terms), 1), x0 }
      }
    }
    return explodingSolver(keys, schedule.timesteps.map(f32), sigmas, begin)
  },
)

import { define } from "./define.ts"
import { ancestral, eulerStep } from "./euler.ts"
import { type ExplodingKeys, explodingSchedule, explodingSolver, inputScaleOf, twice } from "./exploding.ts"
import * as k from "./keys.ts"
import { along, bounded, exp, f32, lerp, log, slopeOf } from "./pictures.ts"
import { cleanFromExploding } from "./prediction.ts"
import type { Rule, Solver } from "./sampling.ts"
import { timestepOf32 } from "./sigmas.ts"

const shape = {
  ...k.karrasTraining(),
  ...k.spacing("linspace"),
  ...k.sigmaSpacing,
}

/** Heun's method, Karras et al. 2022, algorithm 1 without churn: the second call sees the Euler step's end. */
export const heun = define(
  {
    ...shape,
    ...k.training(0.00085, 0.012, "linear", ["exp"]),
    ...k.prediction("epsilon", "sample", "v_prediction"),
    ...k.clipping(false),
  },
  (keys, asked) => {
    const schedule = explodingSchedule(keys, asked)
    const sigmas = [...twice(schedule.sigmas), 0]

    const begin = (): Rule => {
      let held: { x: Float32Array; slope: Float32Array } | undefined
      return ({ raw, x, index }) => {
        const sigma = sigmas[index]!
        const x0 = bounded(cleanFromExploding(keys.prediction_type, sigma, x, raw), keys)
        const slope = slopeOf(x, x0, sigma)
        if (!held) {
          held = { x, slope }
          return { x: along(x, slope, f32(sigmas[index + 1]! - sigma)), x0 }
        }
        const mean = slope.map((v, i) => f32(held!.slope[i]! + v) / 2)
        const next = along(held.x, mean, f32(sigma - sigmas[index - 1]!))
        held = undefined
        return { x: next, x0 }
      }
    }
    const solver = explodingSolver(keys, twice(schedule.timesteps).map(f32), sigmas, begin)
    return { ...solver, callsPerStep: 2 }
  },
)

interface MidpointStep {
  readonly sigma: number
  /** Sigma of the second call. */
  readonly middle: number
  /** Where the step ends before noise is added. */
  readonly down: number
  readonly up: number
}

/** Two calls per step, the second between the step's ends: Karras et al. 2022, algorithm 2 (DPM-Solver-2). */
function midpointSolver(
  keys: { prediction_type: "epsilon" | "v_prediction"; timestep_spacing: ExplodingKeys["timestep_spacing"] },
  schedule: ReturnType<typeof explodingSchedule>,
  steps: readonly MidpointStep[],
  noisy: boolean,
): Solver {
  // diffusers keeps the karras timesteps in double: their float32 form is what the network sees
  const timesteps = schedule.timesteps.flatMap((t, i) =>
    i + 1 < steps.length ? [t, timestepOf32(steps[i]!.middle, schedule.logSigmas)] : [t],
  )
  const begin = (): Rule => {
    let held: Float32Array | undefined
    return ({ raw, x, index, noise }) => {
      const { sigma, middle, down, up } = steps[index >> 1]!
      const at = held ? middle : sigma
      const x0 = cleanFromExploding(keys.prediction_type, at, x, raw)
      if (!held) {
        held = x
        return { x: eulerStep(x, x0, sigma, middle), x0 }
      }
      const next = along(held, slopeOf(x, x0, middle), f32(down - sigma))
      held = undefined
      return { x: noisy ? along(next, noise(), up) : next, x0 }
    }
  }
  const sigmas = [...twice(schedule.sigmas), 0, 0]
  return {
    ...explodingSolver(keys, timesteps.map(f32), sigmas, begin),
    inputScale: (index) => inputScaleOf(index % 2 === 0 ? sigmas[index]! : steps[index >> 1]!.middle),
    callsPerStep: 2,
  }
}

/** Geometric mean of two sigmas in float32. */
const between = (a: number, b: number): number => (b === 0 ? 0 : exp(lerp(log(a), log(b), 0.5)))

const midpointShape = { ...shape, ...k.prediction("epsilon", "v_prediction") }

/** DPM2 of k-diffusion. */
export const kdpm2 = define(midpointShape, (keys, asked) => {
  const schedule = explodingSchedule(keys, asked, { wholeKarras: true })
  const steps = schedule.sigmas.map((sigma, i) => {
    const next = schedule.sigmas[i + 1] ?? 0
    return { sigma, middle: next === 0 ? 0 : between(next, sigma), down: next, up: 0 }
  })
  return midpointSolver(keys, schedule, steps, false)
})

/** DPM2 of k-diffusion with noise added after each step. */
export const kdpm2Ancestral = define(midpointShape, (keys, asked) => {
  const schedule = explodingSchedule(keys, asked, { wholeKarras: true })
  const steps = schedule.sigmas.map((sigma, i) => {
    const split = ancestral(sigma, schedule.sigmas[i + 1] ?? 0)
    return { sigma, middle: between(sigma, split.down), ...split }
  })
  return midpointSolver(keys, schedule, steps, true)
})

import { brownianTree, type StepNoise } from "../brownian.ts"
import { define } from "./define.ts"
import { ancestral, eulerStep } from "./euler.ts"
import { explodingSchedule, explodingSolver, inputScaleOf, twice } from "./exploding.ts"
import * as k from "./keys.ts"
import { exp, expm1, f32, log, mix } from "./pictures.ts"
import { cleanFromExploding } from "./prediction.ts"
import type { Solver } from "./sampling.ts"
import { timestepOf } from "./sigmas.ts"

/** Timesteps of the calls in the middle of the steps, halfway in log sigma. */
const middles = (sigmas: readonly number[], logSigmas: Float32Array): number[] =>
  sigmas.slice(1).map((next, i) => {
    const t = -Math.log(sigmas[i]!)
    return timestepOf(Math.exp(-(t + (-Math.log(next) - t) * 0.5)), logSigmas)
  })

/** Sigma halfway in log sigma, in torch's float32 steps. */
function middleOf(sigma: number, next: number): number {
  const t = -log(sigma)
  return exp(-f32(t + f32(f32(-log(next) - t) * 0.5)))
}

/** One stochastic exponential step between two sigmas. */
function exponentialStep(x: Float32Array, x0: Float32Array, from: number, to: number, noise: StepNoise) {
  const t = -log(from)
  const [start, end] = [exp(-t), exp(log(to))]
  const split = ancestral(start, end)
  const up = Math.min(end, split.up)
  const down = up === split.up ? split.down : 0
  const tDown = -log(down)
  return mix([f32(exp(-tDown) / start), x], [-expm1(f32(t - tDown)), x0], [up, noise(start, end)])
}

/** DPM-Solver++ as an SDE with a midpoint, Lu et al. 2022b in k-diffusion's form, on one Brownian path per picture. */
export const dpmSde = define(
  {
    ...k.karrasTraining(),
    ...k.prediction("epsilon", "v_prediction"),
    ...k.spacing("linspace"),
    ...k.sigmaSpacing,
    noise_sampler_seed: k.maybe,
  },
  (keys, asked) => {
    // the Karras spacing of this class reads its ends from the schedule only
    const ends = keys.use_karras_sigmas ? { ...keys, sigma_min: null, sigma_max: null } : keys
    const schedule = explodingSchedule(ends, asked, { double: true })
    const sigmas = [...twice(schedule.sigmas), 0]
    const between = middles(schedule.exact, schedule.logSigmas)
    const timesteps = schedule.timesteps.flatMap((t, i) => (i < between.length ? [t, between[i]!] : [t]))
    const middleAt = (index: number): number => middleOf(sigmas[index - 1]!, sigmas[index]!)

    const begin: Solver["begin"] = (run) => {
      // without a seed of its own diffusers takes one from the global generator, here it is the picture's
      const seed = keys.noise_sampler_seed ?? run.seed ?? 0
      let held: Float32Array | undefined
      let path: StepNoise | undefined
      return ({ raw, x, index }) => {
        const [sigma, next] = held
          ? [sigmas[index - 1]!, sigmas[index]!]
          : [sigmas[index]!, sigmas[index + 1]!]
        const seen = held ? middleAt(index) : sigma
        const x0 = cleanFromExploding(keys.prediction_type, seen, x, raw)
        if (next === 0) return { x: eulerStep(x, x0, sigma, 0), x0 }
        path ??= brownianTree(x.length, schedule.sigmas.at(-1)!, schedule.sigmas[0]!, seed, run.rng)
        const start = held
        held = start ? undefined : x
        return { x: exponentialStep(start ?? x, x0, sigma, start ? next : middleOf(sigma, next), path), x0 }
      }
    }
    return {
      ...explodingSolver(keys, timesteps, sigmas, begin),
      inputScale: (index) => inputScaleOf(index % 2 === 0 ? sigmas[index]! : middleAt(index)),
      callsPerStep: 2,
    }
  },
)

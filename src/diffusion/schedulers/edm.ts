import { linspace32 } from "../betas.ts"
import { define } from "./define.ts"
import { atMostSecondOrder, isStochastic, multistep } from "./dpm-multistep.ts"
import { eulerStep } from "./euler.ts"
import * as k from "./keys.ts"
import { linspace } from "./numpy.ts"
import { bounded, exp, f32, log, mix, sqrt } from "./pictures.ts"
import { levelOf } from "./prediction.ts"
import type { Rule, Solver } from "./sampling.ts"

const shape = {
  num_train_timesteps: k.positive(1000), // known, but the sigmas are continuous
  ...k.prediction("epsilon", "v_prediction"),
  ...k.finalSigma,
  sigma_min: k.real(0.002),
  sigma_max: k.real(80),
  sigma_data: k.real(0.5),
  sigma_schedule: k.choice(["karras", "exponential"], "karras"),
  rho: k.real(7),
}

interface EdmKeys {
  readonly sigma_min: number
  readonly sigma_max: number
  readonly sigma_data: number
  readonly sigma_schedule: "karras" | "exponential"
  readonly rho: number
  readonly prediction_type: "epsilon" | "v_prediction"
}

/** Falling sigmas in float32: Karras et al. 2022, eq. 5, or evenly in their logarithm. */
function edmSigmas(keys: EdmKeys, ramp: ArrayLike<number>, double: boolean): number[] {
  const { sigma_min: min, sigma_max: max, rho } = keys
  if (keys.sigma_schedule === "exponential") {
    return [...linspace32(Math.log(min), Math.log(max), ramp.length).map(exp)].reverse()
  }
  const [from, to] = [max ** (1 / rho), min ** (1 / rho)]
  const round = double ? (v: number) => v : f32
  return Array.from(ramp, (u) => f32(round(from + round(u * (to - from))) ** rho))
}

const squares = (sigma: number, data: number): number => f32(f32(sigma * sigma) + data * data)

/** Clean estimate by Karras' preconditioning, table 1. */
function denoised(keys: EdmKeys, sigma: number, x: Float32Array, raw: Float32Array): Float32Array {
  const square = squares(sigma, keys.sigma_data)
  const out = f32(f32(sigma * keys.sigma_data) / sqrt(square))
  const kept = f32(keys.sigma_data ** 2 / square)
  return mix([kept, x], [keys.prediction_type === "epsilon" ? out : -out, raw])
}

const edmSolver = (keys: EdmKeys, sigmas: readonly number[], begin: () => Rule): Solver => ({
  timesteps: sigmas.slice(0, -1).map((sigma) => f32(0.25 * log(sigma))),
  startScale: Math.sqrt(keys.sigma_max ** 2 + 1),
  inputScale: (index) => sqrt(squares(sigmas[index]!, keys.sigma_data)),
  shares: (index) => ({ signal: 1, noise: sigmas[index]! }),
  begin,
})

/** Euler's method on Karras' own parametrisation, Karras et al. 2022, algorithm 1 without churn. */
export const edmEuler = define(shape, (keys, { steps }) => {
  const falling = edmSigmas(keys, linspace(0, 1, steps), true)
  const sigmas = [...falling, keys.final_sigmas_type === "zero" ? 0 : falling.at(-1)!]
  return edmSolver(keys, sigmas, () => ({ raw, x, index }) => {
    const x0 = denoised(keys, sigmas[index]!, x, raw)
    return { x: eulerStep(x, x0, sigmas[index]!, sigmas[index + 1]!), x0 }
  })
})

/** DPM-Solver++ on Karras' own parametrisation, Lu et al. 2022b, algorithm 2. */
export const edmMultistep = define(
  {
    ...shape,
    ...k.thresholding,
    solver_order: k.positive(2),
    algorithm_type: k.mapped(["dpmsolver++", "sde-dpmsolver++"], ["deis"], "dpmsolver++"),
    solver_type: k.mapped(["midpoint", "heun"], ["logrho", "bh1", "bh2"], "midpoint"),
    lower_order_final: k.flag(true),
    euler_at_final: k.flag(false),
  },
  (keys, asked) => {
    const { steps } = asked
    if (isStochastic(keys.algorithm_type)) atMostSecondOrder(keys, steps, asked)
    const falling = edmSigmas(keys, linspace32(0, 1, steps), false)
    const sigmas = [...falling, keys.final_sigmas_type === "zero" ? 0 : f32(keys.sigma_min)]
    const levels = sigmas.map((sigma) => levelOf(1, sigma))
    const begin = multistep(keys, levels, ({ sigma }, x, raw) => {
      const x0 = bounded(denoised(keys, sigma, x, raw), keys)
      return { model: x0, x0 }
    })
    return edmSolver(keys, sigmas, begin)
  },
)

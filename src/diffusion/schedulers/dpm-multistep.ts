import type { PredictionType } from "../types.ts"
import { type Asked, contradiction, define } from "./define.ts"
import { type Algorithm, firstOrder, type Known, secondOrder, thirdOrder } from "./dpm-solver.ts"
import * as k from "./keys.ts"
import { cleanEstimate, type Estimate, logSnrSchedule, logSnrSolver, noiseEstimate } from "./log-snr.ts"
import type { Level } from "./prediction.ts"
import { type Rule, skippedSteps } from "./sampling.ts"

export interface MultistepKeys {
  readonly solver_order: number
  readonly algorithm_type: Algorithm
  readonly solver_type: "midpoint" | "heun"
  readonly lower_order_final: boolean
  readonly euler_at_final: boolean
  readonly final_sigmas_type: "zero" | "sigma_min"
}

export const isStochastic = (algorithm: Algorithm): boolean => algorithm.startsWith("sde")

/** Order of a step: what the history allows, lowered at the end of short schedules for stability. */
function orderAt(keys: MultistepKeys, known: number, index: number, total: number): number {
  const lowers = keys.lower_order_final && total < 15
  const last = index === total - 1 && (keys.euler_at_final || lowers || keys.final_sigmas_type === "zero")
  const second = index === total - 2 && lowers
  return Math.min(keys.solver_order, known, last ? 1 : second ? 2 : 3)
}

/** The quantity an algorithm extrapolates: the clean picture for `++`, otherwise the noise. */
export function estimateOf(keys: {
  readonly algorithm_type: Algorithm
  readonly final_sigmas_type: "zero" | "sigma_min"
  readonly prediction_type: PredictionType
}): typeof cleanEstimate {
  const { algorithm_type: algorithm } = keys
  if (algorithm.endsWith("++")) return cleanEstimate
  if (keys.final_sigmas_type === "zero") {
    contradiction("final_sigmas_type", `"zero" is not possible with algorithm_type "${algorithm}"`)
  }
  if (keys.prediction_type === "flow_prediction") {
    contradiction("prediction_type", `"flow_prediction" is not possible with algorithm_type "${algorithm}"`)
  }
  return noiseEstimate
}

/** Some SDE forms have no third order update. */
export function atMostSecondOrder(keys: MultistepKeys, total: number, { steps, strength }: Asked): void {
  const first = skippedSteps(steps, strength)
  const orders = Array.from({ length: total - first }, (_, i) => orderAt(keys, i + 1, first + i, total))
  if (Math.max(...orders) < 3) return
  contradiction("solver_order", `is at most 2 with algorithm_type "${keys.algorithm_type}"`)
}

/** The multistep update of DPM-Solver, Lu et al. 2022b, algorithm 2, over any levels. */
export const multistep =
  (
    keys: MultistepKeys,
    levels: readonly Level[],
    estimate: (level: Level, x: Float32Array, raw: Float32Array) => Estimate,
  ) =>
  (): Rule => {
    const history: Known[] = []
    return ({ raw, x, index, noise }) => {
      const level = levels[index]!
      const { model, x0 } = estimate(level, x, raw)
      history.push({ model, level })
      history.splice(0, history.length - 3)
      const options = {
        algorithm: keys.algorithm_type,
        solver: keys.solver_type,
        noise: isStochastic(keys.algorithm_type) ? noise() : undefined,
      }
      const [s2, s1, s0] = [history.at(-3), history.at(-2), history.at(-1)!]
      const to = levels[index + 1]!
      const order = orderAt(keys, history.length, index, levels.length - 1)
      if (order === 3) return { x: thirdOrder(x, [s2!, s1!, s0], to, options), x0 }
      if (order === 2) return { x: secondOrder(x, [s1!, s0], to, options), x0 }
      return { x: firstOrder(x, s0, to, options), x0 }
    }
  }

export const dpmMultistep = define(
  {
    ...k.training(),
    ...k.prediction("epsilon", "sample", "v_prediction", "flow_prediction"),
    ...k.spacing("linspace"),
    ...k.thresholding,
    ...k.sigmaSpacing,
    ...k.flow,
    ...k.dynamicShift,
    ...k.finalSigma,
    ...k.learnedVariance,
    ...k.zeroSnr,
    solver_order: k.positive(2),
    algorithm_type: k.mapped(
      ["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"],
      ["deis"],
      "dpmsolver++",
    ),
    solver_type: k.mapped(["midpoint", "heun"], ["logrho", "bh1", "bh2"], "midpoint"),
    lower_order_final: k.flag(true),
    euler_at_final: k.flag(false),
    use_lu_lambdas: k.flag(false),
    lambda_min_clipped: k.lambdaMinClipped,
  },
  (keys, asked) => {
    const estimate = estimateOf(keys)
    const schedule = logSnrSchedule({ ...keys, flow_shift: dynamicShift(keys, asked.mu) }, asked, {
      end: keys.final_sigmas_type,
      rounded: keys.beta_schedule !== "squaredcos_cap_v2",
    })
    if (keys.algorithm_type === "sde-dpmsolver") atMostSecondOrder(keys, schedule.timesteps.length, asked)
    return logSnrSolver(
      schedule,
      multistep(keys, schedule.levels, (level, x, raw) => estimate(keys, level, x, raw)),
    )
  },
)

/** Flow shift of the config, or e^mu where the pipeline gives a mu for the picture's size. */
export function dynamicShift(
  keys: { use_dynamic_shifting: boolean; flow_shift: number },
  mu?: number,
): number {
  if (mu === undefined) return keys.flow_shift
  return keys.use_dynamic_shifting
    ? Math.exp(mu)
    : contradiction("use_dynamic_shifting", "mu was given, but it is false")
}

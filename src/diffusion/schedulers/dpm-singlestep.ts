import { contradiction, define, type ShapeKeys } from "./define.ts"
import { dynamicShift, estimateOf, isStochastic } from "./dpm-multistep.ts"
import { firstOrder, type Known, singleSecond, singleThird } from "./dpm-solver.ts"
import * as k from "./keys.ts"
import { cleanEstimate, logSnrSchedule, logSnrSolver } from "./log-snr.ts"
import type { Level } from "./prediction.ts"
import type { Rule } from "./sampling.ts"

/** Orders of the steps: groups that rise to the solver's order, with lower ones at the end where they must fit. */
function orders(order: number, steps: number, lowerFinal: boolean, endsClean: boolean): number[] {
  const group = Array.from({ length: order }, (_, i) => i + 1)
  const groups = (n: number): number[] => Array.from({ length: n }, () => group).flat()
  const [whole, rest] = [Math.floor(steps / order), steps % order]
  if (rest > 0) {
    const planned = [...groups(whole), ...group.slice(0, rest)]
    return endsClean ? planned.with(-1, 1) : planned
  }
  return lowerFinal || endsClean ? [...groups(whole - 1), ...group.slice(0, order - 1), 1] : groups(whole)
}

const shape = {
  ...k.training(),
  ...k.prediction("epsilon", "sample", "v_prediction", "flow_prediction"),
  ...k.thresholding,
  ...k.sigmaSpacing,
  ...k.flow,
  ...k.dynamicShift,
  ...k.finalSigma,
  ...k.learnedVariance,
  solver_order: k.positive(2),
  algorithm_type: k.mapped(["dpmsolver", "dpmsolver++", "sde-dpmsolver++"], ["deis"], "dpmsolver++"),
  solver_type: k.mapped(["midpoint", "heun"], ["logrho", "bh1", "bh2"], "midpoint"),
  lower_order_final: k.flag(false),
  lambda_min_clipped: k.lambdaMinClipped,
}
type Keys = ShapeKeys<typeof shape>

/** Each call takes the step its place in the order list says, from where its group began. */
const rule =
  (keys: Keys, levels: readonly Level[], planned: readonly number[], estimate: typeof cleanEstimate) =>
  (): Rule => {
    const history: Known[] = []
    let start: Float32Array | undefined
    return ({ raw, x, index, noise }) => {
      const level = levels[index]!
      const { model, x0 } = estimate(keys, level, x, raw)
      history.push({ model, level })
      history.splice(0, history.length - 3)
      const options = {
        algorithm: keys.algorithm_type,
        solver: keys.solver_type,
        noise: isStochastic(keys.algorithm_type) ? noise() : undefined,
      }
      const order = Math.min(planned[index]!, history.length)
      if (order === 1 || !start) start = x
      const [s2, s1, s0] = [history.at(-3), history.at(-2), history.at(-1)!]
      const to = levels[index + 1]!
      if (order === 3) return { x: singleThird(start, [s2!, s1!, s0], to, options), x0 }
      if (order === 2) return { x: singleSecond(start, [s1!, s0], to, options), x0 }
      return { x: firstOrder(start, s0, to, options), x0 }
    }
  }

/** DPM-Solver in singlestep form, Lu et al. 2022, algorithms 1 and 2; one network call per entry of the order list. */
export const dpmSinglestep = define(shape, (keys, asked) => {
  const estimate = estimateOf(keys)
  if (keys.thresholding && estimate !== cleanEstimate) {
    contradiction("thresholding", `is not possible with algorithm_type "${keys.algorithm_type}"`)
  }
  if (keys.solver_order > 3) contradiction("solver_order", `is ${keys.solver_order}, the highest is 3`)
  const spacing = { timestep_spacing: "linspace", steps_offset: 0 } as const
  const schedule = logSnrSchedule({ ...keys, ...spacing, flow_shift: dynamicShift(keys, asked.mu) }, asked, {
    end: keys.final_sigmas_type,
  })
  const endsClean = keys.final_sigmas_type === "zero"
  const planned = orders(keys.solver_order, asked.steps, keys.lower_order_final, endsClean)
  return logSnrSolver(schedule, rule(keys, schedule.levels, planned, estimate))
})

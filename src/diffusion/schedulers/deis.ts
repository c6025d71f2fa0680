import { define } from "./define.ts"
import { dynamicShift } from "./dpm-multistep.ts"
import { firstOrder } from "./dpm-solver.ts"
import * as k from "./keys.ts"
import { cleanEstimate, logSnrSchedule, logSnrSolver } from "./log-snr.ts"
import { log32 } from "./numpy.ts"
import { f32, mix, type Weighted } from "./pictures.ts"
import { type Level, noiseFrom } from "./prediction.ts"
import type { Rule } from "./sampling.ts"

/** Antiderivative of the line that is 1 at b and 0 at c, both in log rho. */
function lineIntegral(t: number, b: number, c: number): number {
  const [lt, lb, lc] = [log32(t), log32(b), log32(c)]
  return f32(f32(t * f32(f32(-lc + lt) - 1)) / f32(lb - lc))
}

/** Antiderivative of the parabola that is 1 at b and 0 at c and d, all in log rho. */
function parabolaIntegral(t: number, b: number, c: number, d: number): number {
  const [lt, lb, lc, ld] = [log32(t), log32(b), log32(c), log32(d)]
  const first = f32(lc * f32(f32(ld - lt) + 1))
  const sum = f32(f32(f32(f32(f32(first - f32(ld * lt)) + ld) + f32(lt * lt)) - f32(2 * lt)) + 2)
  return f32(f32(t * sum) / f32(f32(lb - lc) * f32(lb - ld)))
}

const ratio = (level: Level): number => f32(level.sigma / level.alpha)

interface Known {
  readonly model: Float32Array
  readonly level: Level
}

/** x over alpha, plus the integral of the interpolated noise over rho = sigma / alpha, times alpha. */
function integrated(x: Float32Array, known: readonly Known[], to: Level): Float32Array {
  const rhos = known.map(({ level }) => ratio(level))
  const [t, s0, s1, s2] = [ratio(to), rhos[0]!, rhos[1]!, rhos[2]]
  const between = (integral: (t: number) => number): number => f32(integral(t) - integral(s0))
  const shares =
    s2 === undefined
      ? [between((r) => lineIntegral(r, s0, s1)), between((r) => lineIntegral(r, s1, s0))]
      : [
          between((r) => parabolaIntegral(r, s0, s1, s2)),
          between((r) => parabolaIntegral(r, s1, s2, s0)),
          between((r) => parabolaIntegral(r, s2, s0, s1)),
        ]
  const start = known[0]!.level.alpha
  const scaled = x.map((v) => v / start)
  const sum = mix([1, scaled], ...shares.map((share, i): Weighted => [share, known[i]!.model]))
  return sum.map((v) => v * to.alpha)
}

/** Diffusion exponential integrator sampler (log rho form), Zhang & Chen 2023, section 3.3. */
export const deis = define(
  {
    ...k.training(),
    ...k.prediction("epsilon", "sample", "v_prediction", "flow_prediction"),
    ...k.spacing("linspace"),
    ...k.thresholding,
    ...k.sigmaSpacing,
    ...k.flow,
    ...k.dynamicShift,
    solver_order: k.positive(2),
    algorithm_type: k.mapped(["deis"], ["dpmsolver", "dpmsolver++"], "deis"),
    solver_type: k.mapped(["logrho"], ["midpoint", "heun", "bh1", "bh2"], "logrho"),
    lower_order_final: k.flag(true),
  },
  (keys, asked) => {
    const schedule = logSnrSchedule({ ...keys, flow_shift: dynamicShift(keys, asked.mu) }, asked, {
      end: "sigma_min",
      respacedEnd: "last",
    })
    const { levels, timesteps } = schedule
    const short = keys.lower_order_final && timesteps.length < 15

    const begin = (): Rule => {
      const known: Known[] = []
      return ({ raw, x, index }) => {
        const level = levels[index]!
        const { x0 } = cleanEstimate(keys, level, x, raw)
        const model = noiseFrom("sample", level, x, x0)
        known.unshift({ model, level })
        known.splice(3)
        const left = timesteps.length - index
        const order = Math.min(keys.solver_order, known.length, short ? left : 3)
        const to = levels[index + 1]!
        if (order > 1) return { x: integrated(x, known.slice(0, order), to), x0 }
        return { x: firstOrder(x, known[0]!, to, { algorithm: "dpmsolver", solver: "midpoint" }), x0 }
      }
    }
    return logSnrSolver(schedule, begin)
  },
)

import { contradiction, define, type ShapeKeys } from "./define.ts"
import { dynamicShift } from "./dpm-multistep.ts"
import * as k from "./keys.ts"
import { cleanEstimate, logSnrSchedule, logSnrSolver, noiseEstimate } from "./log-snr.ts"
import { linspace } from "./numpy.ts"
import { expm1, f32, mix, type Weighted } from "./pictures.ts"
import type { Level } from "./prediction.ts"
import { type Rule, skippedSteps } from "./sampling.ts"
import { shifted } from "./sigmas.ts"

interface SolverKeys {
  readonly predict_x0: boolean
  readonly solver_type: "bh1" | "bh2"
}

/** Solves a small system in float32, with partial pivoting as LAPACK does. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!])
  const n = rows.length
  for (let c = 0; c < n; c++) {
    let pivot = c
    for (let r = c + 1; r < n; r++) if (Math.abs(rows[r]![c]!) > Math.abs(rows[pivot]![c]!)) pivot = r
    ;[rows[c], rows[pivot]] = [rows[pivot]!, rows[c]!]
    for (let r = c + 1; r < n; r++) {
      const factor = f32(rows[r]![c]! / rows[c]![c]!)
      for (let j = c; j <= n; j++) rows[r]![j] = f32(rows[r]![j]! - f32(factor * rows[c]![j]!))
    }
  }
  const out = new Array<number>(n).fill(0)
  for (let r = n - 1; r >= 0; r--) {
    let rest = rows[r]![n]!
    for (let j = r + 1; j < n; j++) rest = f32(rest - f32(rows[r]![j]! * out[j]!))
    out[r] = f32(rest / rows[r]![r]!)
  }
  return out
}

/** B(h) and the right sides of the order conditions: Zhao et al. 2023, eq. 8 and app. A. */
function conditions(keys: SolverKeys, h: number, order: number) {
  const hh = keys.predict_x0 ? -h : h
  const phi1 = expm1(hh)
  const bh = keys.solver_type === "bh1" ? hh : phi1
  let phi = f32(f32(phi1 / hh) - 1)
  let factorial = 1
  const b: number[] = []
  for (let i = 1; i <= order; i++) {
    b.push(f32(f32(phi * factorial) / bh))
    factorial *= i + 1
    phi = f32(f32(phi / hh) - f32(1 / factorial))
  }
  return { phi1, bh, b }
}

/** Powers of the relative lambdas, one row per order. */
const vandermonde = (ratios: readonly number[], order: number): number[][] => {
  const rows = [ratios.map(() => 1)]
  for (let i = 1; i < order; i++) rows.push(rows[i - 1]!.map((v, j) => f32(v * ratios[j]!)))
  return rows
}

interface Span {
  readonly from: Level
  readonly to: Level
  /** Levels before `from`, nearest first; the order is one more. */
  readonly earlier: readonly Level[]
  /** Models at `from` and before, nearest first. */
  readonly models: readonly Float32Array[]
}

/** UniP (without `arrived`) and UniC (with the model at the step's end): Zhao et al. 2023, algorithms 1 and 2. */
function unified(keys: SolverKeys, x: Float32Array, span: Span, arrived?: Float32Array): Float32Array {
  const { from, to, earlier, models } = span
  const order = earlier.length + 1
  const h = f32(to.lambda - from.lambda)
  const ratios = earlier.map((level) => f32(f32(level.lambda - from.lambda) / h))
  const { phi1, bh, b } = conditions(keys, h, order)
  const used = arrived ? order : order - 1
  const matrix = vandermonde([...ratios, 1], order).slice(0, used)
  const rhos =
    used === 1
      ? [0.5]
      : solve(
          matrix.map((r) => r.slice(0, used)),
          b.slice(0, used),
        )
  const [outer, kept] = keys.predict_x0
    ? [to.alpha, f32(to.sigma / from.sigma)]
    : [to.sigma, f32(to.alpha / from.alpha)]
  const weight = -f32(outer * bh)
  const here = models[0]!
  const terms = ratios.flatMap((ratio, i): Weighted[] => {
    const w = (weight * rhos[i]!) / ratio
    return [
      [w, models[i + 1]!],
      [-w, here],
    ]
  })
  if (arrived) terms.push([weight * rhos[order - 1]!, arrived], [-weight * rhos[order - 1]!, here])
  return mix([kept, x], [-f32(outer * phi1), here], ...terms)
}

interface FlowKeys {
  readonly num_train_timesteps: number
  readonly use_dynamic_shifting: boolean
  readonly flow_shift: number
  readonly shift_terminal: number | null
}

/** Flow sigmas of this class: from 1 down, shifted, stretched to a terminal value, never quite 1. */
const flowSigmas =
  (keys: FlowKeys, mu?: number) =>
  (steps: number): number[] => {
    const even = linspace(1, 1 / keys.num_train_timesteps, steps + 1).slice(0, -1)
    const scale = keys.use_dynamic_shifting && mu !== undefined ? Math.exp(mu) : undefined
    const moved = even.map((s) =>
      scale === undefined ? shifted(s, keys.flow_shift) : scale / (scale + (1 / s - 1)),
    )
    const stretch = keys.shift_terminal ? (1 - moved.at(-1)!) / (1 - keys.shift_terminal) : undefined
    const sigmas = stretch === undefined ? moved : moved.map((s) => 1 - (1 - s) / stretch)
    return Math.abs(sigmas[0]! - 1) < 1e-6 ? sigmas.with(0, sigmas[0]! - 1e-6) : sigmas
  }

const shape = {
  ...k.training(),
  ...k.prediction("epsilon", "sample", "v_prediction", "flow_prediction"),
  ...k.spacing("linspace"),
  ...k.thresholding,
  ...k.sigmaSpacing,
  ...k.flow,
  ...k.dynamicShift,
  ...k.finalSigma,
  ...k.zeroSnr,
  solver_order: k.positive(2),
  solver_type: k.mapped(["bh1", "bh2"], ["midpoint", "heun", "logrho"], "bh2"),
  predict_x0: k.flag(true),
  lower_order_final: k.flag(true),
  disable_corrector: k.indices,
  solver_p: k.absent,
  shift_terminal: k.maybe,
}
type Keys = ShapeKeys<typeof shape>

function check(keys: Keys, mu: number | undefined): void {
  if (keys.shift_terminal !== null && !keys.use_flow_sigmas) {
    contradiction("shift_terminal", "needs use_flow_sigmas")
  }
  if (keys.use_dynamic_shifting && mu === undefined) contradiction("use_dynamic_shifting", "needs a mu")
  dynamicShift(keys, mu)
  if (keys.predict_x0) return
  if (keys.prediction_type === "flow_prediction") {
    contradiction("prediction_type", '"flow_prediction" needs predict_x0')
  }
  if (keys.final_sigmas_type === "zero") {
    contradiction("final_sigmas_type", '"zero" needs predict_x0: noise says nothing where there is none')
  }
}

/** The multistep rule over levels; the corrector of a step runs when the model at its end is known. */
const rule = (keys: Keys, levels: readonly Level[]) => (): Rule => {
  const estimate = keys.predict_x0 ? cleanEstimate : noiseEstimate
  // the bounds apply to clean estimates only
  const bounds = keys.predict_x0 ? keys : { ...keys, thresholding: false }
  const models: Float32Array[] = []
  let held: { x: Float32Array; order: number } | undefined

  const spanAt = (index: number, order: number): Span => ({
    from: levels[index]!,
    to: levels[index + 1]!,
    earlier: Array.from({ length: order - 1 }, (_, i) => levels[index - 1 - i]!),
    models,
  })
  return ({ raw, x, index }) => {
    const { model, x0 } = estimate(bounds, levels[index]!, x, raw)
    if (held && !keys.disable_corrector.includes(index - 1)) {
      x = unified(keys, held.x, spanAt(index - 1, held.order), model)
    }
    models.unshift(model)
    models.splice(keys.solver_order)
    const left = keys.lower_order_final ? levels.length - 1 - index : Infinity
    const order = Math.min(keys.solver_order, left, models.length)
    held = { x, order }
    return { x: unified(keys, x, spanAt(index, order)), x0 }
  }
}

/** A unified predictor-corrector, Zhao et al. 2023, algorithms 1 and 2. */
export const unipc = define(shape, (keys, asked) => {
  const { steps, strength, mu } = asked
  check(keys, mu)
  const schedule = logSnrSchedule(keys, asked, {
    end: keys.final_sigmas_type,
    respacedEnd: keys.final_sigmas_type === "zero" ? "zero" : "last",
    flow: flowSigmas(keys, mu),
    karrasFlow: keys.use_flow_sigmas,
  })
  const remaining = schedule.timesteps.length - skippedSteps(steps, strength)
  if (
    keys.final_sigmas_type === "zero" &&
    Math.min(keys.solver_order, remaining) > 1 &&
    !keys.lower_order_final
  ) {
    contradiction("lower_order_final", 'final_sigmas_type "zero" needs a last step of first order')
  }
  return logSnrSolver(schedule, rule(keys, schedule.levels))
})

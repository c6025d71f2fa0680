import { exp, f32, mix, sqrt, type Weighted } from "./pictures.ts"
import type { Level } from "./prediction.ts"

export type Algorithm = "dpmsolver" | "dpmsolver++" | "sde-dpmsolver" | "sde-dpmsolver++"

/** Weights of one step of a solver in log-SNR time. */
interface StepWeights {
  readonly x: number
  /** Of the model's value at the step's start. */
  readonly d0: number
  /** Of its first derivative: half a step of the value (midpoint), or integrated exactly (heun). */
  readonly d1: { readonly midpoint: number; readonly heun: number }
  /** Of its second derivative. */
  readonly d2: number
  readonly noise: number
}

/** (e^z - 1) / z - 1 and its like lose digits exactly as torch's float32 does. */
const over = (a: number, b: number): number => f32(a / b)

/** Weights from one level to another: Lu et al. 2022 (noise), Lu et al. 2022b (`++`: data), SDE forms of the latter. */
const weights: Record<Algorithm, (from: Level, to: Level, h: number) => StepWeights> = {
  "dpmsolver++": (from, to, h) => {
    const e = f32(exp(-h) - 1)
    const d0 = -f32(to.alpha * e)
    const heun = f32(to.alpha * f32(over(e, h) + 1))
    const d2 = -f32(to.alpha * f32(over(f32(e + h), f32(h * h)) - 0.5))
    return { x: over(to.sigma, from.sigma), d0, d1: { midpoint: 0.5 * d0, heun }, d2, noise: 0 }
  },
  dpmsolver: (from, to, h) => {
    const e = f32(exp(h) - 1)
    const d0 = -f32(to.sigma * e)
    const heun = -f32(to.sigma * f32(over(e, h) - 1))
    const d2 = -f32(to.sigma * f32(over(f32(e - h), f32(h * h)) - 0.5))
    return { x: over(to.alpha, from.alpha), d0, d1: { midpoint: 0.5 * d0, heun }, d2, noise: 0 }
  },
  "sde-dpmsolver++": (from, to, h) => {
    const e = f32(1 - exp(-2 * h))
    const d0 = f32(to.alpha * e)
    const heun = f32(to.alpha * f32(over(e, -2 * h) + 1))
    const d2 = f32(to.alpha * f32(over(f32(e - 2 * h), f32(4 * f32(h * h))) - 0.5))
    const x = f32(over(to.sigma, from.sigma) * exp(-h))
    return { x, d0, d1: { midpoint: 0.5 * d0, heun }, d2, noise: f32(to.sigma * sqrt(e)) }
  },
  "sde-dpmsolver": (from, to, h) => {
    const e = f32(exp(h) - 1)
    const d0 = -2 * f32(to.sigma * e)
    const heun = -2 * f32(to.sigma * f32(over(e, h) - 1))
    const noise = f32(to.sigma * sqrt(f32(exp(2 * h) - 1)))
    return { x: over(to.alpha, from.alpha), d0, d1: { midpoint: 0.5 * d0, heun }, d2: Number.NaN, noise }
  },
}

/** A model value and the level it was estimated at. */
export interface Known {
  readonly model: Float32Array
  readonly level: Level
}

/** A value or derivative of the model as a weighted sum of known pictures. */
type Terms = readonly Weighted[]
const times = (factor: number, terms: Terms): Terms =>
  terms.map(([w, picture]): Weighted => [factor * w, picture])
const difference = (a: Known, b: Known, r: number): Terms => [
  [1 / r, a.model],
  [-1 / r, b.model],
]

export interface StepOptions {
  readonly algorithm: Algorithm
  readonly solver: "midpoint" | "heun"
  /** Fresh noise where the algorithm is an SDE's. */
  readonly noise?: Float32Array
}

function assemble(
  x: Float32Array,
  w: StepWeights,
  noise: Float32Array | undefined,
  ...parts: Terms[]
): Float32Array {
  const drawn: Terms = noise ? [[w.noise, noise]] : []
  return mix([w.x, x], ...parts.flat(), ...drawn)
}

const spanOf = (from: Level, to: Level): number => f32(to.lambda - from.lambda)

/** First order: the model's value is constant over the step. */
export function firstOrder(x: Float32Array, now: Known, to: Level, options: StepOptions): Float32Array {
  const w = weights[options.algorithm](now.level, to, spanOf(now.level, to))
  return assemble(x, w, options.noise, [[w.d0, now.model]])
}

/** Second order multistep: Lu et al. 2022b, algorithm 2. */
export function secondOrder(
  x: Float32Array,
  [s1, s0]: readonly [Known, Known],
  to: Level,
  options: StepOptions,
) {
  const h = spanOf(s0.level, to)
  const r0 = f32(spanOf(s1.level, s0.level) / h)
  const w = weights[options.algorithm](s0.level, to, h)
  return assemble(
    x,
    w,
    options.noise,
    [[w.d0, s0.model]],
    times(w.d1[options.solver], difference(s0, s1, r0)),
  )
}

/** Third order multistep, derivatives from divided differences. */
export function thirdOrder(
  x: Float32Array,
  [s2, s1, s0]: readonly [Known, Known, Known],
  to: Level,
  options: StepOptions,
): Float32Array {
  const h = spanOf(s0.level, to)
  const r0 = f32(spanOf(s1.level, s0.level) / h)
  const r1 = f32(spanOf(s2.level, s1.level) / h)
  const [near, far] = [difference(s0, s1, r0), difference(s1, s2, r1)]
  const bend: Terms = [...near, ...times(-1, far)]
  const w = weights[options.algorithm](s0.level, to, h)
  const d1: Terms = [...near, ...times(r0 / f32(r0 + r1), bend)]
  return assemble(
    x,
    w,
    options.noise,
    [[w.d0, s0.model]],
    times(w.d1.heun, d1),
    times(w.d2 / f32(r0 + r1), bend),
  )
}

/** Second order singlestep: from s1 over s0, Lu et al. 2022, algorithm 1. */
export function singleSecond(
  x: Float32Array,
  [s1, s0]: readonly [Known, Known],
  to: Level,
  options: StepOptions,
) {
  const h = spanOf(s1.level, to)
  const r0 = f32(spanOf(s1.level, s0.level) / h)
  const w = weights[options.algorithm](s1.level, to, h)
  return assemble(
    x,
    w,
    options.noise,
    [[w.d0, s1.model]],
    times(w.d1[options.solver], difference(s0, s1, r0)),
  )
}

/** Third order singlestep: from s2 over s1 and s0, Lu et al. 2022, algorithm 2. */
export function singleThird(
  x: Float32Array,
  [s2, s1, s0]: readonly [Known, Known, Known],
  to: Level,
  options: StepOptions,
): Float32Array {
  const h = spanOf(s2.level, to)
  const r0 = f32(spanOf(s2.level, s0.level) / h)
  const r1 = f32(spanOf(s2.level, s1.level) / h)
  const [near, far] = [difference(s1, s2, r1), difference(s0, s2, r0)]
  const w = weights[options.algorithm](s2.level, to, h)
  const value: Terms = [[w.d0, s2.model]]
  if (options.solver === "midpoint") return assemble(x, w, options.noise, value, times(w.d1.heun, far))
  const span = f32(r0 - r1)
  const d1: Terms = [...times(r0 / span, near), ...times(-r1 / span, far)]
  const d2: Terms = [...times(2 / span, far), ...times(-2 / span, near)]
  return assemble(x, w, options.noise, value, times(w.d1.heun, d1), times(w.d2, d2))
}

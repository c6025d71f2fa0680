import { contradiction, define, type ShapeKeys } from "./define.ts"
import * as k from "./keys.ts"
import { cleanEstimate, type LogSnrSchedule, logSnrSchedule, noiseEstimate } from "./log-snr.ts"
import { exp, f32, mix, sqrt, type Weighted } from "./pictures.ts"
import type { Level } from "./prediction.ts"
import type { Rule } from "./sampling.ts"
import { sharesAt, trained } from "./training.ts"

/** Polynomial coefficients, highest power first, of x^n, x^n - n x^(n-1) + n (n-1) x^(n-2) ... at a point. */
const ladders = [[1], [1, 1], [1, 2, 2], [1, 3, 6, 6]] as const

/** x^n +- n x^(n-1) + n (n-1) x^(n-2) +- ..., each operation in float32. */
function ladder(n: number, x: number, sign: 1 | -1): number {
  const powers = [1, x, f32(x * x), f32(f32(x * x) * x)]
  return ladders[n]!.reduce((sum: number, c, i) => f32(sum + f32(sign ** i * c * powers[n - i]!)), 0)
}

/** Integral of lambda^n e^(-lambda). */
const integralFalling = (n: number, from: number, to: number): number =>
  f32(exp(-to) * f32(f32(ladder(n, from, 1) * exp(f32(to - from))) - ladder(n, to, 1)))

/** Integral of lambda^n e^((1 + tau^2) lambda), with the powers scaled as diffusers does. */
function integralRising(n: number, from: number, to: number, tau: number): number {
  const scale = 1 + tau * tau
  const [a, b] = [f32(scale * from), f32(scale * to)]
  const inside = f32(ladder(n, b, -1) - f32(ladder(n, a, -1) * exp(-f32(b - a))))
  return f32(f32(exp(b) * inside) / scale ** (n + 1))
}

/** Elementary symmetric polynomials of the points, signed: the product of (x - p), highest power first. */
function expanded(points: readonly number[]): number[] {
  const [p, q, r] = points
  if (p === undefined) return [1]
  if (q === undefined) return [1, -p]
  if (r === undefined) return [1, f32(-p - q), f32(p * q)]
  return [1, f32(f32(-p - q) - r), f32(f32(f32(p * q) + f32(p * r)) + f32(q * r)), f32(f32(-p * q) * r)]
}

/** Weights of the models at the given lambdas in the integral over the step. */
function gradientWeights(lambdas: readonly number[], integral: (power: number) => number): number[] {
  const order = lambdas.length
  return lambdas.map((lambda, i) => {
    const others = lambdas.filter((_, j) => j !== i)
    const under = others.reduce((product, other) => f32(product * f32(lambda - other)), 1)
    return expanded(others).reduce((sum, c, j) => f32(sum + f32(f32(c / under) * integral(order - 1 - j))), 0)
  })
}

interface Step {
  readonly from: Level
  readonly to: Level
  /** Levels the models belong to, newest first. */
  readonly levels: readonly Level[]
  readonly models: readonly Float32Array[]
  readonly tau: number
  readonly data: boolean
  /** The corrector knows the model at the step's end. */
  readonly corrects: boolean
}

/** What second order adds to the first weight and takes from the second, for coefficients of higher accuracy: app. of Xue et al. */
function secondOrderShift({ from, to, levels, tau, corrects }: Step, h: number): number {
  const scale = 1 + tau * tau
  const tail = f32(f32(f32(h * scale) - 1) + exp(scale * -h))
  const grown = exp(scale * to.lambda)
  if (corrects) return f32(grown * f32(f32(h / 2) - f32(tail / f32(scale * scale * h))))
  const bracket = f32(f32(f32(h * h) / 2) - f32(tail / (scale * scale)))
  return f32(f32(grown * bracket) / f32(from.lambda - levels[1]!.lambda))
}

/** Stochastic Adams step (Bashforth to predict, Moulton to correct): Xue et al. 2023, algorithms 1 and 2. */
function adams(x: Float32Array, noise: Float32Array, step: Step): Float32Array {
  const { from, to, levels, models, tau, data } = step
  const h = f32(to.lambda - from.lambda)
  const square = tau * tau
  const lambdas = levels.map((level) => level.lambda)
  const weights = gradientWeights(lambdas, (power) =>
    data
      ? integralRising(power, from.lambda, to.lambda, tau)
      : integralFalling(power, from.lambda, to.lambda),
  )
  if (data && weights.length === 2) {
    const shift = secondOrderShift(step, h)
    weights[0] = f32(weights[0]! + shift)
    weights[1] = f32(weights[1]! - shift)
  }
  const outer = data
    ? f32(f32((1 + square) * to.sigma) * exp(f32(-square * to.lambda)))
    : f32(-(1 + square) * to.alpha)
  const gradient = weights.map((w, i): Weighted => [f32(outer * w), models[i]!])
  const std = data
    ? f32(to.sigma * sqrt(f32(1 - exp(f32(-2 * square * h)))))
    : f32(f32(tau * to.sigma) * sqrt(f32(exp(2 * h) - 1)))
  const kept = data ? f32(exp(f32(-square * h)) * f32(to.sigma / from.sigma)) : f32(to.alpha / from.alpha)
  return mix([kept, x], [1, mix(...gradient)], [std, noise])
}

/** Noise of the SDE: full in the middle of the schedule, none at its ends. */
const tauAt = (t: number): number => (t >= 200 && t <= 800 ? 1 : 0)

const shape = {
  ...k.training(),
  ...k.prediction("epsilon", "sample", "v_prediction", "flow_prediction"),
  ...k.spacing("linspace"),
  ...k.thresholding,
  ...k.sigmaSpacing,
  ...k.flow,
  ...k.learnedVariance,
  predictor_order: k.upToFour(2),
  corrector_order: k.upToFour(2),
  tau_func: k.absent,
  algorithm_type: k.choice(["data_prediction", "noise_prediction"], "data_prediction"),
  lower_order_final: k.flag(true),
  lambda_min_clipped: k.lambdaMinClipped,
}
type Keys = ShapeKeys<typeof shape>

/** The multistep rule; the corrector of a step runs with that step's noise when the model at its end is known. */
const rule =
  (keys: Keys, data: boolean, { timesteps, levels }: LogSnrSchedule) =>
  (): Rule => {
    const estimate = data ? cleanEstimate : noiseEstimate
    const remembered = Math.max(keys.predictor_order, keys.corrector_order - 1)
    const models: Float32Array[] = []
    let held: { x: Float32Array; noise: Float32Array; order: number } | undefined

    const ends = (index: number) => ({
      from: levels[index]!,
      to: levels[index + 1]!,
      tau: tauAt(timesteps[index]!),
      data,
    })
    const newest = (index: number, order: number) =>
      Array.from({ length: order }, (_, i) => levels[index - i]!)

    return ({ raw, x, index, noise }) => {
      const { model, x0 } = estimate(keys, levels[index]!, x, raw)
      if (held) {
        const known = { levels: newest(index, held.order), models: [model, ...models] }
        x = adams(held.x, held.noise, { ...ends(index - 1), ...known, corrects: true })
      }
      const left = keys.lower_order_final ? timesteps.length - index : Infinity
      const corrector = Math.min(keys.corrector_order, left + 1, models.length + 2)
      models.unshift(model)
      models.splice(remembered)
      held = { x, noise: noise(), order: corrector }
      const order = Math.min(keys.predictor_order, left, models.length)
      const step = { ...ends(index), levels: newest(index, order), models, corrects: false }
      return { x: adams(x, held.noise, step), x0 }
    }
  }

/** SA-Solver, Xue et al. 2023: stochastic Adams predictor and corrector. */
export const saSolver = define(shape, (keys, asked) => {
  const data = keys.algorithm_type === "data_prediction"
  if (!data && (keys.thresholding || keys.prediction_type === "flow_prediction")) {
    contradiction(
      keys.thresholding ? "thresholding" : "prediction_type",
      'needs algorithm_type "data_prediction"',
    )
  }
  const schedule = logSnrSchedule(keys, asked, { end: "sigma_min", respacedEnd: "last" })
  // this class noises by the training schedule, not by its own sigmas
  const { alphasCumprod } = trained(keys)
  const shares = (index: number) => sharesAt(alphasCumprod, schedule.timesteps[index]!)
  return { timesteps: schedule.timesteps, shares, begin: rule(keys, data, schedule) }
})

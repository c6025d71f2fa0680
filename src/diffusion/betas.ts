import { fail } from "../errors.ts"
import type { PredictionType } from "./types.ts"

/** The keys of a scheduler_config.json that say how the network was trained; other keys are ignored here. */
export interface TrainingConfig {
  /** Number of discrete noise levels, 1000. */
  readonly num_train_timesteps?: number
  /** 0.0001 */
  readonly beta_start?: number
  /** 0.02 */
  readonly beta_end?: number
  /** `linear` */
  readonly beta_schedule?: string
  /** The betas themselves, instead of a named schedule. */
  readonly trained_betas?: readonly number[] | null
  /** Shift and stretch the schedule so that its last step is pure noise (Lin et al. 2023, Alg. 1), false. */
  readonly rescale_betas_zero_snr?: boolean
  /** What the network predicts, `epsilon`. */
  readonly prediction_type?: PredictionType | string
}

export interface TrainingSchedule {
  /** Variance added by each training step. */
  readonly betas: Float32Array
  /** Share of the clean signal's variance left at each step; ends in 0 with zero terminal SNR. */
  readonly alphasCumprod: Float32Array
  /** sqrt((1 - a) / a) of each step, rising; a zero terminal `a` counts as 2^-24, as diffusers' Euler does. */
  readonly sigmas: Float32Array
}

const f32 = Math.fround

/** Smallest positive half-precision number: stands for a zero terminal SNR so that its sigma is finite (4096). */
export const terminalAlpha = 2 ** -24

/**
 * `torch.linspace(start, end, n, dtype=float32)` to the bit: float32 step, counted from the nearer end, fused
 * multiply-add (a float32 product is exact in a double).
 */
export function linspace32(start: number, end: number, n: number): Float32Array {
  const from = f32(start)
  const to = f32(end)
  const step = f32(f32(to - from) / f32(n - 1))
  return Float32Array.from({ length: n }, (_, i) => {
    if (n === 1) return from
    return i < n >> 1 ? from + step * i : to - step * (n - i - 1)
  })
}

/** Betas whose cumulative alpha follows a smooth curve, computed in double and stored as float32. */
function betasForAlphaBar(n: number, alphaBar: (t: number) => number): Float32Array {
  return Float32Array.from({ length: n }, (_, i) =>
    Math.min(1 - alphaBar((i + 1) / n) / alphaBar(i / n), 0.999),
  )
}

type BetaRule = (start: number, end: number, n: number) => Float32Array

const betaSchedules: Record<string, BetaRule> = {
  linear: linspace32,
  scaled_linear: (start, end, n) => linspace32(Math.sqrt(start), Math.sqrt(end), n).map((b) => b * b),
  // Nichol & Dhariwal 2021, eq. 17
  squaredcos_cap_v2: (_start, _end, n) =>
    betasForAlphaBar(n, (t) => Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2),
  sigmoid: (start, end, n) =>
    linspace32(-6, 6, n).map((b) => f32(f32(1 / (1 + Math.exp(-b))) * f32(end - start)) + f32(start)),
}

/** Cumulative product, rounded to float32 only on storing, as torch's CPU kernel accumulates. */
export function cumprod(values: Float32Array): Float32Array {
  let product = 1
  return values.map((v) => (product *= v))
}

/** Betas stretched so that the last cumulative alpha is exactly 0 and the first stays (Lin et al. 2023, Alg. 1). */
export function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const bars = cumprod(betas.map((b) => 1 - b)).map(Math.sqrt)
  const first = bars[0]!
  const last = bars.at(-1)!
  const scale = f32(first / f32(first - last))
  const squared = bars.map((b) => f32(f32(b - last) * scale) ** 2)
  return squared.map((a, i) => 1 - f32(i === 0 ? a : a / squared[i - 1]!))
}

function namedBetas(config: TrainingConfig): Float32Array {
  const n = config.num_train_timesteps ?? 1000
  if (!Number.isInteger(n) || n < 1 || n > 1e6) {
    fail("SCHEDULER_CONFIG", `num_train_timesteps is ${n}`, { hint: "Give a whole number such as 1000." })
  }
  const name = config.beta_schedule ?? "linear"
  const rule = Object.hasOwn(betaSchedules, name) ? betaSchedules[name] : undefined
  if (!rule) {
    fail("SCHEDULER_CONFIG", `beta_schedule "${name}" is not known`, {
      hint: `Known are ${Object.keys(betaSchedules).join(", ")}.`,
    })
  }
  return rule(config.beta_start ?? 0.0001, config.beta_end ?? 0.02, n)
}

/** sqrt((1 - a) / a) in float32 steps. */
export function sigmaOf(alphaCumprod: number): number {
  return f32(Math.sqrt(f32(f32(1 - alphaCumprod) / f32(alphaCumprod))))
}

/**
 * Noise levels a network was trained on, in torch's float32 arithmetic.
 * @throws SCHEDULER_CONFIG for an unknown schedule name or betas outside (0, 1].
 */
export function trainingSchedule(config: TrainingConfig): TrainingSchedule {
  const plain = config.trained_betas ? Float32Array.from(config.trained_betas) : namedBetas(config)
  const bad = plain.length === 0 ? 0 : plain.findIndex((b) => !(b > 0 && b <= 1))
  if (bad >= 0) {
    fail("SCHEDULER_CONFIG", `beta ${bad} is ${plain[bad] ?? "missing"}, not within 0..1`, {
      hint: "Check beta_start, beta_end and trained_betas.",
    })
  }
  const betas = config.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(plain) : plain
  const alphasCumprod = cumprod(betas.map((b) => 1 - b))
  const sigmas = alphasCumprod.map((a) => sigmaOf(a > 0 ? a : terminalAlpha))
  return { betas, alphasCumprod, sigmas }
}

import { sigmaOf } from "../betas.ts"
import type { PredictionType } from "../types.ts"
import { type Asked, contradiction, oneSigmaSpacing } from "./define.ts"
import { interpolate, roundEven } from "./numpy.ts"
import { type Bounds, bounded, f32, log, sqrt } from "./pictures.ts"
import { cleanFrom, type Level, noiseFrom, preserving, straight } from "./prediction.ts"
import { type Solver, skippedSteps } from "./sampling.ts"
import { flowSigmas, logSigmasOf, luSigmas, respaced, type SigmaKeys, timestepOf } from "./sigmas.ts"
import { openTimesteps, type SpacingKeys } from "./spacing.ts"
import { trained } from "./training.ts"

/** Keys of the solvers whose time is the log signal-to-noise ratio. */
export type LogSnrKeys = SpacingKeys &
  SigmaKeys &
  Parameters<typeof trained>[0] & {
    readonly use_flow_sigmas: boolean
    readonly flow_shift: number
    readonly use_lu_lambdas?: boolean
    readonly lambda_min_clipped?: number
  }

export interface LogSnrSchedule {
  readonly timesteps: readonly number[]
  /** One level per timestep and the one the last step ends at. */
  readonly levels: readonly Level[]
}

/** Which end follows the last sigma: the clean picture, the least training noise, or the last sigma again. */
export type End = "zero" | "sigma_min" | "last"

export interface ScheduleRules {
  readonly end: End
  /** End where the sigmas are respaced; the same as `end`. */
  readonly respacedEnd?: End
  /** Karras and Lu timesteps are rounded, not truncated; true. */
  readonly rounded?: boolean
  /** Flow sigmas of the class, where they differ from the common ones. */
  readonly flow?: (steps: number) => number[]
  /** Ratio to flow sigma after Karras spacing (UniPC). */
  readonly karrasFlow?: boolean
}

/** Number of training timesteps whose log signal-to-noise ratio is below the clip. */
function clippedSteps(alphasCumprod: Float32Array, least: number): number {
  const lambdas = alphasCumprod.map((a) => log(sqrt(a)) - log(sqrt(f32(1 - a))))
  return lambdas.filter((lambda) => lambda < least).length
}

/** Levels and whole timesteps of a log-SNR solver. */
export function logSnrSchedule(keys: LogSnrKeys, asked: Asked, rules: ScheduleRules): LogSnrSchedule {
  const { steps, strength } = asked
  oneSigmaSpacing(keys)
  const { alphasCumprod, sigmas: training } = trained(keys)
  const clipped = clippedSteps(alphasCumprod, keys.lambda_min_clipped ?? -Infinity)
  const spaced = openTimesteps(keys, steps, keys.num_train_timesteps - clipped)
  const least = sigmaOf(alphasCumprod[0]!)
  const { sigmas, timesteps, end } = spacedSigmas(keys, steps, rules, training, spaced)
  const last = end === "zero" ? 0 : end === "sigma_min" ? least : sigmas.at(-1)!
  const levels = [...sigmas, last].map((sigma) => (keys.use_flow_sigmas ? straight : preserving)(f32(sigma)))
  if (levels.slice(skippedSteps(steps, strength)).some((level) => level.alpha < 0)) {
    contradiction("use_flow_sigmas", "needs sigmas of at most 1, but another spacing of sigmas is set")
  }
  return { timesteps: timesteps.map(Math.trunc), levels }
}

function spacedSigmas(
  keys: LogSnrKeys,
  steps: number,
  rules: ScheduleRules,
  training: Float32Array,
  spaced: readonly number[],
): { sigmas: number[]; timesteps: readonly number[]; end: End } {
  const train = keys.num_train_timesteps
  const end = rules.respacedEnd ?? rules.end
  const logSigmas = logSigmasOf(training)
  const lu = keys.use_lu_lambdas && !keys.use_karras_sigmas
  const sigmas = lu ? luSigmas(logSigmas, steps) : respaced(keys, training.toReversed(), steps)
  if (sigmas && rules.karrasFlow && keys.use_karras_sigmas) {
    const flow = sigmas.map((sigma) => sigma / (sigma + 1))
    return { sigmas: flow, timesteps: flow.map((sigma) => sigma * train), end }
  }
  if (sigmas) {
    const exact = sigmas.map((sigma) => timestepOf(sigma, logSigmas))
    const rounds = (rules.rounded ?? true) && (lu || keys.use_karras_sigmas)
    return { sigmas, timesteps: rounds ? exact.map(roundEven) : exact, end }
  }
  if (keys.use_flow_sigmas) {
    const flow = rules.flow?.(steps) ?? flowSigmas(train, keys.flow_shift, steps)
    return { sigmas: flow, timesteps: flow.map((sigma) => sigma * train), end }
  }
  return { sigmas: spaced.map((t) => interpolate(t, training)), timesteps: spaced, end: rules.end }
}

/** Solver over a log-SNR schedule. */
export const logSnrSolver = ({ timesteps, levels }: LogSnrSchedule, begin: Solver["begin"]): Solver => ({
  timesteps,
  shares: (index) => ({ signal: levels[index]!.alpha, noise: levels[index]!.sigma }),
  begin,
})

/** What a multistep solver remembers per call, and what it shows. */
export interface Estimate {
  /** The clean picture or the noise, whichever the solver extrapolates. */
  readonly model: Float32Array
  readonly x0: Float32Array
}

type EstimateKeys = Bounds & { readonly prediction_type: PredictionType }

/** Clean estimate at a level, within its bounds. */
export function cleanEstimate(
  keys: EstimateKeys,
  level: Level,
  x: Float32Array,
  raw: Float32Array,
): Estimate {
  const x0 = bounded(cleanFrom(keys.prediction_type, level, x, raw), keys)
  return { model: x0, x0 }
}

/** Noise estimate at a level; with thresholding the noise that leads to the bounded clean picture. */
export function noiseEstimate(
  keys: EstimateKeys,
  level: Level,
  x: Float32Array,
  raw: Float32Array,
): Estimate {
  const kind = keys.prediction_type
  if (kind === "flow_prediction") return contradiction("prediction_type", "this algorithm extrapolates noise")
  const x0 = bounded(cleanFrom(kind, level, x, raw), keys)
  if (!keys.thresholding) return { model: noiseFrom(kind, level, x, raw), x0 }
  return { model: noiseFrom("sample", level, x, x0), x0 }
}

import { fail } from "../../errors.ts"
import { trainingSchedule } from "../betas.ts"
import { contradiction } from "./define.ts"
import { f32, sqrt } from "./pictures.ts"

interface TrainingKeys {
  readonly num_train_timesteps: number
  readonly beta_start: number
  readonly beta_end: number
  readonly beta_schedule: string
  readonly trained_betas: readonly number[] | null
  readonly rescale_betas_zero_snr?: boolean
}

/** Cumulative alphas that only one class each knows. */
const curves: Record<string, (t: number) => number> = {
  exp: (t) => Math.exp(t * -12),
  laplace: (t) => {
    const log = -0.5 * (t <= 0.5 ? 1 : -1) * Math.log(1 - 2 * Math.abs(0.5 - t) + 1e-6)
    const snr = Math.exp(log)
    return Math.sqrt(snr / (1 + snr))
  },
}

/** Training schedule of a scheduler's keys. */
export function trained(keys: TrainingKeys) {
  const curve = keys.trained_betas ? undefined : curves[keys.beta_schedule]
  if (!curve) return trainingSchedule(keys)
  const n = keys.num_train_timesteps
  const betas = Array.from({ length: n }, (_, i) => Math.min(1 - curve((i + 1) / n) / curve(i / n), 0.999))
  return trainingSchedule({ ...keys, trained_betas: betas })
}

/** Signal and noise of latents noised to a timestep. */
export function sharesAt(alphasCumprod: Float32Array, t: number): { signal: number; noise: number } {
  const a = alphasCumprod.at(t) ?? fail("STEPS", `timestep ${t} does not exist`, {})
  return { signal: sqrt(a), noise: sqrt(f32(1 - a)) }
}

/** Noise alone does not say what was under it: division by zero at a terminal of pure noise. */
export function refuseBlindEpsilon(kind: string, alpha: number, clipped: boolean): void {
  if (kind !== "epsilon" || alpha > 0 || clipped) return
  contradiction("prediction_type", '"epsilon" has no meaning where rescale_betas_zero_snr leaves pure noise')
}

/** Cumulative alphas by timestep, with the value that stands beyond the last step. */
export interface Alphas {
  /** Share of signal variance at a timestep; -1 is the last one, as in Python. */
  at(t: number): number
  /** The same where negative timesteps lie beyond the schedule's end. */
  before(t: number): number
  /** Signal and noise of latents noised to a timestep. */
  shares(t: number): { signal: number; noise: number }
}

/**
 * Checked access to the cumulative alphas.
 * @param toOne what follows timestep 0 is the clean picture, otherwise the least training noise.
 * @throws STEPS where a timestep lies beyond the training schedule.
 */
export function alphasOf(keys: TrainingKeys, timesteps: readonly number[], toOne: boolean): Alphas {
  const { alphasCumprod } = trained(keys)
  const most = Math.max(...timesteps)
  if (most >= alphasCumprod.length) {
    fail("STEPS", `timestep ${most} lies beyond the ${alphasCumprod.length} the model was trained on`, {
      hint: "Ask for fewer steps, or lower steps_offset.",
    })
  }
  const at = (t: number): number => alphasCumprod.at(t) ?? fail("STEPS", `timestep ${t} does not exist`, {})
  const final = toOne ? 1 : alphasCumprod[0]!
  return {
    at,
    before: (t) => (t >= 0 ? at(t) : final),
    shares: (t) => sharesAt(alphasCumprod, t),
  }
}

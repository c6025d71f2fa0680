import { fail } from "../../errors.ts"
import { countDown, linspace, roundEven } from "./numpy.ts"

export type Spacing = "linspace" | "leading" | "trailing"

export interface SpacingKeys {
  readonly num_train_timesteps: number
  readonly timestep_spacing: Spacing
  readonly steps_offset: number
}

/**
 * Timesteps, falling, as Lin et al. 2023 (table 2) names the spacings.
 * @param fractional keep the fractions of `linspace`.
 */
export function spacedTimesteps(keys: SpacingKeys, steps: number, fractional = false): number[] {
  const train = keys.num_train_timesteps
  if (keys.timestep_spacing === "trailing") return trailing(train, train / steps)
  const rising =
    keys.timestep_spacing === "linspace"
      ? linspace(0, train - 1, steps).map((t) => (fractional ? t : roundEven(t)))
      : leading(train, steps, keys.steps_offset)
  return rising.reverse()
}

/**
 * Timesteps of the solvers in log-SNR time: the schedule has one step more and its end, the clean picture, is dropped.
 * @param last number of training timesteps that remain after clipping.
 */
export function openTimesteps(keys: SpacingKeys, steps: number, last = keys.num_train_timesteps): number[] {
  if (keys.timestep_spacing === "trailing") return trailing(last, keys.num_train_timesteps / steps)
  const rising =
    keys.timestep_spacing === "linspace"
      ? linspace(0, last - 1, steps + 1).map(roundEven)
      : leading(last, steps + 1, keys.steps_offset)
  return rising.slice(1).reverse()
}

const trailing = (from: number, ratio: number): number[] =>
  countDown(from, ratio).map((t) => roundEven(t) - 1)

function leading(train: number, steps: number, offset: number): number[] {
  const ratio = Math.floor(train / steps)
  if (ratio < 1) {
    fail("STEPS", `${steps} steps with leading spacing, but the model has ${train} timesteps`, {
      hint: "Ask for fewer steps, or use linspace or trailing spacing.",
    })
  }
  return Array.from({ length: steps }, (_, i) => i * ratio + offset)
}

/** More steps than training timesteps have no meaning for schedulers that index the training schedule. */
export function atMostTrainSteps(steps: number, train: number): void {
  if (steps > train) {
    fail("STEPS", `${steps} steps, but the model was trained on ${train} timesteps`, {
      hint: `Ask for at most ${train} steps.`,
    })
  }
}

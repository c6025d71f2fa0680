import { fail } from "../errors.ts"

export interface RateConfig {
  /** Highest learning rate. */
  readonly rate: number
  /** Steps of linear rise to it, 0. */
  readonly warmup?: number
  /** How it goes on: `constant`, or half a cosine down to `floor` at the last step. */
  readonly shape: "constant" | "cosine"
  /** Share of `rate` left at the end of a cosine, 0. */
  readonly floor?: number
}

/** Learning rate of a step, counted from 1, of `steps` in all (Loshchilov & Hutter 2017, eq. 5). */
export function learningRate(
  { rate, warmup = 0, shape, floor = 0 }: RateConfig,
  step: number,
  steps: number,
): number {
  const rise = warmup > 0 ? Math.min(1, step / warmup) : 1
  if (shape === "constant") return rate * rise
  const done = Math.min(1, (step - 1) / Math.max(1, steps - 1))
  return rate * rise * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * done)))
}

/**
 * Share of the new weights in a moving average whose decay grows to `decay`: early on it follows closely, over about
 * a tenth of the steps so far.
 */
export const averageShare = (decay: number, step: number): number =>
  1 - Math.min(decay, 1 - 1 / (1 + step / 10))

/**
 * The part of a training's settings that determines its numbers: when it logs and saves does not, nor where it ends
 * unless the rate falls towards the end. So a run at a constant rate can be made longer or shorter.
 */
export function determining<C extends { readonly rate: RateConfig; readonly steps: number }>(c: C): unknown {
  const { steps, every: _, ...rest } = c as C & { every?: unknown }
  return c.rate.shape === "constant" ? rest : { ...rest, steps }
}

/** Refuses settings that no training can use, naming the field. */
export function checkRate({ rate, warmup = 0, floor = 0 }: RateConfig): void {
  const bad = !(rate > 0 && Number.isFinite(rate))
    ? `learning rate ${rate}`
    : !(warmup >= 0)
      ? `warm-up of ${warmup} steps`
      : floor < 0 || floor > 1
        ? `floor ${floor}`
        : null
  if (bad)
    fail("TRAIN_CONFIG", `${bad} cannot be used`, { hint: "rates lie around 1e-5 to 1e-3, floors in 0..1" })
}

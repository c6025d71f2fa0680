import { fail } from "../../errors.ts"
import type { PredictionType } from "../types.ts"
import { f32, log, sqrt } from "./pictures.ts"

/** Noise level of latents `alpha * x0 + sigma * noise`; lambda is half the log signal-to-noise ratio. */
export interface Level {
  readonly alpha: number
  readonly sigma: number
  readonly lambda: number
}

export const levelOf = (alpha: number, sigma: number): Level => ({
  alpha,
  sigma,
  lambda: f32(log(alpha) - log(sigma)),
})

/** Level of variance-preserving latents from the ratio noise to signal, in torch's order of float32 operations. */
export function preserving(ratio: number): Level {
  const alpha = f32(1 / sqrt(f32(f32(ratio * ratio) + 1)))
  return levelOf(alpha, f32(ratio * alpha))
}

/** Level on the straight line of flow matching: (1 - sigma) * x0 + sigma * noise. */
export const straight = (sigma: number): Level => levelOf(f32(1 - sigma), sigma)

/** Linear reading of a network's output: (x * latents + raw * output) / over. */
interface Reading {
  readonly x: number
  readonly raw: number
  readonly over: number
}

const read = ({ x, raw, over }: Reading, latents: Float32Array, output: Float32Array): Float32Array => {
  if (output.length < latents.length) {
    fail(
      "SCHEDULER_PREDICTION",
      `the network returned ${output.length} numbers for ${latents.length} latents`,
    )
  }
  return latents.map((v, i) => f32(f32(x * v) + f32(raw * output[i]!)) / over)
}

const cleanReadings: Record<PredictionType, (level: Level) => Reading> = {
  epsilon: ({ alpha, sigma }) => ({ x: 1, raw: -sigma, over: alpha }),
  v_prediction: ({ alpha, sigma }) => ({ x: alpha, raw: -sigma, over: 1 }), // Salimans & Ho 2022, app. D
  sample: () => ({ x: 0, raw: 1, over: 1 }),
  flow_prediction: ({ sigma }) => ({ x: 1, raw: -sigma, over: 1 }),
}

const noiseReadings: Record<Exclude<PredictionType, "flow_prediction">, (level: Level) => Reading> = {
  epsilon: () => ({ x: 0, raw: 1, over: 1 }),
  v_prediction: ({ alpha, sigma }) => ({ x: sigma, raw: alpha, over: 1 }),
  sample: ({ alpha, sigma }) => ({ x: 1, raw: -alpha, over: sigma }),
}

/** Clean estimate from a network's output at a level. */
export const cleanFrom = (kind: PredictionType, level: Level, x: Float32Array, raw: Float32Array) =>
  read(cleanReadings[kind](level), x, raw)

/** Noise estimate from a network's output at a level. */
export const noiseFrom = (
  kind: keyof typeof noiseReadings,
  level: Level,
  x: Float32Array,
  raw: Float32Array,
) => read(noiseReadings[kind](level), x, raw)

/**
 * Clean estimate where latents are x0 + sigma * noise (Karras et al. 2022, table 1) and the network saw them divided by
 * sqrt(sigma^2 + 1).
 */
export function cleanFromExploding(
  kind: Exclude<PredictionType, "flow_prediction">,
  sigma: number,
  x: Float32Array,
  raw: Float32Array,
): Float32Array {
  if (kind !== "v_prediction") return cleanFrom(kind, { alpha: 1, sigma, lambda: 0 }, x, raw)
  const square = f32(f32(sigma * sigma) + 1)
  return read({ x: f32(1 / square), raw: f32(-sigma / sqrt(square)), over: 1 }, x, raw)
}

import { fail } from "../errors.ts"
import { type TrainingConfig, trainingSchedule } from "./betas.ts"
import { mix } from "./latent.ts"
import type { Denoise, Predict, PredictionType } from "./types.ts"

/** The noise levels a network was trained on, and the clock that belongs to them. */
export interface NoiseLevels {
  /** Rising, one per training step. */
  readonly sigmas: Float32Array
  readonly prediction: PredictionType
  /** Fractional timestep of a noise level, by its logarithm between training steps; clamped at the ends. */
  timeOf(sigma: number): number
  /** Noise level of a fractional timestep. */
  sigmaAt(time: number): number
}

const predictions: readonly string[] = ["epsilon", "v_prediction", "sample", "flow_prediction"]

function predictionOf(config: TrainingConfig): PredictionType {
  const name = config.prediction_type ?? "epsilon"
  if (predictions.includes(name)) return name as PredictionType
  return fail("SCHEDULER_CONFIG", `prediction_type "${name}" is not known`, {
    hint: `Known are ${predictions.join(", ")}.`,
  })
}

const f32 = Math.fround
const log32 = (x: number): number => f32(Math.log(x))

/** Levels of a table of rising sigmas, interpolated in float32 log sigma as k-diffusion's DiscreteSchedule does. */
export function tabled(sigmas: Float32Array, prediction: PredictionType): NoiseLevels {
  const logs = Float32Array.from(sigmas, log32)
  const last = logs.length - 1
  return {
    sigmas,
    prediction,
    timeOf(sigma) {
      const log = log32(sigma)
      if (!(log > logs[0]!)) return 0
      if (log >= logs[last]!) return last
      let low = 0
      let high = last
      while (high - low > 1) {
        const middle = (low + high) >> 1
        if (logs[middle]! <= log) low = middle
        else high = middle
      }
      return low + f32(f32(log - logs[low]!) / f32(logs[high]! - logs[low]!))
    },
    sigmaAt(time) {
      const low = Math.min(Math.max(Math.floor(time), 0), last)
      const high = Math.min(low + 1, last)
      const part = f32(Math.min(Math.max(time - low, 0), 1))
      return f32(Math.exp(f32(f32(f32(1 - part) * logs[low]!) + f32(part * logs[high]!))))
    },
  }
}

/** Levels of rectified flow, s = t / n on the line (1 - s) x0 + s noise, which is sigma = s / (1 - s) here. */
function straight(n: number): NoiseLevels {
  return {
    sigmas: Float32Array.from({ length: n }, (_, i) => (i + 1) / (n - i)), // s = (i + 1) / (n + 1), short of infinity
    prediction: "flow_prediction",
    timeOf: (sigma) => (n * sigma) / (1 + sigma),
    sigmaAt: (time) => time / (n - time),
  }
}

/**
 * Noise levels of a scheduler_config.json.
 * @throws SCHEDULER_CONFIG for what trainingSchedule refuses, or an unknown prediction_type.
 */
export function noiseLevels(config: TrainingConfig): NoiseLevels {
  const prediction = predictionOf(config)
  if (prediction === "flow_prediction") return straight(config.num_train_timesteps ?? 1000)
  return tabled(trainingSchedule(config).sigmas, prediction)
}

interface Scaling {
  /** The network sees `input * x`. */
  readonly input: number
  /** The clean estimate is `skip * x + output * raw`. */
  readonly skip: number
  readonly output: number
}

/** Karras et al. 2022, table 1, with sigma_data 1, per kind of prediction. */
const scalings: Record<PredictionType, (sigma: number) => Scaling> = {
  epsilon: (s) => ({ input: 1 / Math.sqrt(s * s + 1), skip: 1, output: -s }),
  v_prediction: (s) => ({
    input: 1 / Math.sqrt(s * s + 1),
    skip: 1 / (s * s + 1),
    output: -s / Math.sqrt(s * s + 1),
  }),
  sample: (s) => ({ input: 1 / Math.sqrt(s * s + 1), skip: 0, output: 1 }),
  flow_prediction: (s) => ({ input: 1 / (1 + s), skip: 1 / (1 + s), output: -s / (1 + s) }),
}

/**
 * A network as Karras' denoiser: (x0 + sigma noise, sigma) to x0.
 * @param times timesteps of sigmas whose exact time is known; others go by `levels.timeOf`.
 * @throws PREDICTION_SIZE when the network returns fewer numbers than it was given.
 */
export function denoiser(
  predict: Predict,
  levels: NoiseLevels,
  times: ReadonlyMap<number, number> = new Map(),
): Denoise {
  return async (x, sigma) => {
    const { input, skip, output } = scalings[levels.prediction](sigma)
    const raw = await predict(mix([input, x]), times.get(sigma) ?? levels.timeOf(sigma))
    if (raw.length < x.length) {
      fail("PREDICTION_SIZE", `the network returned ${raw.length} numbers for ${x.length} latents`)
    }
    return skip === 0 ? raw.slice(0, x.length) : mix([skip, x], [output, raw])
  }
}

/** Notes the timestep of every network call, in order. */
export const recording =
  (predict: Predict, times: number[]): Predict =>
  (x, t) => {
    times.push(t)
    return predict(x, t)
  }

/**
 * Latent inpainting without a special model: outside of the mask the clean estimate is the original.
 * @param mask 1 where the picture is made anew, 0 where it stays; as long as the latents.
 */
export const inpainting =
  (denoise: Denoise, original: Float32Array, mask: Float32Array): Denoise =>
  async (x, sigma) => {
    const x0 = await denoise(x, sigma)
    return x0.map((v, i) => mask[i]! * v + (1 - mask[i]!) * original[i]!)
  }

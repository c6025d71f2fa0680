import { fail } from "../../errors.ts"
import { define } from "./define.ts"
import * as k from "./keys.ts"
import { bounded, exp, f32, log, mix, sqrt } from "./pictures.ts"
import { cleanFrom, levelOf } from "./prediction.ts"
import type { Answer, Call } from "./sampling.ts"
import { atMostTrainSteps, spacedTimesteps } from "./spacing.ts"
import { alphasOf } from "./training.ts"

const varianceTypes = [
  "fixed_small",
  "fixed_small_log",
  "fixed_large",
  "fixed_large_log",
  "learned",
  "learned_range",
] as const

/** Standard deviation of a step's noise, one number or one per latent: Ho et al. 2020 section 3.2, Nichol & Dhariwal 2021 eq. 15. */
function deviation(
  kind: (typeof varianceTypes)[number],
  beta: number,
  posterior: number,
  predicted: Float32Array | undefined,
): number | Float32Array {
  if (kind === "fixed_small") return sqrt(posterior)
  if (kind === "fixed_small_log") return exp(f32(0.5 * log(posterior)))
  if (kind === "fixed_large" || kind === "fixed_large_log") return sqrt(beta)
  if (!predicted) {
    fail("SCHEDULER_CONFIG", `variance_type is "${kind}", but the network predicts no variance`, {
      hint: "Set variance_type to fixed_small in scheduler_config.json.",
    })
  }
  if (kind === "learned") return predicted.map(Math.sqrt)
  const [low, high] = [log(posterior), log(beta)]
  return predicted.map((v) => {
    const share = (v + 1) / 2
    return Math.exp(0.5 * (share * high + (1 - share) * low))
  })
}

const scaled = (std: number | Float32Array, noise: Float32Array): Float32Array =>
  noise.map((v, i) => v * (typeof std === "number" ? std : std[i]!))

/** Denoising diffusion probabilistic models, Ho et al. 2020, eq. 7 and algorithm 2. */
export const ddpm = define(
  {
    ...k.training(0.0001, 0.02, "linear", ["sigmoid", "laplace"]),
    ...k.prediction("epsilon", "sample", "v_prediction"),
    ...k.spacing("leading"),
    ...k.thresholding,
    ...k.clipping(true),
    ...k.zeroSnr,
    variance_type: k.choice(varianceTypes, "fixed_small"),
  },
  (keys, { steps }) => {
    atMostTrainSteps(steps, keys.num_train_timesteps)
    const timesteps = spacedTimesteps(keys, steps)
    const alphas = alphasOf(keys, timesteps, true)

    const step = ({ raw, x, index, noise }: Call): Answer => {
      const t = timesteps[index]!
      const a = alphas.at(t)
      const next = alphas.before(timesteps[index + 1] ?? -1)
      const alpha = f32(a / next)
      const beta = f32(1 - alpha)
      const [left, nextLeft] = [f32(1 - a), f32(1 - next)]
      const x0 = bounded(cleanFrom(keys.prediction_type, levelOf(sqrt(a), sqrt(left)), x, raw), keys)
      const mean = mix([f32(f32(sqrt(next) * beta) / left), x0], [f32(f32(sqrt(alpha) * nextLeft) / left), x])
      if (t <= 0) return { x: mean, x0 }
      const posterior = Math.max(f32(f32(nextLeft / left) * beta), f32(1e-20))
      const predicted = raw.length === 2 * x.length ? raw.subarray(x.length) : undefined
      const drawn = noise()
      return {
        x: mix([1, mean], [1, scaled(deviation(keys.variance_type, beta, posterior, predicted), drawn)]),
        x0,
      }
    }
    return { timesteps, shares: (index) => alphas.shares(timesteps[index]!), begin: () => step }
  },
)

import { fail } from "../../errors.ts"
import { contradiction, define } from "./define.ts"
import * as k from "./keys.ts"
import { linspace } from "./numpy.ts"
import { bounded, f32, mix, sqrt } from "./pictures.ts"
import { cleanFrom, levelOf, noiseFrom } from "./prediction.ts"
import { type Answer, type Call, skippedSteps } from "./sampling.ts"
import { atMostTrainSteps } from "./spacing.ts"
import { alphasOf, refuseBlindEpsilon } from "./training.ts"

const shape = {
  ...k.training(0.00085, 0.012, "scaled_linear"),
  ...k.prediction("epsilon", "sample", "v_prediction"),
  ...k.spacing("leading"), // known, but the distillation's own timesteps decide
  ...k.thresholding,
  ...k.clipping(false),
  ...k.zeroSnr,
  set_alpha_to_one: k.flag(true),
  original_inference_steps: k.positive(50),
  timestep_scaling: k.real(10),
}

/** Timesteps of the distillation, thinned to the steps asked for. */
function distilled(train: number, original: number, steps: number): number[] {
  if (original > train)
    contradiction("original_inference_steps", `is ${original}, above num_train_timesteps ${train}`)
  atMostTrainSteps(steps, train)
  if (steps > original) {
    fail("STEPS", `${steps} steps, but the model was distilled for at most ${original}`, {
      hint: `Ask for at most ${original} steps; 4 to 8 are usual.`,
    })
  }
  const stride = Math.floor(train / original)
  return linspace(0, original, steps + 1)
    .slice(0, -1)
    .map((at) => (original - Math.floor(at)) * stride - 1)
}

/** Latent consistency models, Luo et al. 2023, algorithm 3: jump to the clean picture, noise it anew. */
export const lcm = define(shape, (keys, { steps, strength }) => {
  const timesteps = distilled(keys.num_train_timesteps, keys.original_inference_steps, steps)
  const alphas = alphasOf(keys, timesteps, keys.set_alpha_to_one)
  const first = alphas.at(timesteps[skippedSteps(steps, strength)]!)
  refuseBlindEpsilon(keys.prediction_type, first, keys.clip_sample && !keys.thresholding)

  const step = ({ raw, x, index, noise }: Call): Answer => {
    const t = timesteps[index]!
    const a = alphas.at(t)
    const x0 = bounded(cleanFrom(keys.prediction_type, levelOf(sqrt(a), sqrt(f32(1 - a))), x, raw), keys)
    const time = f32(t * keys.timestep_scaling)
    const square = f32(f32(time * time) + 0.25) // sigma_data is 1/2
    const clean = mix([f32(time / sqrt(square)), x0], [f32(0.25 / square), x])
    if (index === timesteps.length - 1) return { x: clean, x0: clean }
    const next = alphas.before(timesteps[index + 1]!)
    return { x: mix([sqrt(next), clean], [sqrt(f32(1 - next)), noise()]), x0: clean }
  }
  return { timesteps, shares: (index) => alphas.shares(timesteps[index]!), begin: () => step }
})

/** Trajectory consistency distillation, Zheng et al. 2024, algorithm 4: jump along the trajectory, noise back up by eta. */
export const tcd = define(shape, (keys, { steps, strength, eta }) => {
  const timesteps = distilled(keys.num_train_timesteps, keys.original_inference_steps, steps)
  const alphas = alphasOf(keys, timesteps, keys.set_alpha_to_one)
  const first = alphas.at(timesteps[skippedSteps(steps, strength)]!)
  refuseBlindEpsilon(keys.prediction_type, first, false)

  const step = ({ raw, x, index, noise }: Call): Answer => {
    const a = alphas.at(timesteps[index]!)
    const nextTime = timesteps[index + 1] ?? 0
    const next = alphas.before(nextTime)
    const target = alphas.at(Math.floor(f32(f32(1 - eta) * nextTime)))
    const level = levelOf(sqrt(a), sqrt(f32(1 - a)))
    const x0 = cleanFrom(keys.prediction_type, level, x, raw)
    const eps = noiseFrom(keys.prediction_type, level, x, raw)
    const jumped = mix([sqrt(target), x0], [sqrt(f32(1 - target)), eps])
    if (eta === 0 || index === timesteps.length - 1) return { x: jumped, x0 }
    const ratio = f32(next / target)
    return { x: mix([sqrt(ratio), jumped], [sqrt(f32(1 - ratio)), noise()]), x0 }
  }
  return { timesteps, shares: (index) => alphas.shares(timesteps[index]!), begin: () => step }
})

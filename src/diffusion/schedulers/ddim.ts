import { define } from "./define.ts"
import * as k from "./keys.ts"
import { bounded, f32, mix, sqrt } from "./pictures.ts"
import { cleanFrom, levelOf, noiseFrom } from "./prediction.ts"
import { type Answer, type Call, skippedSteps } from "./sampling.ts"
import { atMostTrainSteps, spacedTimesteps } from "./spacing.ts"
import { alphasOf, refuseBlindEpsilon } from "./training.ts"

/** Denoising diffusion implicit models, Song et al. 2021, eq. 12 and 16. */
export const ddim = define(
  {
    ...k.training(),
    ...k.prediction("epsilon", "sample", "v_prediction"),
    ...k.spacing("leading"),
    ...k.thresholding,
    ...k.clipping(true),
    ...k.zeroSnr,
    set_alpha_to_one: k.flag(true),
  },
  (keys, { steps, strength, eta }) => {
    atMostTrainSteps(steps, keys.num_train_timesteps)
    const timesteps = spacedTimesteps(keys, steps)
    const alphas = alphasOf(keys, timesteps, keys.set_alpha_to_one)
    const first = alphas.at(timesteps[skippedSteps(steps, strength)]!)
    refuseBlindEpsilon(keys.prediction_type, first, keys.clip_sample && !keys.thresholding)
    const stride = Math.floor(keys.num_train_timesteps / steps)

    const step = ({ raw, x, index, noise }: Call): Answer => {
      const t = timesteps[index]!
      const a = alphas.at(t)
      const next = alphas.before(t - stride)
      const level = levelOf(sqrt(a), sqrt(f32(1 - a)))
      const x0 = bounded(cleanFrom(keys.prediction_type, level, x, raw), keys)
      const eps = noiseFrom(keys.prediction_type, level, x, raw)
      const variance = f32(f32(f32(1 - next) / f32(1 - a)) * f32(1 - f32(a / next)))
      const std = f32(eta * sqrt(variance))
      const direction = sqrt(f32(f32(1 - next) - f32(std * std)))
      const mean = mix([sqrt(next), x0], [direction, eps])
      return { x: eta > 0 ? mix([1, mean], [std, noise()]) : mean, x0 }
    }
    return { timesteps, shares: (index) => alphas.shares(timesteps[index]!), begin: () => step }
  },
)

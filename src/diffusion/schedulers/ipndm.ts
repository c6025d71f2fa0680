import { linspace32 } from "../betas.ts"
import { define } from "./define.ts"
import * as k from "./keys.ts"
import { f32, mix, sqrt } from "./pictures.ts"
import { extrapolated } from "./pndm.ts"
import type { Rule } from "./sampling.ts"

/** Improved pseudo numerical methods, Liu et al. 2022 with the crude start of Karras' v-diffusion: a cosine circle. */
export const ipndm = define(
  { num_train_timesteps: k.positive(1000), trained_betas: k.training().trained_betas },
  (keys, { steps }) => {
    // the published code calls the noise share beta
    const circle = linspace32(1, 0, steps + 1).map((u) => f32(Math.sin(f32(f32(u * f32(Math.PI)) / 2))) ** 2)
    const noises = keys.trained_betas ? Float32Array.from(keys.trained_betas) : circle
    const signals = noises.map((b) => sqrt(f32(1 - f32(b * b))))
    const timesteps = Array.from(noises.subarray(0, noises.length - 1), (b, i) =>
      f32(f32(f32(Math.atan2(b, signals[i]!)) / f32(Math.PI)) * 2),
    )
    const begin = (): Rule => {
      const slopes: Float32Array[] = []
      return ({ raw, x, index }) => {
        const [noise, signal] = [noises[index]!, signals[index]!]
        slopes.push(mix([noise, x], [signal, raw]))
        slopes.splice(0, slopes.length - 4)
        const slope = extrapolated(slopes)
        const floor = Math.max(signal, 1e-8)
        const x0 = x.map((v, i) => f32(v - f32(noise * slope[i]!)) / floor)
        return { x: mix([signals[index + 1]!, x0], [noises[index + 1]!, slope]), x0 }
      }
    }
    const shares = (index: number) => ({ signal: signals[index]!, noise: noises[index]! })
    return { timesteps, shares, begin }
  },
)

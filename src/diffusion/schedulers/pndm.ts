import { fail } from "../../errors.ts"
import { define } from "./define.ts"
import * as k from "./keys.ts"
import { f32, mix, sqrt, type Weighted } from "./pictures.ts"
import { cleanFrom, levelOf, noiseFrom } from "./prediction.ts"
import type { Rule } from "./sampling.ts"
import { atMostTrainSteps, spacedTimesteps } from "./spacing.ts"
import { alphasOf } from "./training.ts"

/** Adams-Bashforth weights by the number of slopes known, newest first. */
export const adamsBashforth = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
] as const

/** Slope extrapolated from the last ones, oldest first. */
export function extrapolated(slopes: readonly Float32Array[]): Float32Array {
  const weights = adamsBashforth[Math.min(slopes.length, 4) - 1]!
  return mix(...weights.map((w, i): Weighted => [w, slopes.at(-1 - i)!]))
}

/** Weights of the four slopes of a Runge-Kutta step. */
const rungeKutta = [1 / 6, 1 / 3, 1 / 3, 1 / 6] as const

/** Timesteps of the three Runge-Kutta steps (four calls each) that start the multistep method. */
function warmUp(rising: readonly number[], half: number): number[] {
  if (rising.length < 4) {
    fail("STEPS", `${rising.length} steps, but this PNDM schedule needs at least 4`, {
      hint: "Ask for 4 or more steps, or set skip_prk_steps in scheduler_config.json.",
    })
  }
  return rising
    .slice(-4)
    .flatMap((t) => [t, t + half])
    .slice(0, -1)
    .flatMap((t) => [t, t])
    .slice(1, -1)
    .reverse()
}

/** Pseudo numerical methods, Liu et al. 2022, algorithm 1 (`skip_prk_steps`: algorithm 2, PLMS). */
export const pndm = define(
  {
    ...k.training(),
    ...k.prediction("epsilon", "v_prediction"),
    ...k.spacing("leading"),
    skip_prk_steps: k.flag(false),
    set_alpha_to_one: k.flag(false),
  },
  (keys, { steps }) => {
    atMostTrainSteps(steps, keys.num_train_timesteps)
    const rising = spacedTimesteps(keys, steps).reverse()
    const stride = Math.floor(keys.num_train_timesteps / steps)
    const half = Math.floor(stride / 2)
    const prk = keys.skip_prk_steps ? [] : warmUp(rising, half)
    const plms = keys.skip_prk_steps
      ? [...rising.slice(0, -1), ...rising.slice(-2, -1), ...rising.slice(-1)]
      : rising.slice(0, -3)
    const timesteps = [...prk, ...plms.reverse()]
    const alphas = alphasOf(keys, timesteps, keys.set_alpha_to_one)

    /** Eq. 11: from one timestep to another along an estimated noise. */
    const transfer = (x: Float32Array, from: number, to: number, output: Float32Array): Float32Array => {
      const [a, next] = [alphas.at(from), alphas.before(to)]
      const eps = noiseFrom(keys.prediction_type, levelOf(sqrt(a), sqrt(f32(1 - a))), x, output)
      const under = f32(f32(a * sqrt(f32(1 - next))) + sqrt(f32(f32(a * f32(1 - a)) * next)))
      return mix([sqrt(f32(next / a)), x], [-f32(next - a) / under, eps])
    }

    const begin = (): Rule => {
      const slopes: Float32Array[] = []
      let counter = 0
      let held: Float32Array | undefined
      let sum: Float32Array | undefined

      const rungeKuttaStep = (raw: Float32Array, x: Float32Array, t: number): Float32Array => {
        const stage = counter % 4
        if (stage === 0) {
          slopes.push(raw)
          held = x
        }
        const term: Weighted = [rungeKutta[stage]!, raw]
        sum = sum ? mix([1, sum], term) : mix(term)
        const to = t - (counter % 2 === 1 ? 0 : half)
        const from = prk[counter - stage]!
        const output = stage === 3 ? sum : raw
        if (stage === 3) sum = undefined
        return transfer(held ?? x, from, to, output)
      }
      const linearStep = (raw: Float32Array, x: Float32Array, t: number): Float32Array => {
        if (counter === 1) {
          // the second call repeats the first step with the mean of both slopes
          return transfer(held ?? x, t + stride, t, mix([0.5, raw], [0.5, slopes.at(-1)!]))
        }
        slopes.splice(0, Math.max(0, slopes.length - 3))
        slopes.push(raw)
        if (counter === 0) held = x
        return transfer(x, t, t - stride, extrapolated(slopes))
      }
      return ({ raw, x, index }) => {
        const t = timesteps[index]!
        const a = alphas.at(t)
        const x0 = cleanFrom(keys.prediction_type, levelOf(sqrt(a), sqrt(f32(1 - a))), x, raw)
        const next = counter < prk.length ? rungeKuttaStep(raw, x, t) : linearStep(raw, x, t)
        counter++
        return { x: next, x0 }
      }
    }
    return { timesteps, shares: (index) => alphas.shares(timesteps[index]!), begin }
  },
)

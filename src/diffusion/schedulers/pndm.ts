import { fail } from "../../errors.ts"
import { define } from "./define.ts"
import * as k from "./keys.ts"
import { f32, mix, sqrt, type Weighted } from "./pictures.ts"
import { cleanFrom, levelOf, noiseFrom } from "./prediction.ts"
import type { Rule } from "./sampling.ts"
import { atMostTrainSteps, type SpacingKeys, spacedTimesteps } from "./spacing.ts"
import { type Alphas, alphasOf } from "./training.ts"

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

interface Plan {
  readonly timesteps: readonly number[]
  /** How many of them belong to Runge-Kutta steps. */
  readonly warmUp: number
  /** Distance of two steps in training timesteps. */
  readonly stride: number
}

function planOf(keys: SpacingKeys & { readonly skip_prk_steps: boolean }, steps: number): Plan {
  atMostTrainSteps(steps, keys.num_train_timesteps)
  const rising = spacedTimesteps(keys, steps).reverse()
  const stride = Math.floor(keys.num_train_timesteps / steps)
  if (keys.skip_prk_steps) {
    const twiceSecond = [...rising.slice(0, -1), ...rising.slice(-2, -1), ...rising.slice(-1)]
    return { timesteps: twiceSecond.reverse(), warmUp: 0, stride }
  }
  const prk = warmUp(rising, Math.floor(stride / 2))
  return { timesteps: [...prk, ...rising.slice(0, -3).reverse()], warmUp: prk.length, stride }
}

/** Moves latents from one timestep to another along an estimated noise. */
type Transfer = (x: Float32Array, from: number, to: number, output: Float32Array) => Float32Array

/** Eq. 11. */
const transferOf =
  (kind: "epsilon" | "v_prediction", alphas: Alphas): Transfer =>
  (x, from, to, output) => {
    const [a, next] = [alphas.at(from), alphas.before(to)]
    const left = f32(1 - a)
    const eps = noiseFrom(kind, levelOf(sqrt(a), sqrt(left)), x, output)
    const under = f32(f32(a * sqrt(f32(1 - next))) + sqrt(f32(f32(a * left) * next)))
    const move = f32(next - a)
    return mix([sqrt(f32(next / a)), x], [-1, eps.map((v) => f32(move * v) / under)])
  }

/** The moves of one run; calls are counted from its start, also where image to image enters late. */
function moves(plan: Plan, transfer: Transfer) {
  const slopes: Float32Array[] = []
  let held: Float32Array | undefined
  let sum: Float32Array | undefined

  const rungeKuttaMove = (raw: Float32Array, x: Float32Array, t: number, counter: number): Float32Array => {
    const stage = counter % 4
    if (stage === 0) {
      slopes.push(raw)
      held = x
    }
    const term: Weighted = [rungeKutta[stage]!, raw]
    const total: Float32Array = sum ? mix([1, sum], term) : mix(term)
    sum = stage === 3 ? undefined : total
    const to = t - (counter % 2 === 1 ? 0 : Math.floor(plan.stride / 2))
    return transfer(held ?? x, plan.timesteps[counter - stage]!, to, stage === 3 ? total : raw)
  }
  const linearMove = (raw: Float32Array, x: Float32Array, t: number, counter: number): Float32Array => {
    if (counter === 1) {
      // the second call repeats the first step with the mean of both slopes
      return transfer(held ?? x, t + plan.stride, t, mix([0.5, raw], [0.5, slopes.at(-1)!]))
    }
    slopes.splice(0, slopes.length - 3)
    slopes.push(raw)
    if (counter === 0) held = x
    return transfer(x, t, t - plan.stride, extrapolated(slopes))
  }
  return { rungeKuttaMove, linearMove }
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
    const plan = planOf(keys, steps)
    const alphas = alphasOf(keys, plan.timesteps, keys.set_alpha_to_one)

    const begin = (): Rule => {
      const { rungeKuttaMove, linearMove } = moves(plan, transferOf(keys.prediction_type, alphas))
      let counter = 0
      return ({ raw, x, index }) => {
        const t = plan.timesteps[index]!
        const { signal, noise } = alphas.shares(t)
        const x0 = cleanFrom(keys.prediction_type, levelOf(signal, noise), x, raw)
        const move = counter < plan.warmUp ? rungeKuttaMove : linearMove
        return { x: move(raw, x, t, counter++), x0 }
      }
    }
    return { timesteps: plan.timesteps, shares: (index) => alphas.shares(plan.timesteps[index]!), begin }
  },
)

import { contradiction, define, oneSigmaSpacing } from "./define.ts"
import { twice } from "./exploding.ts"
import * as k from "./keys.ts"
import { linspace } from "./numpy.ts"
import { along, f32, mix } from "./pictures.ts"
import { cleanFrom, straight } from "./prediction.ts"
import type { Rule } from "./sampling.ts"
import { respaced, shifted } from "./sigmas.ts"

/** Timesteps from the first to the last training sigma; those are shifted once already, as diffusers does. */
function evenTimesteps(train: number, shift: number, steps: number): number[] {
  const ends = [1, f32(1 / train)].map((s) => f32(f32(shift * s) / f32(1 + f32((shift - 1) * s))))
  return linspace(ends[0]! * train, ends[1]! * train, steps)
}

const shares = (sigmas: readonly number[]) => (index: number) => ({
  signal: f32(1 - sigmas[index]!),
  noise: sigmas[index]!,
})

interface FlowKeys {
  readonly num_train_timesteps: number
  readonly shift: number
  readonly use_dynamic_shifting: boolean
  readonly time_shift_type: "exponential" | "linear"
  readonly shift_terminal: number | null
}

/** Sigmas in double after the shift for the picture's size and the stretch to a terminal value. */
function shiftedSigmas(keys: FlowKeys, steps: number, mu: number | undefined): number[] {
  const train = keys.num_train_timesteps
  const even = evenTimesteps(train, keys.use_dynamic_shifting ? 1 : keys.shift, steps).map((t) => t / train)
  const grown = mu !== undefined && keys.time_shift_type === "exponential" ? Math.exp(mu) : mu
  const moved = even.map((s) =>
    keys.use_dynamic_shifting && grown !== undefined ? grown / (grown + (1 / s - 1)) : shifted(s, keys.shift),
  )
  if (!keys.shift_terminal) return moved
  const stretch = (1 - moved.at(-1)!) / (1 - keys.shift_terminal)
  return moved.map((s) => 1 - (1 - s) / stretch)
}

/** Euler's method on a straight flow: Lipman et al. 2023, Esser et al. 2024. */
export const flowMatchEuler = define(
  {
    ...k.sigmaSpacing,
    num_train_timesteps: k.positive(1000),
    shift: k.real(1),
    use_dynamic_shifting: k.flag(false),
    // these four say how a pipeline finds mu
    base_shift: k.maybe,
    max_shift: k.maybe,
    base_image_seq_len: k.whole(256),
    max_image_seq_len: k.whole(4096),
    invert_sigmas: k.flag(false),
    shift_terminal: k.maybe,
    time_shift_type: k.choice(["exponential", "linear"], "exponential"),
    stochastic_sampling: k.flag(false),
  },
  (keys, { steps, mu }) => {
    oneSigmaSpacing(keys)
    if (keys.use_dynamic_shifting && mu === undefined) contradiction("use_dynamic_shifting", "needs a mu")
    const train = keys.num_train_timesteps
    const moved = shiftedSigmas(keys, steps, mu)
    const rounded = (respaced(keys, moved, steps) ?? moved).map(f32)
    const falling = keys.invert_sigmas ? rounded.map((s) => f32(1 - s)) : rounded
    const sigmas = [...falling, keys.invert_sigmas ? 1 : 0]

    const begin = (): Rule => {
      return ({ raw, x, index, noise }) => {
        const [sigma, to] = [sigmas[index]!, sigmas[index + 1]!]
        const x0 = cleanFrom("flow_prediction", straight(sigma), x, raw)
        if (keys.stochastic_sampling) return { x: mix([f32(1 - to), x0], [to, noise()]), x0 }
        return { x: along(x, raw, f32(to - sigma)), x0 }
      }
    }
    return { timesteps: falling.map((s) => f32(s * train)), shares: shares(sigmas), begin }
  },
)

/** Heun's method on a straight flow. */
export const flowMatchHeun = define(
  { num_train_timesteps: k.positive(1000), shift: k.real(1) },
  (keys, { steps }) => {
    const train = keys.num_train_timesteps
    const falling = evenTimesteps(train, keys.shift, steps).map((t) => f32(shifted(t / train, keys.shift)))
    const sigmas = [...twice(falling), 0]

    const begin = (): Rule => {
      let held: { x: Float32Array; slope: Float32Array } | undefined
      return ({ raw, x, index }) => {
        const sigma = sigmas[index]!
        const x0 = cleanFrom("flow_prediction", straight(sigma), x, raw)
        const slope = x.map((v, i) => f32(v - x0[i]!) / sigma)
        if (!held) {
          held = { x, slope }
          return { x: along(x, slope, f32(sigmas[index + 1]! - sigma)), x0 }
        }
        const mean = slope.map((v, i) => 0.5 * f32(held!.slope[i]! + v))
        const next = along(held.x, mean, f32(sigma - sigmas[index - 1]!))
        held = undefined
        return { x: next, x0 }
      }
    }
    return {
      timesteps: twice(falling).map((s) => f32(s * train)),
      shares: shares(sigmas),
      begin,
      callsPerStep: 2,
    }
  },
)

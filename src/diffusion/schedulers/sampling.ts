import { fail } from "../../errors.ts"
import { cutoffAt, type DrawNoise, type SampleRun, type Sampling, type SamplingOptions } from "../types.ts"
import { f32, mix } from "./pictures.ts"

export interface SchedulerOptions extends SamplingOptions {
  /** Share of fresh noise per step, 0..1 (DDIM, TCD); 0. */
  readonly eta?: number
  /** Shift for schedulers with `use_dynamic_shifting`, which depends on the picture's size. */
  readonly mu?: number
}

/** One network call's answer. */
export interface Call {
  /** The network's output for `x` brought to the input scale. */
  readonly raw: Float32Array
  readonly x: Float32Array
  /** Position in the solver's timesteps. */
  readonly index: number
  readonly noise: DrawNoise
}

export interface Answer {
  /** Latents for the next call. */
  readonly x: Float32Array
  readonly x0: Float32Array
}

export type Rule = (call: Call) => Answer

/** A scheduler bound to its number of steps: all that differs between classes. */
export interface Solver {
  /** One entry per network call. */
  readonly timesteps: readonly number[]
  /** Network calls per step, which image to image skips together; 1. */
  readonly callsPerStep?: 1 | 2
  /** Pure noise is multiplied by this; 1. */
  readonly startScale?: number
  /** Latents are divided by this before call `index`; 1. */
  inputScale?(index: number): number
  /** Shares of clean picture and noise in latents that are noised to call `index`. */
  shares(index: number): { readonly signal: number; readonly noise: number }
  /** The update rule with a history of its own. */
  begin(run: Pick<SampleRun, "seed" | "rng">): Rule
}

const wholeSteps = (steps: number): number => {
  if (Number.isInteger(steps) && steps >= 1 && steps <= 100_000) return steps
  return fail("STEPS", `steps is ${steps}`, { hint: "Give a whole number of at least 1." })
}

/** Options within their ranges. */
export function checkedOptions(
  options: SchedulerOptions,
): Required<Omit<SchedulerOptions, "mu" | "begin" | "end">> & Pick<SchedulerOptions, "mu" | "begin" | "end"> {
  const { steps, strength = 1, eta = 0, mu, begin, end } = options
  if (!(strength >= 0 && strength <= 1)) {
    fail("STRENGTH", `strength is ${strength}`, { hint: "Give a number from 0 to 1." })
  }
  if (!(eta >= 0 && eta <= 1)) fail("ETA", `eta is ${eta}`, { hint: "Give a number from 0 to 1." })
  return { steps: wholeSteps(steps), strength, eta, mu, begin, end }
}

/** Steps that image to image leaves out (StableDiffusionImg2ImgPipeline.get_timesteps). */
export function skippedSteps(steps: number, strength: number): number {
  const remaining = Math.min(Math.trunc(steps * strength), steps)
  if (remaining >= 1) return steps - remaining
  return fail("STRENGTH", `strength ${strength} leaves none of ${steps} steps`, {
    hint: `Give a strength of at least ${Math.ceil(1000 / steps) / 1000}, or more steps.`,
  })
}

/** Calls below a timestep; a step of two calls is not cut in its middle. */
function callsAfter({ timesteps, callsPerStep = 1 }: Solver, cutoff: number): number {
  const count = timesteps.filter((t) => t < cutoff).length
  return callsPerStep === 2 && count % 2 === 0 ? count + 1 : count
}

/** The run of StableDiffusionPipeline over a solver: scale, predict, step, once per timestep. */
export function samplingOf(
  solver: Solver,
  options: { steps: number; strength: number; begin?: number | undefined; end?: number | undefined },
  trained = 1000,
): Sampling {
  const { begin, end } = options
  const first =
    begin === undefined
      ? skippedSteps(options.steps, options.strength) * (solver.callsPerStep ?? 1)
      : solver.timesteps.length - callsAfter(solver, cutoffAt(begin, trained))
  const rest = solver.timesteps.slice(first)
  const timesteps =
    end === undefined ? rest : rest.slice(0, rest.filter((t) => t >= cutoffAt(end, trained)).length)
  if (timesteps.length === 0)
    fail("STEPS", `none of ${options.steps} steps lies between ${begin ?? 0} and ${end ?? 1} of the way`, {
      hint: "Give more steps, or hand over at another place.",
    })
  const total = timesteps.length
  const noisedAt = (x0: Float32Array, noise: Float32Array, index: number): Float32Array => {
    const shares = solver.shares(index)
    return mix([shares.signal, x0], [shares.noise, noise])
  }
  return {
    timesteps,
    steps: total,
    start: (noise) => noise.map((v) => v * f32(solver.startScale ?? 1)),
    noised: (x0, noise) => noisedAt(x0, noise, first),
    noisedAfter: (x0, noise, index) =>
      index + 1 < total ? noisedAt(x0, noise, first + index + 1) : x0.slice(),
    async *run({ predict, x, noise, seed, rng }) {
      const rule = solver.begin({ seed, rng })
      for (const [i, t] of timesteps.entries()) {
        const index = first + i
        const scale = solver.inputScale?.(index) ?? 1
        const raw = await predict(scale === 1 ? x : x.map((v) => v / scale), t)
        const answer = rule({ raw, x, index, noise })
        x = answer.x
        yield { index: i, total, x, x0: answer.x0 }
      }
      return x
    },
  }
}

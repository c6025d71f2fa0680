import { fail } from "../errors.ts"
import { compvisSchedule, consistencyLevels } from "./a1111.ts"
import type { TrainingConfig } from "./betas.ts"
import { brownianTree, type StepNoise } from "./brownian.ts"
import { denoiser, type NoiseLevels, noiseLevels } from "./denoiser.ts"
import { mix } from "./latent.ts"
import type { KSampler, Plan } from "./samplers/run.ts"
import { type SamplerId, type SamplerOptions, samplerIds, samplers } from "./samplers.ts"
import { type ScheduleId, type ScheduleOptions, type SigmaSchedule, sigmaSchedule } from "./schedules.ts"
import { cutoffAt, type SampleRun, type Sampling, type SamplingOptions } from "./types.ts"

export { parseSamplerLabel, parseScheduleLabel, type SamplerRecipe } from "./labels.ts"
export { type SamplerId, samplerIds } from "./samplers.ts"
export { type Dialect, type ScheduleId, scheduleIds } from "./schedules.ts"

/** The model's scheduler_config.json, as far as samplers over its noise levels read it. */
export interface KTraining extends TrainingConfig {
  readonly steps_offset?: number
}

export interface KSamplingOptions
  extends SamplingOptions,
    SamplerOptions,
    Omit<ScheduleOptions, "stepsOffset"> {
  readonly sampler: SamplerId
  /** `normal` */
  readonly schedule?: ScheduleId
  readonly training: KTraining
  /** Falling noise levels of one's own, instead of a schedule. */
  readonly sigmas?: readonly number[]
  /** Step noise from a Brownian tree of the picture's seed (A1111, ComfyUI) instead of its noise stream. */
  readonly brownian?: boolean
  /** One more level is made and the one before the last left out (A1111's DPM2 and 3M SDE, ComfyUI's UniPC). */
  readonly discardPenultimate?: boolean
  /** A1111's DDIM, PLMS and UniPC over timesteps, ending above 0; or its LCM over the levels of the distillation. */
  readonly method?: "compvis" | "consistency"
}

function ownSigmas(sigmas: readonly number[]): SigmaSchedule {
  const falls = sigmas.every((s, i) => s >= 0 && (i === 0 || s < sigmas[i - 1]!))
  if (falls && sigmas.length >= 2) return { sigmas }
  return fail("SCHEDULE", "the noise levels do not fall", {
    hint: "Give at least two, each lower than the one before.",
  })
}

function scheduleOf(options: KSamplingOptions, levels: NoiseLevels): SigmaSchedule {
  const { sigmas, schedule = "normal", steps, discardPenultimate, training } = options
  if (sigmas) return ownSigmas(sigmas)
  const ask = { ...options, stepsOffset: training.steps_offset }
  const compvis = options.method === "compvis"
  if (compvis && steps > 1 && steps <= levels.sigmas.length) {
    return compvisSchedule(steps, options.sampler === "unipc", levels)
  }
  const made = sigmaSchedule(schedule, discardPenultimate ? steps + 1 : steps, levels, ask)
  if (!discardPenultimate || made.sigmas.length < 3) return made
  return { sigmas: [...made.sigmas.slice(0, -2), made.sigmas.at(-1)!], times: made.times?.slice(0, -1) }
}

/** The last `int(steps * strength)` steps of a schedule. */
function sliced({ sigmas, times }: SigmaSchedule, options: KSamplingOptions): SigmaSchedule {
  const { strength = 1, steps } = options
  if (!(strength >= 0 && strength <= 1)) {
    fail("STRENGTH", `strength is ${strength}`, { hint: "Give a number from 0 to 1." })
  }
  const all = sigmas.length - 1
  const asked = options.sigmas ? all : steps
  const count = strength === 1 ? all : Math.min(Math.trunc(asked * strength), all)
  if (count < 1) {
    fail("STRENGTH", `strength ${strength} leaves none of ${asked} steps`, {
      hint: `Give a strength of at least ${Math.ceil(1000 / asked) / 1000}, or more steps.`,
    })
  }
  return { sigmas: sigmas.slice(all - count), times: times?.slice(all - count) }
}

/** The levels from one place of the way to another, where two models share it; the last is the other's first. */
function between(
  { sigmas, times }: SigmaSchedule,
  { begin, end, training, steps }: KSamplingOptions,
  levels: NoiseLevels,
): SigmaSchedule {
  if (begin === undefined && end === undefined) return { sigmas, times }
  const timeOf = (i: number) => times?.[i] ?? levels.timeOf(sigmas[i]!)
  const above = (share: number) => {
    const cutoff = cutoffAt(share, training.num_train_timesteps ?? 1000)
    return sigmas.slice(0, -1).filter((_, i) => timeOf(i) >= cutoff).length
  }
  const from = begin === undefined ? 0 : above(begin)
  const to = end === undefined ? sigmas.length - 1 : above(end)
  if (to <= from)
    fail("STEPS", `none of ${steps} steps lies between ${begin ?? 0} and ${end ?? 1} of the way`, {
      hint: "Give more steps, or hand over at another place.",
    })
  return { sigmas: sigmas.slice(from, to + 1), times: times?.slice(from, to) }
}

/** Where step noise comes from: the picture's own stream, or a tree over the whole schedule's levels. */
function stepNoise(brownian: boolean, whole: readonly number[], run: SampleRun): StepNoise {
  if (!brownian) return () => run.noise()
  const { seed } = run
  if (seed === undefined) fail("SEED", "Brownian noise needs the picture's seed")
  let tree: StepNoise | undefined
  return (sigma, next) => {
    tree ??= brownianTree(
      run.x.length,
      Math.min(...whole.filter((s) => s > 0)),
      Math.max(...whole),
      seed,
      run.rng,
    )
    return tree(sigma, next)
  }
}

function samplerOf(id: SamplerId): KSampler {
  if (Object.hasOwn(samplers, id)) return samplers[id]
  return fail("SAMPLER", `sampler "${id}" is not known`, { hint: `Known are ${samplerIds.join(", ")}.` })
}

const checkedEta = (eta: number | undefined): void => {
  if (eta !== undefined && !(eta >= 0 && eta <= 1)) {
    fail("ETA", `eta is ${eta}`, { hint: "Give a number from 0 to 1." })
  }
}

/**
 * k-diffusion scales pure noise by sigma. ComfyUI at the highest level, and diffusers with leading timesteps, scale it
 * to the deviation that noised latents would have.
 */
function startScale(sigma: number, highest: number, options: KSamplingOptions): number {
  const { dialect, schedule, sigmas, method } = options
  const leading = schedule === "leading" && sigmas === undefined
  const wide = method === "compvis" || (dialect === "comfy" ? sigma >= highest * (1 - 1e-5) : leading)
  return wide ? Math.sqrt(1 + sigma ** 2) : sigma
}

const noPlan: Plan = { calls: [], after: [] }

/**
 * A k-diffusion sampler bound to a schedule over a model's noise levels. Latents are in variance-exploding scale,
 * x0 + sigma noise.
 * @throws STEPS, STRENGTH, ETA, SAMPLER, SCHEDULE, SCHEDULER_CONFIG for settings out of range.
 */
export function kSampling(options: KSamplingOptions): Sampling {
  checkedEta(options.eta)
  const sampler = samplerOf(options.sampler)
  const trained = noiseLevels(options.training)
  const levels = options.method === "consistency" ? consistencyLevels(trained) : trained
  const whole = scheduleOf(options, levels)
  const { sigmas, times } = between(sliced(whole, options), options, levels)
  const clock = new Map(times?.map((t, i) => [sigmas[i]!, t]))
  const plan = sampler.plan?.({ sigmas, levels, options }) ?? noPlan
  const total = sampler.plan ? plan.after.length : sigmas.length - 1
  const top = sigmas[0]!
  const end = options.method === "compvis" ? sigmas.at(-1)! : 0 // what is left stays in variance-preserving scale
  return {
    timesteps: plan.calls.map((s) => clock.get(s) ?? levels.timeOf(s)),
    steps: total,
    start: (noise) => mix([startScale(top, levels.sigmas.at(-1)!, options), noise]),
    noised: (x0, noise) => mix([1, x0], [top, noise]),
    noisedAfter(x0, noise, index) {
      if (!sampler.plan) {
        fail("SAMPLER_ADAPTIVE", `the noise levels of ${options.sampler} are not known beforehand`, {
          hint: "Inpaint with another sampler.",
        })
      }
      return index + 1 < total ? mix([1, x0], [plan.after[index]!, noise]) : x0.slice()
    },
    async *run(run) {
      const denoise = denoiser(run.predict, levels, clock)
      const noise = stepNoise(options.brownian ?? false, whole.sigmas, run)
      let { x } = run
      let index = 0
      for await (const step of sampler.run({ denoise, x, sigmas, noise, levels, options })) {
        x = step.x
        yield { index, total: Math.max(total, index + 1), ...step }
        index++
      }
      return end > 0 ? mix([1 / Math.sqrt(1 + end ** 2), x]) : x
    },
  }
}

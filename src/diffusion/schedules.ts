import { fail } from "../errors.ts"
import { linspace32 } from "./betas.ts"
import type { NoiseLevels } from "./denoiser.ts"
import { betaQuantile } from "./schedulers/beta-quantile.ts"
import { countDown, interpolate, linspace, roundEven } from "./schedulers/numpy.ts"

/** Where two programs use one name for different numbers, whose reading is meant. */
export type Dialect = "a1111" | "comfy"

export interface ScheduleOptions {
  /** `a1111` */
  readonly dialect?: Dialect
  /** Bend of karras (7) and polyexponential (1). */
  readonly rho?: number
  /** Ends of karras, exponential, polyexponential, beta and kl-optimal; the model's own. */
  readonly sigmaMin?: number
  readonly sigmaMax?: number
  /** Shape of the symmetric beta distribution, 0.6. */
  readonly alpha?: number
  /** Align Your Steps has one table for SD 1.5 and one for SDXL. */
  readonly sdxl?: boolean
  /** Added to leading timesteps, 0. */
  readonly stepsOffset?: number
}

/** Falling noise levels, one more than there are steps; 0 at the end unless the schedule says otherwise. */
export interface SigmaSchedule {
  readonly sigmas: readonly number[]
  /** Timestep of each level but the last, where the schedule is made of timesteps. */
  readonly times?: readonly number[]
}

interface Ask {
  readonly n: number
  readonly levels: NoiseLevels
  readonly low: number
  readonly high: number
  readonly options: ScheduleOptions
}

const f32 = Math.fround
const endingInZero = (sigmas: readonly number[]): SigmaSchedule => ({ sigmas: [...sigmas, 0].map(f32) })

/** Levels at evenly spread timesteps from the model's last to its first, as many as `count`. */
function spread({ levels }: Ask, count: number): number[] {
  const start = levels.timeOf(levels.sigmas.at(-1)!)
  const end = levels.timeOf(levels.sigmas[0]!)
  return Array.from(linspace32(start, end, count), (t) => levels.sigmaAt(t))
}

function normal(ask: Ask): SigmaSchedule {
  // ComfyUI spends no step on a level that is zero already
  const endsClean = ask.options.dialect === "comfy" && ask.levels.sigmas[0]! < 1e-5
  return endsClean ? { sigmas: spread(ask, ask.n + 1).map(f32) } : endingInZero(spread(ask, ask.n))
}

// torch's float32 steps from here on: a Brownian tree gives other noise for a sigma one unit off

/** Karras et al. 2022, eq. 5. */
function karras({ n, low, high, options: { rho = 7 } }: Ask): SigmaSchedule {
  const from = high ** (1 / rho)
  const span = f32(low ** (1 / rho) - from)
  return endingInZero(Array.from(linspace32(0, 1, n), (part) => f32(f32(from) + f32(part * span)) ** rho))
}

const exponential = ({ n, low, high }: Ask): SigmaSchedule =>
  endingInZero(Array.from(linspace32(Math.log(high), Math.log(low), n), Math.exp))

/** A polynomial in log sigma (k-diffusion). */
function polyexponential({ n, low, high, options: { rho = 1 } }: Ask): SigmaSchedule {
  const span = f32(Math.log(high) - Math.log(low))
  const ramp = Array.from(linspace32(1, 0, n), (part) => f32(part ** rho))
  return endingInZero(ramp.map((part) => Math.exp(f32(f32(part * span) + f32(Math.log(low))))))
}

/** Every `length / n`-th level counted from the noisiest. */
function simple({ n, levels: { sigmas } }: Ask): SigmaSchedule {
  const stride = sigmas.length / n
  return endingInZero(
    Array.from({ length: n }, (_, i) => sigmas[sigmas.length - 1 - Math.trunc(i * stride)]!),
  )
}

/** Levels 1, 1 + stride, ... of the original DDIM code; one more than asked where n does not divide the levels. */
function ddimUniform({ n, levels: { sigmas }, options }: Ask): SigmaSchedule {
  const endsClean = options.dialect === "comfy" && sigmas[1]! < 1e-5
  const stride = Math.max(Math.floor(sigmas.length / (endsClean ? n + 1 : n)), 1)
  const taken = Array.from(sigmas).filter((_, i) => i % stride === 1 % stride && i > 0)
  taken.reverse()
  return endsClean ? { sigmas: taken } : endingInZero(taken)
}

/** Lee et al. 2024, "Beta Sampling is All You Need". */
function beta({ n, low, high, levels, options: { dialect, alpha = 0.6 } }: Ask): SigmaSchedule {
  if (dialect !== "comfy") {
    return endingInZero(linspace(0, 1, n).map((p) => low + betaQuantile(1 - p, alpha) * (high - low)))
  }
  const steps = Array.from(
    { length: n },
    (_, i) => betaQuantile(1 - i / n, alpha) * (levels.sigmas.length - 1),
  )
  return endingInZero([...new Set(steps.map(roundEven))].map((t) => levels.sigmas[t]!))
}

/** Sabour et al. 2024, theorem 3.1; A1111 ends at the lowest level, ComfyUI at 0. */
function klOptimal({ n, low, high, options }: Ask): SigmaSchedule {
  const [from, to] = [f32(Math.atan(high)), f32(Math.atan(low))]
  const at = (part: number) => f32(Math.tan(f32(f32(f32(part) * to) + f32(f32(1 - f32(part)) * from))))
  if (options.dialect === "comfy") return endingInZero(n === 1 ? [high] : linspace(0, 1, n).map(at))
  return { sigmas: Array.from({ length: n + 1 }, (_, i) => at(i / n)) }
}

// Sabour et al. 2024, "Align Your Steps", the published ten-step tables
const alignedSd15 = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
const alignedSdxl = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.38, 0.234, 0.113, 0.029]

/** A1111 spreads n levels over the table and adds 0; ComfyUI spreads n + 1 and replaces the last by 0. */
function alignYourSteps({ n, options: { dialect, sdxl } }: Ask): SigmaSchedule {
  const table = sdxl ? alignedSdxl : alignedSd15
  const logs = table.map(Math.log)
  const spreadTo = (count: number) =>
    count === table.length ? table : linspace(0, 10, count).map((at) => Math.exp(interpolate(at, logs)))
  return endingInZero(dialect === "comfy" ? spreadTo(n + 1).slice(0, -1) : spreadTo(n))
}

/** diffusers' spacings: timesteps first, then sigmas linear between training steps (EulerDiscrete's default). */
function timed({ levels }: Ask, times: readonly number[]): SigmaSchedule {
  const last = levels.sigmas.length - 1
  const clock = times.map((t) => f32(Math.min(t, last)))
  return { times: clock, sigmas: [...clock.map((t) => f32(interpolate(t, levels.sigmas))), 0] }
}

const schedules = {
  normal,
  karras,
  exponential,
  polyexponential,
  "sgm-uniform": (ask) => endingInZero(spread(ask, ask.n + 1).slice(0, -1)),
  simple,
  "ddim-uniform": ddimUniform,
  beta,
  "kl-optimal": klOptimal,
  ays: alignYourSteps,
  trailing: (ask) => {
    const size = ask.levels.sigmas.length
    return timed(
      ask,
      countDown(size, size / ask.n)
        .slice(0, ask.n)
        .map((t) => roundEven(t) - 1),
    )
  },
  leading: (ask) => {
    const stride = Math.floor(ask.levels.sigmas.length / ask.n)
    const offset = ask.options.stepsOffset ?? 0
    return timed(
      ask,
      Array.from({ length: ask.n }, (_, i) => (ask.n - 1 - i) * stride + offset),
    )
  },
  linspace: (ask) => timed(ask, linspace(0, ask.levels.sigmas.length - 1, ask.n).reverse()),
} satisfies Record<string, (ask: Ask) => SigmaSchedule>

export type ScheduleId = keyof typeof schedules

/** Every `--schedule`. */
export const scheduleIds = Object.keys(schedules) as readonly ScheduleId[]

/**
 * Falling noise levels of a schedule over a model's levels, as k-diffusion, A1111, ComfyUI or diffusers define it.
 * @throws STEPS unless 1 <= n <= the number of training steps; SCHEDULE for an unknown id or an impossible range.
 */
export function sigmaSchedule(
  id: ScheduleId,
  n: number,
  levels: NoiseLevels,
  options: ScheduleOptions = {},
): SigmaSchedule {
  if (!Number.isInteger(n) || n < 1 || n > levels.sigmas.length) {
    fail("STEPS", `steps is ${n}`, { hint: `Give a whole number from 1 to ${levels.sigmas.length}.` })
  }
  if (!Object.hasOwn(schedules, id)) {
    fail("SCHEDULE", `schedule "${id}" is not known`, { hint: `Known are ${scheduleIds.join(", ")}.` })
  }
  const low = options.sigmaMin ?? levels.sigmas[0]!
  const high = options.sigmaMax ?? levels.sigmas.at(-1)!
  if (!(low > 0 && low < high)) fail("SCHEDULE", `sigmas from ${low} to ${high} are no range`)
  return schedules[id]({ n, levels, low, high, options })
}

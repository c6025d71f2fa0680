import { parseSamplerLabel, parseScheduleLabel, type SamplerRecipe } from "../diffusion/labels.ts"
import { type KTraining, kSampling, samplerIds, scheduleIds } from "../diffusion/sampling.ts"
import { schedulerSampling } from "../diffusion/schedulers/index.ts"
import type { ScheduleId } from "../diffusion/schedules.ts"
import type { Sampling } from "../diffusion/types.ts"
import { fail } from "../errors.ts"
import { type Hires, hiresSchedule } from "./hires.ts"
import type { Preset } from "./presets.ts"
import type { GenerateRequest } from "./request.ts"
import type { Settings } from "./settings.ts"

/**
 * A sampler and its schedule by the ids of the command line or by the labels that A1111 and ComfyUI print
 * ("DPM++ 2M Karras"); a schedule of its own goes before the label's. @throws SAMPLER, SCHEDULE
 */
export function samplerChoice(
  sampler: string,
  schedule: string | undefined,
): SamplerRecipe & { schedule?: ScheduleId } {
  const recipe =
    parseSamplerLabel(sampler) ??
    fail("SAMPLER", `there is no sampler ${sampler}`, {
      hint: `use one of ${samplerIds.join(", ")}, or a label that A1111 or ComfyUI prints`,
    })
  if (schedule === undefined) return recipe
  if (schedule === "automatic") return { ...recipe, schedule: recipe.schedule ?? recipe.automatic }
  const named =
    parseScheduleLabel(schedule) ??
    fail("SCHEDULE", `there is no schedule ${schedule}`, { hint: `use one of ${scheduleIds.join(", ")}` })
  return { ...recipe, schedule: named }
}

/** The model's own scheduler as its config says, or the sampler asked for over the model's noise levels. */
export function samplingFor(
  ask: Pick<GenerateRequest, "sampler" | "schedule" | "eta">,
  {
    steps,
    strength,
    preset,
    begin,
    end,
  }: { steps: number; strength?: number | undefined; preset: Preset | null; begin?: number; end?: number },
  scheduler: KTraining,
): Sampling {
  const unasked = ask.sampler === undefined && ask.schedule === undefined
  if (unasked && preset?.sampler === undefined)
    return schedulerSampling(scheduler, { steps, strength, eta: ask.eta, begin, end })
  const recipe = unasked
    ? samplerChoice(preset!.sampler!, preset!.schedule)
    : samplerChoice(ask.sampler ?? "euler", ask.schedule)
  const eta = ask.eta ?? (unasked ? preset?.eta : undefined) ?? recipe.eta
  return kSampling({ ...recipe, training: scheduler, steps, strength, eta, begin, end })
}

/** The sampling of a request's only or first pass. */
export function firstSampling(ask: GenerateRequest, settings: Settings, scheduler: KTraining): Sampling {
  const strength = settings.init && !settings.instruct ? settings.strength : undefined
  const end = ask.refiner && (ask.refiner.at ?? handover)
  return samplingFor(ask, { ...settings, strength, ...(end === undefined ? {} : { end }) }, scheduler)
}

/** Share of the way at which a refiner takes over, where nothing else is asked (Podell et al. 2023). */
const handover = 0.8

/** The rest of a request's way, for the refiner. */
export function refinerSampling(ask: GenerateRequest, settings: Settings, scheduler: KTraining): Sampling {
  return samplingFor(ask, { ...settings, begin: ask.refiner?.at ?? handover }, scheduler)
}

/** The sampling of a second pass: its own sampler, else the first one's. */
export function secondSampling(
  ask: GenerateRequest,
  hires: Hires,
  preset: Preset | null,
  scheduler: KTraining,
): Sampling {
  const { sampler = ask.sampler, schedule = hires.ask.sampler === undefined ? ask.schedule : undefined } =
    hires.ask
  return samplingFor({ sampler, schedule, eta: ask.eta }, { ...hiresSchedule(hires), preset }, scheduler)
}

import type { SamplerId } from "../diffusion/samplers.ts"
import { samplerIds, scheduleIds } from "../diffusion/sampling.ts"
import type { ScheduleId } from "../diffusion/schedules.ts"
import { fail } from "../errors.ts"

/** A sampler and schedule by the ids of the contract or by the labels other programs print. @throws SAMPLER, SCHEDULE */
export function samplerChoice(
  sampler: string,
  schedule: string | undefined,
): { sampler: SamplerId; schedule: ScheduleId | undefined } {
  if (!(samplerIds as readonly string[]).includes(sampler))
    fail("SAMPLER", `there is no sampler ${sampler}`, { hint: `use one of ${samplerIds.join(", ")}` })
  if (schedule !== undefined && !(scheduleIds as readonly string[]).includes(schedule))
    fail("SCHEDULE", `there is no schedule ${schedule}`, { hint: `use one of ${scheduleIds.join(", ")}` })
  return { sampler: sampler as SamplerId, schedule: schedule as ScheduleId | undefined }
}

import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { noiseLevels } from "./denoiser.ts"
import { type ScheduleId, type ScheduleOptions, scheduleIds, sigmaSchedule } from "./schedules.ts"

interface Case {
  schedule: ScheduleId
  steps: number
  options: ScheduleOptions
  sigmas: number[]
}
const golden = JSON.parse(readFileSync("test/golden/diffusion/schedules.json", "utf8")) as { cases: Case[] }
const levels = noiseLevels({ beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" })

test.each(golden.cases)("$schedule, $steps steps, $options", ({ schedule, steps, options, sigmas }) => {
  const mine = sigmaSchedule(schedule, steps, levels, options).sigmas
  expect(mine.length).toBe(sigmas.length)
  for (const [i, want] of sigmas.entries()) expect(Math.abs(mine[i]! - want)).toBeLessThanOrEqual(1e-6 * want)
})

test.each(scheduleIds)("%s falls from below the model's highest level, for every count", (id) => {
  for (const dialect of ["a1111", "comfy"] as const) {
    for (const n of [2, 3, 4, 10, 11, 15, 20, 33, 50, 100]) {
      const { sigmas, times } = sigmaSchedule(id, n, levels, { dialect })
      expect(sigmas.every((s, i) => i === 0 || s < sigmas[i - 1]!)).toBe(true)
      expect(sigmas[0]).toBeLessThan(14.62)
      if (times) expect(times.length).toBe(sigmas.length - 1)
      if (id !== "kl-optimal" || dialect === "comfy") expect(sigmas.at(-1)).toBe(0)
      const exact = id !== "ddim-uniform" && !(id === "beta" && dialect === "comfy")
      if (exact) expect(sigmas.length).toBe(n + 1)
    }
  }
})

test("ddim-uniform keeps A1111's extra step where n does not divide the levels", () => {
  expect(sigmaSchedule("ddim-uniform", 30, levels).sigmas.length).toBe(32)
  expect(sigmaSchedule("ddim-uniform", 20, levels).sigmas.length).toBe(21)
})

test("Align Your Steps' tables, and their two readings", () => {
  const ten = sigmaSchedule("ays", 10, levels, { dialect: "comfy" }).sigmas
  expect(ten.map((s) => +s.toFixed(3))).toEqual([
    14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0,
  ])
  const eleven = sigmaSchedule("ays", 11, levels, { sdxl: true }).sigmas
  expect(eleven.slice(-3).map((s) => +s.toFixed(3))).toEqual([0.113, 0.029, 0])
})

test("diffusers' spacings know their timesteps", () => {
  const times = (id: ScheduleId, stepsOffset = 0) => sigmaSchedule(id, 4, levels, { stepsOffset }).times
  expect(times("linspace")).toEqual([999, 666, 333, 0])
  expect(times("leading", 1)).toEqual([751, 501, 251, 1])
  expect(times("trailing")).toEqual([999, 749, 499, 249])
})

test("a level's time is the step it was trained at, exactly", () => {
  for (const t of [0, 1, 500, 998, 999]) expect(levels.timeOf(levels.sigmas[t]!)).toBe(t)
  expect(levels.timeOf(1e-9)).toBe(0)
  expect(levels.timeOf(1e9)).toBe(999)
  expect(levels.timeOf(levels.sigmaAt(123.25))).toBeCloseTo(123.25, 2)
})

import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { linspace32, type TrainingConfig, trainingSchedule } from "./betas.ts"

interface Case {
  config: TrainingConfig
  at: number[]
  betas: number[]
  alphasCumprod: number[]
  sigmas: number[]
}
const golden = JSON.parse(readFileSync("test/golden/diffusion/betas.json", "utf8")) as { cases: Case[] }

test.each(golden.cases)("diffusers' betas of $config", ({ config, at, ...expected }) => {
  const schedule = trainingSchedule(config)
  // torch's sqrt is one unit off for a few inputs; the zero-SNR rescale magnifies it where betas are tiny
  const slack = { betas: config.rescale_betas_zero_snr ? 1e-4 : 0, alphasCumprod: 3e-7, sigmas: 4e-7 }
  for (const key of ["betas", "alphasCumprod", "sigmas"] as const) {
    at.forEach((t, i) => {
      const want = Math.fround(expected[key][i]!)
      expect(Math.abs(schedule[key][t]! - want), `${key}[${t}]`).toBeLessThanOrEqual(slack[key] * want)
    })
  }
})

test("linspace ends exactly at its ends", () => {
  expect(linspace32(0.1, 0.7, 10).at(-1)).toBe(Math.fround(0.7))
  expect([...linspace32(3, 5, 1)]).toEqual([3])
})

test.each([
  [{ beta_schedule: "cosine" }, /"cosine" is not known/],
  [{ beta_schedule: "toString" }, /not known/],
  [{ num_train_timesteps: 0 }, /num_train_timesteps is 0/],
  [{ trained_betas: [] }, /beta 0 is missing/],
  [{ trained_betas: [0.1, Number.NaN] }, /beta 1 is NaN/],
])("a bad configuration is the caller's error: %j", (config, message) => {
  expect(() => trainingSchedule(config)).toThrow(message)
  expect(() => trainingSchedule(config)).toThrow(AquatintError)
})

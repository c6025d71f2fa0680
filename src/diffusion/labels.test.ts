import { expect, test } from "vitest"
import { parseSamplerLabel, parseScheduleLabel } from "./labels.ts"
import { samplerIds } from "./samplers.ts"

test.each([
  ["euler-a", { sampler: "euler-a" }],
  ["DDIM", { sampler: "ddim" }],
  ["Euler a", { sampler: "euler-a", dialect: "a1111" }],
  ["  euler   A ", { sampler: "euler-a" }],
  ["k_euler_a", { sampler: "euler-a" }],
  ["DPM++ 2M", { sampler: "dpmpp-2m", automatic: "karras" }],
  ["DPM++ 2M Karras", { sampler: "dpmpp-2m", schedule: "karras" }],
  ["DPM++ 2M SGM Uniform", { sampler: "dpmpp-2m", schedule: "sgm-uniform" }],
  ["DPM++ 2M Align Your Steps", { sampler: "dpmpp-2m", schedule: "ays" }],
  ["k_dpmpp_2m_ka", { sampler: "dpmpp-2m", schedule: "karras" }],
  [
    "DPM++ 2M SDE Heun Karras",
    { sampler: "dpmpp-2m-sde", schedule: "karras", solver: "heun", brownian: true },
  ],
  ["DPM++ 2M SDE", { sampler: "dpmpp-2m-sde", automatic: "exponential", brownian: true }],
  ["DPM++ SDE Karras", { sampler: "dpmpp-sde", schedule: "karras", brownian: true }],
  [
    "DPM++ 3M SDE Exponential",
    { sampler: "dpmpp-3m-sde", schedule: "exponential", discardPenultimate: true },
  ],
  ["DPM++ 2S a Karras", { sampler: "dpmpp-2s-a", schedule: "karras" }],
  ["DPM2 a Karras", { sampler: "dpm2-a", schedule: "karras", discardPenultimate: true }],
  ["DPM fast", { sampler: "dpm-fast", eta: 1 }],
  ["DPM adaptive", { sampler: "dpm-adaptive", eta: 1 }],
  ["LMS Karras", { sampler: "lms", schedule: "karras" }],
  ["Euler DDIM", { sampler: "euler", schedule: "ddim-uniform" }],
  ["UniPC", { sampler: "unipc" }],
  ["Restart", { sampler: "restart" }],
  ["dpmpp_2m", { sampler: "dpmpp-2m", dialect: "comfy" }],
  ["dpmpp_2m_sde_gpu", { sampler: "dpmpp-2m-sde", brownian: true, dialect: "comfy" }],
  ["dpmpp_2m_karras", { sampler: "dpmpp-2m", schedule: "karras", dialect: "comfy" }],
  ["euler_ancestral", { sampler: "euler-a", dialect: "comfy" }],
  ["uni_pc_bh2", { sampler: "unipc", solver: "bh2", discardPenultimate: true }],
])("%s", (label, expected) => {
  expect(parseSamplerLabel(label)).toMatchObject(expected)
})

test("a word with two meanings follows its origin", () => {
  expect(parseSamplerLabel("DDIM", "a1111")).toEqual({ sampler: "ddim", method: "compvis", dialect: "a1111" })
  expect(parseSamplerLabel("ddim", "comfy")).toEqual({ sampler: "ddim", dialect: "comfy" })
  expect(parseSamplerLabel("LCM", "a1111")).toMatchObject({ method: "consistency" })
  expect(parseSamplerLabel("dpm_2", "a1111")).toBeUndefined()
})

test("every id is its own label", () => {
  for (const id of samplerIds) expect(parseSamplerLabel(id)).toEqual({ sampler: id })
})

test.each(["", "magic", "karras", "toString", "DPM++ 9M Karras", "__proto__"])("%j is no label", (label) => {
  expect(parseSamplerLabel(label)).toBeUndefined()
})

test("schedule names of both programs", () => {
  const labels = [
    "Karras",
    "SGM Uniform",
    "sgm_uniform",
    "KL Optimal",
    "Uniform",
    "ddim_uniform",
    "Automatic",
    "constructor",
  ]
  const ids = [
    "karras",
    "sgm-uniform",
    "sgm-uniform",
    "kl-optimal",
    "normal",
    "ddim-uniform",
    undefined,
    undefined,
  ]
  expect(labels.map(parseScheduleLabel)).toEqual(ids)
})

import { expect, test } from "vitest"
import { presetNamed } from "./presets.ts"

test.each([
  ["sd_xl_turbo_1.0_fp16", "Turbo", 1, 1, "euler-a"],
  ["sdxl_lightning_4step", "Lightning, 4 steps", 4, 1, "euler"],
  ["juggernautXL_v9Rdphoto2Lightning", "Lightning, 4 steps", 4, 1, "euler"],
  ["Hyper-SDXL-8steps-lora", "Hyper-SD, 8 steps", 8, 1, undefined],
  ["Hyper-SDXL-1step-Unet", "Hyper-SD, 1 step", 1, 1, "tcd"],
  ["Hyper-SD15-12steps-CFG-lora", "Hyper-SD, 12 steps", 12, 5, undefined],
  ["lcm-lora-sdv1-5", "LCM", 4, 1.5, "lcm"],
  ["dreamshaper_8LCM", "LCM", 4, 1.5, "lcm"],
  ["v1-5-pruned-emaonly", undefined, 0, 0, undefined],
  ["perturbator", undefined, 0, 0, undefined],
])("%s", (name, preset, steps, cfg, sampler) => {
  const found = presetNamed(name, "its name")
  expect(found?.name).toBe(preset)
  if (preset) expect(found).toMatchObject({ steps, cfg, from: "its name", ...(sampler ? { sampler } : {}) })
})

test("what goes over a model's scheduler config", () => {
  expect(presetNamed("sdxl_lightning_1step_x0", "its name")?.config).toEqual({ prediction_type: "sample" })
  expect(presetNamed("Hyper-SDXL-8steps-lora", "its name")?.config).toMatchObject({
    timestep_spacing: "trailing",
  })
})

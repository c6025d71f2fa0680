import { expect, test } from "vitest"
import { AquatintError } from "../../errors.ts"
import { parseSchedulerConfig, schedulerNames, schedulerSampling } from "./index.ts"

const ddim = { _class_name: "DDIMScheduler", beta_schedule: "scaled_linear", clip_sample: false }

const errorOf = (config: unknown, options = { steps: 10 }): AquatintError => {
  try {
    schedulerSampling(config, options)
  } catch (error) {
    if (error instanceof AquatintError) return error
    throw error
  }
  throw new Error("no error")
}

test("every class runs on its defaults", async () => {
  for (const name of schedulerNames) {
    const sampling = schedulerSampling({ _class_name: name }, { steps: 5 })
    const noise = () => new Float32Array(16).fill(0.5)
    const x = sampling.start(noise())
    let calls = 0
    for await (const step of sampling.run({ predict: async (v) => v.map(Math.tanh), x, noise })) {
      expect(step.index).toBe(calls++)
      expect(step.total).toBe(sampling.steps)
      expect([...step.x, ...step.x0].every(Number.isFinite), name).toBe(true)
    }
    expect(calls).toBe(sampling.timesteps.length)
  }
})

test("runs are independent of each other", async () => {
  const sampling = schedulerSampling({ _class_name: "UniPCMultistepScheduler" }, { steps: 6 })
  const noise = () => new Float32Array(4)
  const once = async () => {
    let last = new Float32Array()
    const x = sampling.start(Float32Array.of(1, -1, 0.5, 0))
    for await (const step of sampling.run({ predict: async (v) => v.map(Math.sin), x, noise }))
      last = step.x as typeof last
    return [...last]
  }
  expect(await once()).toEqual(await once())
})

test("DDIM leading spacing with offset, as Stable Diffusion 1.x is saved", () => {
  const sampling = schedulerSampling({ ...ddim, steps_offset: 1, timestep_spacing: "leading" }, { steps: 4 })
  expect(sampling.timesteps).toEqual([751, 501, 251, 1])
})

test("two-call schedulers have an entry per network call, and image to image skips whole steps", () => {
  const heun = { _class_name: "HeunDiscreteScheduler", timestep_spacing: "leading" }
  expect(schedulerSampling(heun, { steps: 4 }).timesteps).toEqual([750, 500, 500, 250, 250, 0, 0])
  expect(schedulerSampling(heun, { steps: 4, strength: 0.5 }).timesteps).toEqual([250, 0, 0])
})

test("noise levels: start, first remaining step, after each step, clean at the end", () => {
  const sampling = schedulerSampling({ _class_name: "EulerDiscreteScheduler" }, { steps: 3, strength: 0.7 })
  const [clean, noise] = [Float32Array.of(1), Float32Array.of(1)]
  const levels = [sampling.noised(clean, noise), ...[0, 1].map((i) => sampling.noisedAfter(clean, noise, i))]
  expect(levels.map((x) => x[0]!)).toEqual([...levels.map((x) => x[0]!)].sort((a, b) => b - a))
  expect(levels.at(-1)![0]).toBe(1)
})

test("keys the class does not know are listed, private ones are not", () => {
  const sampling = schedulerSampling(
    { ...ddim, skip_prk_steps: true, newer: 1, _diffusers_version: "9" },
    { steps: 2 },
  )
  expect(sampling.name).toBe("DDIMScheduler")
  expect(sampling.ignored).toEqual(["skip_prk_steps", "newer"])
})

test("missing and null keys take the class's default", () => {
  const spaced = (config: object) => schedulerSampling(config, { steps: 2 }).timesteps
  expect(spaced({ _class_name: "DDIMScheduler", timestep_spacing: null })).toEqual([500, 0])
  expect(spaced({ _class_name: "EulerDiscreteScheduler" })).toEqual([999, 0])
})

test.each([
  [{}, "_class_name"],
  [{ _class_name: "NoScheduler" }, "_class_name"],
  [{ ...ddim, beta_schedule: "cosine" }, "beta_schedule"],
  [{ ...ddim, prediction_type: "flow_prediction" }, "prediction_type"],
  [{ ...ddim, num_train_timesteps: "1000" }, "num_train_timesteps"],
  [{ ...ddim, timestep_spacing: "even" }, "timestep_spacing"],
  [
    { _class_name: "EulerDiscreteScheduler", use_karras_sigmas: true, use_beta_sigmas: true },
    "use_beta_sigmas",
  ],
  [{ _class_name: "DPMSolverMultistepScheduler", algorithm_type: "dpmsolver" }, "final_sigmas_type"],
  [{ _class_name: "DPMSolverMultistepScheduler", algorithm_type: "ddim" }, "algorithm_type"],
  [{ _class_name: "DPMSolverSinglestepScheduler", solver_order: 4 }, "solver_order"],
  [
    { _class_name: "EDMDPMSolverMultistepScheduler", solver_order: 3, algorithm_type: "sde-dpmsolver++" },
    "solver_order",
  ],
  [{ _class_name: "UniPCMultistepScheduler", predict_x0: false }, "final_sigmas_type"],
  [{ _class_name: "UniPCMultistepScheduler", solver_p: {} }, "solver_p"],
  [{ _class_name: "UniPCMultistepScheduler", lower_order_final: false }, "lower_order_final"],
  [
    { _class_name: "DEISMultistepScheduler", use_flow_sigmas: true, use_karras_sigmas: true },
    "use_flow_sigmas",
  ],
  [{ ...ddim, rescale_betas_zero_snr: true, timestep_spacing: "trailing" }, "prediction_type"],
  [{ _class_name: "TCDScheduler", rescale_betas_zero_snr: true }, "prediction_type"],
  [{ _class_name: "UniPCMultistepScheduler", shift_terminal: 0.1 }, "shift_terminal"],
  [{ _class_name: "FlowMatchEulerDiscreteScheduler", use_dynamic_shifting: true }, "use_dynamic_shifting"],
  [
    { _class_name: "SASolverScheduler", algorithm_type: "noise_prediction", thresholding: true },
    "thresholding",
  ],
])("%j names %s", (config, field) => {
  const error = errorOf(config)
  expect(error.code).toBe("SCHEDULER_CONFIG")
  expect(error.exitCode).toBe(2)
  expect(error.message).toContain(field)
})

test.each([
  [{ ...ddim }, { steps: 1001 }, "STEPS"],
  [{ ...ddim }, { steps: 0 }, "STEPS"],
  [{ ...ddim, steps_offset: 1 }, { steps: 1000 }, "STEPS"],
  [{ _class_name: "PNDMScheduler" }, { steps: 3 }, "STEPS"],
  [{ _class_name: "LCMScheduler" }, { steps: 51 }, "STEPS"],
  [{ _class_name: "DPMSolverMultistepScheduler", timestep_spacing: "leading" }, { steps: 1000 }, "STEPS"],
  [{ ...ddim }, { steps: 10, strength: 0.05 }, "STRENGTH"],
  [{ ...ddim }, { steps: 10, strength: 1.5 }, "STRENGTH"],
  [{ ...ddim }, { steps: 10, eta: 2 }, "ETA"],
])("%j with %j is refused: %s", (config, options, code) => {
  expect(errorOf(config, options).code).toBe(code)
})

test("a config file with Python's infinities is read; broken text is an error", () => {
  const config = parseSchedulerConfig(
    '{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "a": "NaN"}',
  )
  expect(config).toEqual({
    _class_name: "DPMSolverMultistepScheduler",
    lambda_min_clipped: -Infinity,
    a: "NaN",
  })
  expect(schedulerSampling(config, { steps: 2 }).timesteps).toEqual([999, 500])
  expect(() => parseSchedulerConfig("{", "model/scheduler/scheduler_config.json")).toThrow(/not JSON/)
})

import { readFileSync } from "node:fs"
import { describe, expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { recording } from "./denoiser.ts"
import { torchGenerator } from "./random.ts"
import { type KSamplingOptions, kSampling, samplerIds } from "./sampling.ts"
import type { Predict, SampleRun, Sampling } from "./types.ts"

interface Case {
  sampler: KSamplingOptions["sampler"]
  schedule?: KSamplingOptions["schedule"]
  steps: number
  seed: number
  options: Partial<KSamplingOptions>
  prediction?: string
  steps_offset?: number
  times: number[]
  out: number[]
}
const golden = (name: string) =>
  (JSON.parse(readFileSync(`test/golden/diffusion/${name}.json`, "utf8")) as { cases: Case[] }).cases

const sd = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" }
const toy: Predict = async (x, t) => x.map((v) => Math.tanh(0.7 * v + 0.0017 * t))

async function finish(sampling: Sampling, run: SampleRun) {
  const steps = sampling.run(run)
  let count = 0
  for (let step = await steps.next(); ; step = await steps.next()) {
    if (step.done) return { out: step.value, count }
    expect(step.value.index).toBe(count++)
    expect(step.value.x.every(Number.isFinite) && step.value.x0.every(Number.isFinite)).toBe(true)
  }
}

async function replay({ seed, options, prediction, steps_offset, ...rest }: Case) {
  const training = { ...sd, prediction_type: prediction ?? "epsilon", steps_offset }
  const sampling = kSampling({ ...rest, ...options, training })
  const stream = torchGenerator(seed)
  const noise = () => stream.normal(16)
  const times: number[] = []
  const { out } = await finish(sampling, {
    x: sampling.start(noise()),
    noise,
    seed,
    predict: recording(toy, times),
  })
  return { sampling, out, times }
}

const worst = (a: ArrayLike<number>, b: readonly number[]) =>
  Math.max(...b.map((v, i) => Math.abs(a[i]! - v)))

describe.each(["samplers", "diffusers", "webui"])("reference trajectories: %s", (file) => {
  test.each(golden(file))("$sampler, $schedule, $steps steps, $options", async (expected) => {
    const { sampling, out, times } = await replay(expected)
    expect(times.length).toBe(expected.times.length)
    const adaptive = expected.sampler === "dpm-adaptive" // its step lengths magnify float32 rounding
    expect(worst(times, expected.times)).toBeLessThan(adaptive ? 0.5 : 2e-3)
    const scale = Math.max(1, ...expected.out.map(Math.abs))
    expect(worst(out, expected.out)).toBeLessThan((adaptive ? 3e-4 : 5e-5) * scale)
    if (!adaptive) expect(sampling.timesteps).toEqual(times)
  })
})

test("every sampler is covered by a reference trajectory or the Gaussian below", () => {
  const covered = new Set(["samplers", "diffusers", "webui"].flatMap((f) => golden(f).map((c) => c.sampler)))
  expect(samplerIds.filter((id) => !covered.has(id))).toEqual(["lcm", "tcd"])
})

// Data with deviation 0.5 and no mean: the ideal network is known, and so is where the flow ends.
const spread = 0.5
const ideal: Predict = async (x, t) => {
  const a = alphas[Math.floor(t)]! + (t % 1) * ((alphas[Math.ceil(t)] ?? 0) - alphas[Math.floor(t)]!)
  const sigma = Math.sqrt((1 - a) / a)
  // noise = (x - x0) / sigma at x0 = x spread^2 / (spread^2 + sigma^2), with the input scaled by 1 / sqrt(1 + sigma^2)
  return x.map((v) => (v * Math.sqrt(1 + sigma ** 2) * sigma) / (spread ** 2 + sigma ** 2))
}
const alphas = (() => {
  const out: number[] = []
  let product = 1
  for (let i = 0; i < 1000; i++) {
    product *= 1 - (Math.sqrt(0.00085) + ((Math.sqrt(0.012) - Math.sqrt(0.00085)) * i) / 999) ** 2
    out.push(product)
  }
  return out
})()

const noisy = new Set([
  "euler-a",
  "dpm2-a",
  "dpmpp-2s-a",
  "dpmpp-sde",
  "dpmpp-2m-sde",
  "dpmpp-3m-sde",
  "ddpm",
  "lcm",
  "restart",
])
test.each(samplerIds)("%s ends with the deviation of Gaussian data", async (sampler) => {
  const sampling = kSampling({ sampler, schedule: "karras", steps: 40, training: sd })
  const stream = torchGenerator(4)
  const noise = () => stream.normal(1024)
  const first = noise()
  const { out } = await finish(sampling, { x: sampling.start(first), noise, predict: ideal })
  const deviation = Math.sqrt(out.reduce((sum, v) => sum + v * v, 0) / out.length)
  const low = sampler === "lcm" ? 0 : 0.44 // LCM trusts its clean estimate, which an undistilled network makes too smooth
  expect(deviation).toBeGreaterThan(low)
  expect(deviation).toBeLessThan(0.56)
  if (!noisy.has(sampler)) {
    const scale = deviation / Math.sqrt(first.reduce((sum, v) => sum + v * v, 0) / first.length)
    expect(worst(out, [...first.map((v) => v * scale)])).toBeLessThan(0.01) // the flow only shrinks the noise
  }
})

describe("image to image", () => {
  const x0 = torchGenerator(1).normal(16)
  const noise = torchGenerator(2).normal(16)
  const sampling = (strength: number, steps = 10) =>
    kSampling({ sampler: "euler", schedule: "normal", steps, strength, training: sd })

  test.each([
    [10, 0.75, 7],
    [50, 0.58, 28],
    [10, 1, 10],
    [3, 0.34, 1],
  ])("%s steps at strength %s run int(steps * strength) of them", (steps, strength, count) => {
    expect(sampling(strength, steps).steps).toBe(count)
    expect(sampling(strength, steps).timesteps.length).toBe(count)
  })

  test("starts from the noised picture, and inpainting noises it to each later level", () => {
    const whole = sampling(1)
    const part = sampling(0.5)
    expect(part.noised(x0, noise)).toEqual(whole.noisedAfter(x0, noise, 4))
    expect(part.noisedAfter(x0, noise, 4)).toEqual(x0)
    expect(whole.noised(x0, noise)[3]).toBeCloseTo(x0[3]! + 14.6146 * noise[3]!, 3)
  })
})

test("the caller may change the latents between steps", async () => {
  const run = (touch: boolean) => {
    const sampling = kSampling({ sampler: "dpmpp-2m", steps: 4, training: sd })
    const steps = sampling.run({
      x: sampling.start(torchGenerator(3).normal(16)),
      noise: () => new Float32Array(16),
      predict: toy,
    })
    return (async () => {
      for (let step = await steps.next(); ; step = await steps.next()) {
        if (step.done) return step.value
        if (touch && step.value.index === 1) step.value.x.fill(0.1)
      }
    })()
  }
  expect(await run(true)).not.toEqual(await run(false))
})

test("comfy's start noise, diffusers' leading start, own noise levels", () => {
  const one = Float32Array.of(1)
  const start = (options: Partial<KSamplingOptions>) =>
    kSampling({ sampler: "euler", steps: 5, training: sd, ...options }).start(one)[0]!
  const top = start({})
  expect(start({ dialect: "comfy" })).toBeCloseTo(Math.sqrt(1 + top ** 2), 4)
  expect(start({ schedule: "leading" })).toBeGreaterThan(start({ schedule: "leading", sigmas: [5, 1, 0] }))
  expect(start({ sigmas: [5, 1, 0] })).toBe(5)
})

test("a zero-terminal-SNR model starts at a finite level", async () => {
  const training = { ...sd, rescale_betas_zero_snr: true, prediction_type: "v_prediction" }
  const sampling = kSampling({ sampler: "euler", schedule: "trailing", steps: 5, training })
  expect(sampling.start(Float32Array.of(1))[0]).toBeCloseTo(4096, 2)
  const noise = () => torchGenerator(1).normal(16)
  await finish(sampling, { x: sampling.start(noise()), noise, predict: toy })
})

test("flow prediction follows the straight line", async () => {
  const training = { ...sd, prediction_type: "flow_prediction" }
  const sampling = kSampling({ sampler: "euler", schedule: "normal", steps: 8, training })
  const noise = torchGenerator(5).normal(16)
  const target = torchGenerator(6).normal(16)
  const predict: Predict = async (x, t) => x.map((v, i) => (v - target[i]!) / (t / 1000)) // noise - x0
  const { out } = await finish(sampling, { x: sampling.noised(target, noise), noise: () => noise, predict })
  expect(worst(out, [...target])).toBeLessThan(1e-4)
})

test.each([
  [{ steps: 0 }, "STEPS"],
  [{ steps: 2.5 }, "STEPS"],
  [{ steps: 2000 }, "STEPS"],
  [{ strength: 1.5 }, "STRENGTH"],
  [{ strength: 0.01 }, "STRENGTH"],
  [{ strength: Number.NaN }, "STRENGTH"],
  [{ eta: -1 }, "ETA"],
  [{ sigmas: [1, 2, 0] }, "SCHEDULE"],
  [{ sigmas: [0] }, "SCHEDULE"],
  [{ sigmaMin: 5, sigmaMax: 1, schedule: "karras" }, "SCHEDULE"],
  [{ schedule: "toString" }, "SCHEDULE"],
  [{ sampler: "magic" }, "SAMPLER"],
  [{ training: { prediction_type: "dreams" } }, "SCHEDULER_CONFIG"],
])("settings out of range are the caller's error: %j", (wrong, code) => {
  const settings = { sampler: "euler", steps: 10, training: sd, ...wrong } as KSamplingOptions
  try {
    kSampling(settings)
  } catch (error) {
    expect(error).toBeInstanceOf(AquatintError)
    expect((error as AquatintError).code).toBe(code)
    return
  }
  expect.unreachable()
})

test("Brownian noise asks for a seed; unknown solvers and short answers are errors; adaptive steps do not inpaint", async () => {
  const x = new Float32Array(16).fill(1)
  const noise = () => x
  const go = (options: Partial<KSamplingOptions>, predict: Predict = toy) =>
    finish(kSampling({ sampler: "dpmpp-sde", steps: 5, training: sd, ...options }), { x, noise, predict })
  await expect(go({ brownian: true })).rejects.toMatchObject({ code: "SEED" })
  await expect(go({ sampler: "unipc", solver: "bh9" })).rejects.toMatchObject({ code: "SAMPLER_SOLVER" })
  await expect(go({}, async () => new Float32Array(3))).rejects.toMatchObject({ code: "PREDICTION_SIZE" })
  const adaptive = kSampling({ sampler: "dpm-adaptive", steps: 5, training: sd })
  expect(adaptive.timesteps).toEqual([])
  expect(() => adaptive.noisedAfter(x, x, 0)).toThrow(/not known beforehand/)
})

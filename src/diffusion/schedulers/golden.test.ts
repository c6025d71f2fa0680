import { readdirSync, readFileSync } from "node:fs"
import { describe, expect, test } from "vitest"
import { pictureNoise } from "../random.ts"
import { parseSchedulerConfig, schedulerSampling } from "./index.ts"

/** Cases that tools/reference/schedulers_golden.py ran in diffusers. */
interface Case {
  readonly config: Record<string, unknown>
  readonly seed: number
  readonly mode: "text" | "image" | "inpaint"
  readonly steps: number
  readonly strength?: number
  readonly eta?: number
  readonly timesteps: readonly number[]
  readonly latents: readonly number[]
}

const folder = new URL("../../../test/golden/schedulers/", import.meta.url)
const goldens = readdirSync(folder).filter((name) => name.endsWith(".json"))
const casesOf = (name: string): readonly Case[] =>
  (parseSchedulerConfig(readFileSync(new URL(name, folder), "utf8")) as { cases: Case[] }).cases

/** The toy network of the reference script, in double and rounded once. */
const predict = async (x: Float32Array, t: number) =>
  x.map((v) => Math.tanh(0.6 * v + 0.001 * Math.fround(t) - 0.3))

async function run(one: Case): Promise<{ timesteps: readonly number[]; latents: Float32Array }> {
  const { steps, strength, eta } = one
  const sampling = schedulerSampling(one.config, { steps, strength, eta })
  const noise = pictureNoise(one.seed, "cpu", one.latents.length)
  const clean = one.mode === "text" ? undefined : noise()
  const first = noise()
  let x = clean ? sampling.noised(clean, first) : sampling.start(first)
  for await (const step of sampling.run({ predict, x, noise })) {
    x = step.x
    if (!clean || one.mode !== "inpaint") continue
    const proper = sampling.noisedAfter(clean, first, step.index)
    for (let i = 0; i < x.length; i++) if (i % 3 !== 0) x[i] = proper[i]!
  }
  return { timesteps: sampling.timesteps, latents: x }
}

/**
 * The Brownian path of DPMSolverSDE rounds its times to 1e-6, so a last bit of torch's exp shows in the noise: the root
 * of 1e-6 times the root of a step.
 */
const tolerance = (name: string): number => (name.startsWith("DPMSolverSDE") ? 5e-4 : 1e-5)

const distance = (a: Float32Array, b: readonly number[]): number =>
  Math.hypot(...b.map((v, i) => v - a[i]!)) / Math.max(Math.hypot(...b), 1e-6)

describe.each(goldens)("%s", (name) => {
  const cases = casesOf(name)
  test.each(cases.map((one, i) => [i, one.mode, one.steps, one] as const))(
    "case %i: %s, %i steps, as diffusers",
    async (_i, _mode, _steps, one) => {
      const { timesteps, latents } = await run(one)
      expect(timesteps.length).toBe(one.timesteps.length)
      for (const [i, t] of one.timesteps.entries()) expect(timesteps[i]).toBeCloseTo(t, 3)
      expect(distance(latents, one.latents)).toBeLessThan(tolerance(name))
    },
  )
})

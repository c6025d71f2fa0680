import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { decodeImage, type GenerateRequest, StableDiffusion } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openGolden, relativeError } from "./golden-case.ts"
import { worst } from "./models/golden.ts"

/** A golden picture: what diffusers was asked, and the tensors it made (tools/reference/pipeline_golden.py). */
interface Case {
  model: string
  prompt: string
  negative: string
  mode: "text" | "image" | "inpaint"
  width: number
  height: number
  steps: number
  cfg: number
  eta: number
  seed: number
  strength: number
  count: number
  clip_skip: number | null
  syntax: "plain" | "a1111"
}

const golden = join(import.meta.dirname, "golden")
const files = readdirSync(join(golden, "pipelines")).filter((f) => f.endsWith(".safetensors"))
const engine = nodeEngine()
const scratch = mkdtempSync(join(tmpdir(), "aquatint-"))

afterAll(async () => {
  await engine.close()
  rmSync(scratch, { recursive: true })
})

/** The case's model with the case's scheduler in its folder. */
function modelWith(name: string, model: string, scheduler: unknown): string {
  const folder = join(scratch, name)
  cpSync(join(golden, "models", model), folder, { recursive: true })
  writeFileSync(join(folder, "scheduler", "scheduler_config.json"), JSON.stringify(scheduler))
  return folder
}

const picture = (name: string) => decodeImage(readFileSync(join(golden, "pipelines", name)))

test.each(files)("%s: diffusers' picture, tensor by tensor", async (file) => {
  const name = file.replace(".safetensors", "")
  const { about, want, has } = await openGolden<{ case: Case; scheduler: unknown }>(
    join(golden, "pipelines", file),
  )
  const c = about.case
  const ask: GenerateRequest = {
    prompt: c.prompt,
    negative: c.negative,
    width: c.width,
    height: c.height,
    steps: c.steps,
    cfg: c.cfg,
    eta: c.eta,
    seed: c.seed,
    count: c.count,
    strength: c.strength,
    promptSyntax: c.syntax,
  }
  if (c.clip_skip) ask.clipSkip = c.clip_skip
  if (c.mode !== "text") ask.init = await picture(`${name}.init.png`)
  if (c.mode === "inpaint") ask.mask = await picture(`${name}.mask.png`)
  const sd = await StableDiffusion.load(modelWith(name, c.model, about.scheduler), { engine, cache: null })
  const { trace, images } = await sd.generate(ask, { trace: true })
  await sd.release()
  const got = trace!.tensors()
  const f32 = (key: string) => got.get(key)!.data as Float32Array
  for (const key of ["text.cond", "text.uncond"]) {
    if (has(key)) expect(worst(f32(key), want(key))).toBeLessThan(2e-5)
    else expect(got.has(key)).toBe(false)
  }
  expect(Array.from(f32("timesteps"))).toEqual(Array.from(want("timesteps")))
  expect(worst(f32("noise"), want("noise"))).toBeLessThan(5e-6)
  expect(relativeError(f32("latents"), want("latents"))).toBeLessThan(5e-4)
  expect(worst(f32("image"), want("image"))).toBeLessThan(2e-3)
  expect(images.map((i) => i.seed)).toEqual(Array.from({ length: c.count }, (_, i) => c.seed + i))
})

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import {
  decodeImage,
  encodeImage,
  type GenerateRequest,
  type Picture,
  readMetadata,
  readRecipe,
  StableDiffusion,
} from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { behaviour } from "../src/version.ts"

/**
 * Pictures as they were drawn when this behaviour began. They are never remade: a change that alters one needs a new
 * number in `version.ts` and a folder of its own. `AQUATINT_KEEP_PICTURES=1` writes those that are not there yet.
 */
const folder = join(import.meta.dirname, "golden", "behaviour", String(behaviour))
const models = join(import.meta.dirname, "golden", "models")
const engine = nodeEngine()
afterAll(() => engine.close())

const start: Picture = {
  width: 64,
  height: 64,
  channels: 3,
  data: Uint8ClampedArray.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7 + Math.floor(i / 192) * 3) % 256),
}
const mask: Picture = {
  width: 64,
  height: 64,
  channels: 1,
  data: Uint8ClampedArray.from({ length: 64 * 64 }, (_, i) => (i % 64 > 20 && i > 64 * 24 ? 255 : 0)),
}
const small = { width: 64, height: 64, steps: 4, seed: 1234 }
const lora = join(import.meta.dirname, "golden/adapters/kohya/style.safetensors")

const cases: Record<string, Record<string, Omit<GenerateRequest, "prompt"> & { prompt: string }>> = {
  "sd1-tiny": {
    "the folder's scheduler": { ...small, prompt: "a (red:1.3) [boat] at night, BREAK fog" },
    "prompts that change": { ...small, prompt: "[a cat:a dog:0.5] AND a [hill|lake] :0.4", sampler: "euler" },
    karras: { ...small, prompt: "a house", sampler: "dpmpp-2m", schedule: "karras", clipSkip: 2, cfg: 5 },
    "noise of CUDA": { ...small, prompt: "a house", sampler: "euler-a", rng: "cuda" },
    "Brownian noise": { ...small, prompt: "a house", sampler: "DPM++ SDE Karras" },
    "image to image": { ...small, prompt: "a tree", init: start, strength: 0.6, sampler: "ddim" },
    inpainting: { ...small, prompt: "a tree", init: start, mask, maskBlur: 3, inpaintArea: "masked" },
    "two passes": { ...small, prompt: "a tree", width: 32, height: 32, hires: { scale: 2, strength: 0.6 } },
    adapter: { ...small, prompt: "a tree", loras: [{ file: lora, weight: 0.7 }] },
  },
  "sdxl-tiny": { SDXL: { ...small, prompt: "a tree", negative: "night" } },
  "sd2-tiny": { "v prediction": { ...small, prompt: "a tree!" } },
}

function difference(a: Picture, b: Picture): number {
  expect([a.width, a.height, a.channels]).toEqual([b.width, b.height, b.channels])
  return a.data.reduce((sum, v, i) => sum + Math.abs(v - b.data[i]!), 0) / a.data.length
}

describe.each(Object.entries(cases))("%s", (model, requests) => {
  let sd: StableDiffusion
  beforeAll(async () => {
    sd = await StableDiffusion.load(join(models, model), { engine, cache: null })
  })
  afterAll(() => sd.release())

  test.each(Object.entries(requests))("%s: the picture it always was", async (name, ask) => {
    const { images } = await sd.generate(ask)
    const path = join(folder, `${model} ${name}.png`.replaceAll(/[ ']+/g, "-"))
    if (!existsSync(path) && process.env.AQUATINT_KEEP_PICTURES) {
      mkdirSync(folder, { recursive: true })
      writeFileSync(path, await encodeImage(images[0]!.picture, { format: "png" }))
    }
    const kept = await decodeImage(readFileSync(path))
    expect(difference(images[0]!.picture, kept)).toBeLessThan(0.5)
    const recipe = readRecipe(await readMetadata(await images[0]!.encode("png")))
    expect(recipe?.behaviour).toBe(behaviour)
  })
})

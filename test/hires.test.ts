import { readdirSync } from "node:fs"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { type GenerateRequest, type HiresRequest, StableDiffusion } from "../src/index.ts"
import { readRecipe } from "../src/pipeline/recipe/recipe.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openGolden, relativeError } from "./golden-case.ts"

/** Second passes against diffusers' pipelines with torch's interpolation between them (tools/reference/modes_golden.py). */
interface About {
  ask: {
    prompt: string
    model: string
    seed: number
    steps: number
    cfg: number
    width: number
    height: number
  }
  hires: {
    scale?: number
    size?: [number, number]
    strength: number
    steps?: number
    upscaler: string
    prompt?: string
    cfg?: number
  }
}

const golden = join(import.meta.dirname, "golden")
const folder = join(golden, "modes")
const engine = nodeEngine()
afterAll(() => engine.close())
const sd = await StableDiffusion.load(join(golden, "models", "sd1-tiny"), { engine, cache: null })

async function goldenCase(name: string) {
  const { about, want: of } = await openGolden<About>(join(folder, `${name}.safetensors`))
  const { ask, hires } = about
  const { model: _m, ...first } = ask
  const { size, scale, strength, steps, upscaler, prompt, cfg } = hires
  const again = { scale, width: size?.[0], height: size?.[1], strength, steps, upscaler, prompt, cfg }
  const given = Object.fromEntries(Object.entries(again).filter(([, v]) => v !== undefined)) as HiresRequest
  return { request: { ...first, hires: given, promptSyntax: "plain" } as GenerateRequest, of }
}

const cases = readdirSync(folder).flatMap((f) => /^(hires-.*)\.safetensors$/.exec(f)?.[1] ?? [])

test.each(cases)("%s: latents after both passes", async (name) => {
  const { request, of } = await goldenCase(name)
  const { trace, images } = await sd.generate(request, { trace: true })
  const got = trace!.tensors()
  const f32 = (key: string) => got.get(key)!.data as Float32Array
  expect(relativeError(f32("hires.first"), of("first"))).toBeLessThan(1e-3)
  expect(relativeError(f32("hires.noise"), of("noise"))).toBeLessThan(1e-5)
  // PNDM, the folder's scheduler, calls once more than it steps
  expect(got.get("hires.timesteps")!.data.length).toBe((request.hires!.steps ?? request.steps!) + 1)
  // a picture between the passes is rounded to 8 bits
  expect(relativeError(f32("latents"), of("latents"))).toBeLessThan(name === "hires-lanczos" ? 5e-3 : 1e-3)
  const shape = got.get("latents")!.shape
  expect([images[0]!.width, images[0]!.height]).toEqual([shape[3]! * 8, shape[2]! * 8])
})

test("its infotext is A1111's, and drawing by it gives the very same picture", async () => {
  const ask: GenerateRequest = {
    prompt: "a fox",
    seed: 3,
    steps: 2,
    sampler: "euler",
    width: 64,
    height: 64,
    variationSeed: 9,
    variationStrength: 0.25,
    hires: { scale: 1.5, strength: 0.6, steps: 2, upscaler: "latent-bicubic", sampler: "heun", cfg: 3 },
  }
  const { images } = await sd.generate(ask)
  const { infotext: parameters, picture } = images[0]!
  expect(parameters).toContain("Size: 64x64")
  expect(parameters).toContain("Variation seed: 9, Variation seed strength: 0.25, Denoising strength: 0.6")
  expect(parameters).toContain(
    "Hires upscale: 1.5, Hires steps: 2, Hires upscaler: Latent (bicubic), Hires sampler: heun, Hires CFG Scale: 3",
  )
  const recipe = readRecipe({ parameters })!
  expect(recipe.unmet).toEqual([])
  const again = await sd.generate(recipe.request as GenerateRequest)
  expect(again.images[0]!.picture.data).toEqual(picture.data)
})

test("pictures of a variation share a seed and take the other one step by step", async () => {
  const ask = { prompt: "x", seed: 4, steps: 1, sampler: "euler", width: 64, height: 64 }
  const many = await sd.generate({ ...ask, count: 2, variationSeed: 20, variationStrength: 0.5 })
  expect(many.images.map((i) => i.seed)).toEqual([4, 4])
  const second = await sd.generate({ ...ask, variationSeed: 21, variationStrength: 0.5 })
  expect(many.images[1]!.picture.data).toEqual(second.images[0]!.picture.data)
  const none = await sd.generate({ ...ask, variationSeed: 21, variationStrength: 0 })
  const plain = await sd.generate(ask)
  expect(none.images[0]!.picture.data).toEqual(plain.images[0]!.picture.data)
})

test("what makes no sense is refused by name", async () => {
  const picture = { width: 8, height: 8, channels: 3 as const, data: new Uint8ClampedArray(192) }
  const asks: [Partial<GenerateRequest>, string][] = [
    [{ hires: {}, init: picture }, "REQUEST_HIRES"],
    [{ hires: { strength: 0 } }, "REQUEST_RANGE"],
    [{ hires: { scale: 0.5 } }, "REQUEST_RANGE"],
    [{ variationStrength: 2 }, "REQUEST_RANGE"],
    [{ hires: { sampler: "nonesuch" } }, "SAMPLER"],
  ]
  for (const [ask, code] of asks)
    await expect(Promise.resolve(sd.generate({ prompt: "x", steps: 2, ...ask }))).rejects.toMatchObject({
      code,
      blame: "caller",
    })
})

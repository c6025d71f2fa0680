import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { decodeImage, type GenerateRequest, type Picture, StableDiffusion, toRgb } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openGolden, relativeError } from "./golden-case.ts"

/** Inpainting of a part, soft masks and fills against diffusers and A1111's formulas (tools/reference/modes_golden.py). */
interface Ask {
  model: string
  prompt: string
  seed: number
  steps: number
  cfg: number
  strength: number
  width: number
  height: number
  padding?: number
  blur?: number
  fill?: GenerateRequest["fill"]
}

const golden = join(import.meta.dirname, "golden")
const folder = join(golden, "modes")
const engine = nodeEngine()
afterAll(() => engine.close())

const picture = (name: string) => decodeImage(readFileSync(join(folder, name)))
const models = new Map<string, StableDiffusion>()
async function load(model: string): Promise<StableDiffusion> {
  const known = models.get(model)
  if (known) return known
  const made = await StableDiffusion.load(join(golden, "models", model), { engine, cache: null })
  models.set(model, made)
  return made
}
const mean = (a: Picture, b: Picture) =>
  a.data.reduce((s, v, i) => s + Math.abs(v - b.data[i]!), 0) / a.data.length

async function goldenCase(name: string) {
  const { about, want } = await openGolden<{ ask: Ask }>(join(folder, `${name}.safetensors`))
  const images = { init: await picture(`${name}.init.png`), mask: await picture(`${name}.mask.png`) }
  return { ask: about.ask, latents: want("latents"), ...images }
}

const cases = readdirSync(folder).flatMap((f) => /^(inpaint-.*)\.safetensors$/.exec(f)?.[1] ?? [])

test.each(cases)("%s", async (name) => {
  const { ask, latents, init, mask } = await goldenCase(name)
  const { model, padding, blur, ...rest } = ask
  const request: GenerateRequest = { ...rest, init, mask, promptSyntax: "plain" }
  if (padding !== undefined) Object.assign(request, { inpaintArea: "masked", maskPadding: padding })
  if (blur !== undefined) request.maskBlur = blur
  const sd = await load(model)
  const { trace, images } = await sd.generate(request, { trace: true })
  expect(relativeError(trace!.tensors().get("latents")!.data as Float32Array, latents)).toBeLessThan(1e-3)
  const want = toRgb(await picture(`${name}.out.png`))
  expect([images[0]!.width, images[0]!.height]).toEqual([want.width, want.height])
  expect(mean(images[0]!.picture, want)).toBeLessThan(0.5)
})

test("an extended picture keeps its old part to the bit, and sizes become whole multiples", async () => {
  const { init } = await goldenCase("inpaint-whole-fill")
  const sd = await load("sd1-tiny")
  const ask = { prompt: "x", steps: 2, seed: 1, init, extend: { left: 20, bottom: 8 }, maskBlur: 2 }
  const { images } = await sd.generate(ask)
  const made = images[0]!.picture
  expect([made.width, made.height]).toEqual([88, 72])
  const old = toRgb(init)
  for (const y of [0, 20, 50]) {
    const row = made.data.subarray((y * 88 + 24 + 10) * 3, (y * 88 + 88) * 3)
    expect([...row]).toEqual([...old.data.subarray((y * 64 + 10) * 3, (y + 1) * 64 * 3)])
  }
  expect(images[0]!.infotext).toContain("Mask blur: 2, Masked content: fill")
})

test("what makes no sense is refused by name", async () => {
  const { init, mask } = await goldenCase("inpaint-whole-fill")
  const black = { ...mask, data: mask.data.map(() => 0) }
  const sd = await load("sd1-tiny")
  const asks: [Partial<GenerateRequest>, string][] = [
    [{ fill: "fill" }, "REQUEST_MASK"],
    [{ init, mask: black, inpaintArea: "masked" }, "REQUEST_MASK"],
    [{ init, mask, fill: "foam" as "fill" }, "REQUEST_CHOICE"],
    [{ init, mask, maskBlur: -1 }, "REQUEST_RANGE"],
    [{ extend: { left: 8 } }, "REQUEST_EXTEND"],
    [{ init, extend: { left: 0 } }, "REQUEST_EXTEND"],
    [{ init, extend: { left: 8 }, width: 64 }, "REQUEST_EXTEND"],
  ]
  for (const [ask, code] of asks)
    await expect(Promise.resolve(sd.generate({ prompt: "x", steps: 2, ...ask }))).rejects.toMatchObject({
      code,
      blame: "caller",
    })
})

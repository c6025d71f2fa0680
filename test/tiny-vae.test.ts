import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { symbol } from "../src/graph/index.ts"
import { type Picture, StableDiffusion } from "../src/index.ts"
import { tinyDecoderGraph, tinyEncoderGraph, tinyVaeConfig } from "../src/models/index.ts"
import { f32 } from "../src/runtime/engine.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { compile } from "../src/runtime/program.ts"
import { openVae } from "../src/weights/components.ts"
import { openSafetensors } from "../src/weights/open-file.ts"
import { stored } from "./models/golden.ts"

const folder = join(import.meta.dirname, "golden", "tiny-vae")
const engine = nodeEngine()
afterAll(() => engine.close())

const golden = join(folder, "golden.safetensors")
const { tensors } = await openSafetensors(golden)
const bytes = readFileSync(golden)
const of = (key: string) => {
  const { offset, length, shape } = tensors.get(key)!
  return f32(new Float32Array(new Uint8Array(bytes.subarray(offset, offset + length)).buffer), shape)
}
const far = (got: Float32Array, want: Float32Array) =>
  got.reduce((m, v, i) => Math.max(m, Math.abs(v - want[i]!)), 0)
const sizes = { b: symbol("b"), h: symbol("h"), w: symbol("w") }

test("AutoencoderTiny decodes and encodes as diffusers does", async () => {
  const { config, weights } = await openVae(folder)
  const c = tinyVaeConfig(config)
  const views = new Map([...weights].map(([name, view]) => [name, stored(view)]))
  const decoder = await compile(engine, tinyDecoderGraph(c, sizes).graph, views, { device: "cpu" })
  const { image } = await decoder.run({ latents: of("latents") })
  expect(image!.shape).toEqual([1, 3, 48, 40])
  expect(far(image!.data as Float32Array, of("decoded").data as Float32Array)).toBeLessThan(1e-4)
  const encoder = await compile(engine, tinyEncoderGraph(c, sizes).graph, views, { device: "cpu" })
  const { latents } = await encoder.run({ image: of("image") })
  expect(far(latents!.data as Float32Array, of("encoded").data as Float32Array)).toBeLessThan(1e-4)
})

test("TAESD draws previews beside the model's own autoencoder", async () => {
  const model = join(import.meta.dirname, "golden", "models", "sd1-tiny")
  const ask = { prompt: "x", steps: 2, width: 48, height: 40, seed: 1, sampler: "ddim" }
  const sd = await StableDiffusion.load(model, { engine, cache: null, preview: folder })
  const rough = await StableDiffusion.load(model, { engine, cache: null, vae: folder })
  const { images } = await rough.generate(ask)
  let seen: Picture | null | undefined
  for await (const step of sd.generate(ask)) if (step.phase === "denoise") seen = await step.look?.()
  expect(seen).toMatchObject({ width: 48, height: 40, channels: 3 })
  const apart = seen!.data.reduce((s, v, i) => s + Math.abs(v - images[0]!.picture.data[i]!), 0)
  expect(apart / seen!.data.length).toBeLessThan(1)
  for await (const step of rough.generate({ ...ask, steps: 1 }))
    if (step.phase === "denoise") expect(await step.look?.()).toBeNull()
  await sd.release()
  await rough.release()
  const wrong = StableDiffusion.load(model, { engine, cache: null, preview: join(model, "vae") })
  await expect(wrong).rejects.toMatchObject({ code: "VAE_PREVIEW", blame: "caller" })
})

test("TAESD's own names are read, and a model draws with it in the place of its VAE", async () => {
  const [named, plain] = await Promise.all([openVae(join(folder, "taesd.safetensors")), openVae(folder)])
  expect([...named.weights.keys()].sort()).toEqual([...plain.weights.keys()].sort())
  const model = join(import.meta.dirname, "golden", "models", "sd1-tiny")
  const sd = await StableDiffusion.load(model, { engine, cache: null, vae: folder })
  const { images } = await sd.generate({ prompt: "x", steps: 1, width: 48, height: 40, seed: 1 })
  expect([images[0]!.width, images[0]!.height]).toEqual([48, 40])
  const again = await sd.generate({ prompt: "x", steps: 2, seed: 1, init: images[0]!.picture, strength: 0.5 })
  expect(again.images).toHaveLength(1)
  await sd.release()
})

test("a TAESD beside a model draws its previews; of another family, or where there is none, they are rough", async () => {
  const scratch = mkdtempSync(join(tmpdir(), "aquatint-preview-"))
  const model = join(scratch, "Stable-diffusion", "model")
  cpSync(join(import.meta.dirname, "golden", "models", "sd1-tiny"), model, { recursive: true })
  const looks = async () => {
    const sd = await StableDiffusion.load(model, { engine, cache: null, preview: "beside" })
    let seen = null
    for await (const step of sd.generate({ prompt: "x", steps: 1, width: 48, height: 40, seed: 1 }))
      if (step.phase === "denoise") seen = await step.look?.()
    await sd.release()
    return seen
  }
  const place = join(scratch, "VAE-approx")
  mkdirSync(place)
  const own = (name: string) => {
    mkdirSync(join(place, name))
    for (const file of ["config.json", "diffusion_pytorch_model.safetensors"])
      copyFileSync(join(folder, file), join(place, name, file))
  }
  own("taesdxl")
  expect(await looks()).toBeNull()
  // one of other widths than its config, or than the published one, is left alone
  copyFileSync(join(folder, "taesd.safetensors"), join(place, "taesd.safetensors"))
  expect(await looks()).toBeNull()
  rmSync(join(place, "taesd.safetensors"))
  own("taesd")
  expect(await looks()).toMatchObject({ width: 48, height: 40 })
  rmSync(scratch, { recursive: true })
})

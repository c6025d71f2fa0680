import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { convert, decodeImage, StableDiffusion } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openGolden, relativeError } from "./golden-case.ts"

/** A golden case: what diffusers made with a base model and a refiner (tools/reference/refiner_golden.py). */
interface About {
  model: string
  prompt: string
  seed: number
  steps: number
  cfg: number
  at: number
  scheduler: string
}

const golden = join(import.meta.dirname, "golden")
const folder = join(golden, "refiner")
const engine = nodeEngine()
const scratch = mkdtempSync(join(tmpdir(), "aquatint-refiner-"))
afterAll(async () => {
  await engine.close()
  rmSync(scratch, { recursive: true })
})

/** Both models with one scheduler: the refiner has the base model's second encoder and its VAE. */
function models(scheduler: string): { base: string; refiner: string } {
  const [base, refiner] = [join(scratch, scheduler, "base"), join(scratch, scheduler, "refiner")]
  const source = join(golden, "models", "sdxl-tiny")
  cpSync(source, base, { recursive: true })
  mkdirSync(refiner, { recursive: true })
  for (const part of ["text_encoder_2", "tokenizer_2", "vae"])
    cpSync(join(source, part), join(refiner, part), { recursive: true })
  for (const part of ["unet", "model_index.json"])
    cpSync(join(folder, part), join(refiner, part), { recursive: true })
  for (const model of [base, refiner]) {
    rmSync(join(model, "scheduler"), { recursive: true, force: true })
    cpSync(join(folder, `scheduler-${scheduler}`), join(model, "scheduler"), { recursive: true })
  }
  return { base, refiner }
}

const load = (path: string) => StableDiffusion.load(path, { engine, cache: null })

async function goldenCase(name: string) {
  const { about, want } = await openGolden<About>(join(folder, name))
  return { about, latents: want("latents") }
}

const cases = readdirSync(folder).filter((f) => f.endsWith(".safetensors"))

test.each(cases)(
  "%s: diffusers' latents after the hand-over",
  async (name) => {
    const { about, latents } = await goldenCase(name)
    const { prompt, seed, steps, cfg, at } = about
    const { base, refiner } = models(about.scheduler)
    const [sd, second] = [await load(base), await load(refiner)]
    const ask = { prompt, seed, steps, cfg, width: 64, height: 64, refiner: { model: second, at } }
    const { trace, images } = await sd.generate(ask, { trace: true })
    const got = trace!.tensors()
    expect(relativeError(got.get("latents")!.data as Float32Array, latents)).toBeLessThan(1e-3)
    expect(images[0]!.picture.width).toBe(64)
    const walked = ["timesteps", "refiner.timesteps"].map((key) => got.get(key)!.data.length)
    // diffusers walks the first half of Heun's step once more
    expect(walked[0]! + walked[1]!).toBe(about.scheduler === "heun" ? 2 * steps : steps)
    await sd.release()
    await second.release()
  },
  120_000,
)

test("samplers by name hand over at the same place, and what cannot be shared is refused", async () => {
  const { about, latents } = await goldenCase("euler-5.safetensors")
  const { prompt, seed, steps, cfg, at } = about
  const { base, refiner } = models(about.scheduler)
  const [sd, second] = [await load(base), await load(refiner)]
  const ask = { prompt, seed, steps, cfg, width: 64, height: 64, refiner: { model: second, at } }
  const { trace } = await sd.generate({ ...ask, sampler: "euler", schedule: "leading" }, { trace: true })
  expect(relativeError(trace!.tensors().get("latents")!.data as Float32Array, latents)).toBeLessThan(1e-3)
  const code = (change: object) =>
    Promise.resolve(sd.generate({ ...ask, ...change })).then(
      () => "drawn",
      (error: { code: string }) => error.code,
    )
  expect(await code({ refiner: { model: second, at: 0.05 } })).toBe("STEPS")
  expect(await code({ refiner: { model: second, at: 2 } })).toBe("REQUEST_RANGE")
  expect(await code({ hires: {} })).toBe("REQUEST_REFINER")
  await sd.release()
  await second.release()
}, 120_000)

test("adapters and ControlNets act on the base model's part alone", async () => {
  const { base, refiner } = models("euler")
  const lora = { file: join(golden, "adapters/sdxl-sgm/xl.safetensors"), weight: 0.9 }
  const baked = join(scratch, "baked")
  await convert(base, baked, { loras: [lora], dtype: "fp32", engine })
  const second = await load(refiner)
  const latents = async (model: string, more: object) => {
    const sd = await load(model)
    const ask = { prompt: "a lighthouse", seed: 3, steps: 4, cfg: 4, width: 64, height: 64 }
    const { trace } = await sd.generate(
      { ...ask, ...more, refiner: { model: second, at: 0.6 } },
      { trace: true },
    )
    await sd.release()
    return trace!.tensors().get("latents")!.data as Float32Array
  }
  const [plain, merged, within] = [
    await latents(base, {}),
    await latents(base, { loras: [lora] }),
    await latents(baked, {}),
  ]
  expect(relativeError(merged, within)).toBeLessThan(1e-3)
  expect(relativeError(merged, plain)).toBeGreaterThan(1e-2)
  const control = {
    model: join(golden, "control/sdxl-tiny-net4"),
    image: await decodeImage(readFileSync(join(golden, "control/hint1.png"))),
  }
  const led = await latents(base, { controls: [control] })
  expect(relativeError(led, plain)).toBeGreaterThan(1e-2)
  expect(await latents(base, { controls: [{ ...control, weight: 0 }] })).toEqual(plain)
  await second.release()
}, 120_000)

import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import {
  type GenerateRequest,
  inspect,
  type LoraRequest,
  parseInfotext,
  readRecipe,
  StableDiffusion,
  type Strength,
} from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openGolden, relativeError } from "./golden-case.ts"

/** A golden case: adapter files and what diffusers or PEFT made with them (tools/reference/adapters_golden.py). */
interface About {
  model: string
  prompt: string
  seed: number
  steps: number
  cfg: number
  files: { file: string; weight: Strength; text?: Strength; unet?: Strength }[]
}

const golden = join(import.meta.dirname, "golden")
const engine = nodeEngine()
const scratch = mkdtempSync(join(tmpdir(), "aquatint-"))

afterAll(async () => {
  await engine.close()
  rmSync(scratch, { recursive: true })
})

const goldenCase = (name: string) => openGolden<About>(join(golden, "adapters", name, "trace.safetensors"))

const file = (name: string, path: string) => join(golden, "adapters", name, path)
const lorasOf = (name: string, about: About): LoraRequest[] =>
  about.files.map(({ file: path, ...weights }) => ({ file: file(name, path), ...weights }))
const asked = (about: About): GenerateRequest => ({
  prompt: about.prompt,
  seed: about.seed,
  steps: about.steps,
  cfg: about.cfg,
  width: 64,
  height: 64,
})
const load = (model: string) => StableDiffusion.load(join(golden, "models", model), { engine, cache: null })
const largest = (got: Float32Array, want: Float32Array) =>
  got.reduce((m, v, i) => Math.max(m, Math.abs(v - want[i]!)), 0)

/** Bit for bit, reported in one word. */
const same = (a: { latents: Float32Array; cond: Float32Array }, b: typeof a) =>
  Buffer.compare(Buffer.from(a.latents.buffer), Buffer.from(b.latents.buffer)) === 0 &&
  Buffer.compare(Buffer.from(a.cond.buffer), Buffer.from(b.cond.buffer)) === 0

async function draw(sd: StableDiffusion, ask: GenerateRequest) {
  const { trace, adapters, images } = await sd.generate(ask, { trace: true })
  const tensors = trace!.tensors()
  const of = (key: string) => (tensors.get(key)!.data as Float32Array).slice()
  return { latents: of("latents"), cond: of("text.cond"), adapters, infotext: images[0]!.infotext }
}

test.each(readdirSync(join(golden, "adapters")))("%s: the reference's text and latents", async (name) => {
  const { about, want } = await goldenCase(name)
  const sd = await load(about.model)
  const ask = asked(about)
  const first = await draw(sd, { ...ask, loras: lorasOf(name, about) })
  expect(largest(first.cond, want("text.cond"))).toBeLessThan(2e-4)
  expect(relativeError(first.latents, want("latents"))).toBeLessThan(1e-3)
  await sd.release()
})

test.each([
  ["two adapters merged", "two"],
  ["an adapter beside the weights, put there", "kohya"],
  ["one of another kind put there", "loha"],
])("%s and taken away twice leave the very same bits", async (_, name) => {
  const { about } = await goldenCase(name)
  const ask = { ...asked(about), steps: 2 }
  const loras = lorasOf(name, about)
  const sd = await load(about.model)
  const untouched = await draw(sd, ask)
  const first = await draw(sd, { ...ask, loras })
  const plain = await draw(sd, ask)
  const second = await draw(sd, { ...ask, loras })
  const again = await draw(sd, ask)
  await sd.release()
  expect(same(first, untouched)).toBe(false)
  expect([same(second, first), same(plain, untouched), same(again, untouched)]).toEqual([true, true, true])
})

test("keys are counted, and those without a place are named", async () => {
  const sd = await load("sd1-tiny")
  const path = file("locon-tucker-and-differences", "parts.safetensors")
  const { adapters } = await sd.generate({
    prompt: "x",
    steps: 1,
    width: 64,
    height: 64,
    loras: [{ file: path }],
  })
  expect(adapters[0]!.unmatched).toEqual(["lora_unet_no_such_module.alpha"])
  expect(adapters[0]!.matched.unet).toBeGreaterThan(10)
  const other = file("sdxl-sgm", "xl.safetensors")
  const wrong = sd.generate({ prompt: "x", steps: 1, loras: [{ file: other }] })
  await expect(wrong).rejects.toMatchObject({ code: "ADAPTER_SHAPE", blame: "caller" })
  const none = sd.generate({ prompt: "x", steps: 1, loras: [{ file: file("two", "trace.safetensors") }] })
  await expect(none).rejects.toMatchObject({ code: "ADAPTER_NO_MATCH", blame: "caller" })
  for (const path of ["/etc/hostname", "../model_index", "a/../../b", "~/x"])
    await expect(sd.generate({ prompt: `<lora:${path}:1>`, steps: 1 }), path).rejects.toMatchObject({
      code: "ADAPTER_NOT_FOUND",
      message: expect.stringContaining("is a path"),
    })
  await expect(sd.generate({ prompt: "<lora:nowhere:1>", steps: 1 })).rejects.toMatchObject({
    code: "ADAPTER_NOT_FOUND",
  })
  await sd.release()
})

test("a prompt names adapters beside the model, strengths add up", async () => {
  const { about, want } = await goldenCase("kohya")
  mkdirSync(join(scratch, "loras", "deep"), { recursive: true })
  cpSync(join(golden, "models", about.model), join(scratch, about.model), { recursive: true })
  cpSync(file("kohya", "style.safetensors"), join(scratch, "loras", "deep", "style.safetensors"))
  const sd = await StableDiffusion.load(join(scratch, about.model), { engine, cache: null })
  const prompt = `<lora:style:0.5:0.3>${about.prompt}<lora:style:0.3:0.5>`
  const { latents, cond, infotext } = await draw(sd, { ...asked(about), prompt })
  expect(largest(cond, want("text.cond"))).toBeLessThan(2e-4)
  expect(relativeError(latents, want("latents"))).toBeLessThan(1e-3)
  // named as A1111 names it, and read back
  const { autov3 } = (await inspect(file("kohya", "style.safetensors"))).hashes
  expect(parseInfotext(infotext).loraHashes).toEqual({ style: autov3 })
  expect(readRecipe({ parameters: infotext })?.hashes?.loras).toEqual({ style: autov3 })
  await sd.release()
})

test("generations at once with different adapters do not disturb each other", async () => {
  const { about } = await goldenCase("two")
  const ask = { ...asked(about), steps: 1 }
  const [one, other] = lorasOf("two", about)
  const sd = await load(about.model)
  const asks = [ask, { ...ask, loras: [one!] }, { ...ask, loras: [other!] }]
  const alone: Awaited<ReturnType<typeof draw>>[] = []
  for (const each of asks) alone.push(await draw(sd, each))
  const together = await Promise.all(
    [0, 1, 1, 2, 0].map(async (i) => same(await draw(sd, asks[i]!), alone[i]!)),
  )
  expect(together).toEqual(Array(5).fill(true))
  expect(same(alone[1]!, alone[2]!)).toBe(false)
  await sd.release()
})

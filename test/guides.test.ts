import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { type ControlRequest, decodeImage, StableDiffusion } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openGolden, relativeError } from "./golden-case.ts"

/** A golden case: adapters of random weights and the latents diffusers made under them (tools/reference/guides_golden.py). */
interface About {
  model: string
  prompt: string
  seed: number
  steps: number
  cfg: number
  side: number
  controls: (Omit<ControlRequest, "model" | "image"> & { model: string; image: string })[]
}

const golden = join(import.meta.dirname, "golden")
const folder = join(golden, "guides")
const engine = nodeEngine()
const scratch = mkdtempSync(join(tmpdir(), "aquatint-guides-"))
afterAll(async () => {
  await engine.close()
  rmSync(scratch, { recursive: true })
})

async function goldenCase(name: string) {
  const { about, want } = await openGolden<About>(join(folder, name))
  return { about, latents: want("latents") }
}

const controlsOf = ({ controls }: About, from = folder): Promise<ControlRequest[]> =>
  Promise.all(
    controls.map(async ({ model, image, ...rest }) => ({
      ...rest,
      model: join(from, model),
      image: await decodeImage(readFileSync(join(folder, image))),
    })),
  )

const load = ({ model }: About) =>
  StableDiffusion.load(join(golden, "models", model), { engine, cache: null })

async function draw(sd: StableDiffusion, about: About, controls: ControlRequest[]): Promise<Float32Array> {
  const { prompt, seed, steps, cfg, side } = about
  const ask = { prompt, seed, steps, cfg, width: side, height: side, controls }
  const { trace } = await sd.generate(ask, { trace: true })
  return (trace!.tensors().get("latents")!.data as Float32Array).slice()
}

async function latents(about: About, controls: ControlRequest[]): Promise<Float32Array> {
  const sd = await load(about)
  try {
    return await draw(sd, about, controls)
  } finally {
    await sd.release()
  }
}

const cases = readdirSync(folder).filter((f) => f.endsWith(".safetensors") && !/-\d\.safetensors$/.test(f))

test.each(cases)("%s: diffusers' latents", async (name) => {
  const { about, latents: want } = await goldenCase(name)
  expect(relativeError(await latents(about, await controlsOf(about)), want)).toBeLessThan(1e-3)
})

test("a weight of nothing changes nothing, and start and end are heeded", async () => {
  const { about } = await goldenCase("t2i-full.safetensors")
  const [adapter] = await controlsOf(about)
  const [image] = await controlsOf((await goldenCase("ip-linear.safetensors")).about)
  const short = { ...about, steps: 2 }
  const sd = await load(about)
  const plain = await draw(sd, short, [])
  const both = (change: Partial<ControlRequest>) =>
    draw(sd, short, [
      { ...adapter!, ...change },
      { ...image!, ...change },
    ])
  expect(relativeError(await both({ weight: 0 }), plain)).toBeLessThan(1e-5)
  const half = await both({ end: 0.5 })
  expect(relativeError(half, plain)).toBeGreaterThan(1e-3)
  expect(relativeError(half, await both({}))).toBeGreaterThan(1e-3)
  await sd.release()
}, 120_000)

test("adapters of other families, and those without their encoder, are refused", async () => {
  const xl = await goldenCase("t2i-xl.safetensors")
  const wrong = { ...xl.about, model: "sd1-tiny" }
  await expect(latents(wrong, await controlsOf(xl.about))).rejects.toMatchObject({
    code: "T2I_ADAPTER_FAMILY",
    blame: "caller",
  })
  const ip = await goldenCase("ip-xl.safetensors")
  await expect(latents({ ...ip.about, model: "sd1-tiny" }, await controlsOf(ip.about))).rejects.toMatchObject(
    {
      code: "IP_ADAPTER_FAMILY",
      blame: "caller",
    },
  )
  const { about } = await goldenCase("ip-linear.safetensors")
  cpSync(join(folder, "ip-linear-0.safetensors"), join(scratch, "ip-linear-0.safetensors"))
  const alone = await controlsOf(about, scratch)
  await expect(latents(about, alone)).rejects.toMatchObject({
    code: "IMAGE_ENCODER_NOT_FOUND",
    blame: "caller",
  })
  const named = alone.map((control) => ({ ...control, encoder: join(folder, "image_encoder") }))
  const one = { ...about, steps: 1 }
  expect(relativeError(await latents(one, named), await latents(one, await controlsOf(about)))).toBe(0)
}, 120_000)

import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { type ControlRequest, decodeImage, StableDiffusion } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openGolden, relativeError } from "./golden-case.ts"

/** A golden case: ControlNets of random weights and the latents diffusers made under them (tools/reference/control_golden.py). */
interface About {
  model: string
  prompt: string
  seed: number
  steps: number
  cfg: number
  controls: (Omit<ControlRequest, "model" | "image"> & { model: string; image: string })[]
}

const golden = join(import.meta.dirname, "golden")
const folder = join(golden, "control")
const engine = nodeEngine()
afterAll(() => engine.close())

async function goldenCase(name: string) {
  const { about, want } = await openGolden<About>(join(folder, name))
  return { about, latents: want("latents") }
}

const controlsOf = ({ controls }: About): Promise<ControlRequest[]> =>
  Promise.all(
    controls.map(async ({ model, image, ...rest }) => ({
      ...rest,
      model: join(folder, model),
      image: await decodeImage(readFileSync(join(folder, image))),
    })),
  )
const load = (model: string) => StableDiffusion.load(join(golden, "models", model), { engine, cache: null })

async function latents(about: About, controls: ControlRequest[]): Promise<Float32Array> {
  const sd = await load(about.model)
  const { prompt, seed, steps, cfg } = about
  const ask = { prompt, seed, steps, cfg, width: 64, height: 64, controls }
  const { trace } = await sd.generate(ask, { trace: true })
  await sd.release()
  return trace!.tensors().get("latents")!.data as Float32Array
}

const cases = readdirSync(folder).filter((f) => f.endsWith(".safetensors") && !f.includes("-net"))

test.each(cases)("%s: diffusers' latents", async (name) => {
  const { about, latents: want } = await goldenCase(name)
  expect(relativeError(await latents(about, await controlsOf(about)), want)).toBeLessThan(1e-3)
})

test("a ControlNet of another family, and what is none, is refused", async () => {
  const { about } = await goldenCase("sdxl-one.safetensors")
  const [control] = await controlsOf(about)
  await expect(latents({ ...about, model: "sd1-tiny" }, [control!])).rejects.toMatchObject({
    code: "CONTROLNET_FAMILY",
    blame: "caller",
  })
  const wrong = { ...control!, model: join(golden, "models", "sd1-tiny", "unet") }
  await expect(latents(about, [wrong])).rejects.toMatchObject({ code: "CONTROLNET_NOT_ONE", blame: "caller" })
  await expect(latents(about, [{ ...control!, start: 0.5, end: 0.5 }])).rejects.toMatchObject({
    code: "REQUEST_CONTROL",
  })
})

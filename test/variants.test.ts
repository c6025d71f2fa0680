import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { decodeImage, type GenerateRequest, StableDiffusion, writeSafetensors } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openSafetensors } from "../src/weights/open-file.ts"
import { relativeError } from "./golden-case.ts"

/** A golden case (tools/reference/variants_golden.py): a small model with some tensors of its own, and diffusers' latents. */
interface About extends Pick<GenerateRequest, "steps" | "cfg" | "imageCfg" | "prompt" | "seed"> {
  model: string
  init?: string
  unet: object
  scheduler: object
}

const golden = join(import.meta.dirname, "golden")
const folder = join(golden, "variants")
const scratch = mkdtempSync(join(tmpdir(), "aquatint-variants-"))
const engine = nodeEngine()
afterAll(async () => {
  await engine.close()
  rmSync(scratch, { recursive: true })
})

/** Every tensor of a file with its bytes. */
async function contents(path: string) {
  const { tensors, metadata } = await openSafetensors(path)
  const whole = readFileSync(path)
  const list = [...tensors.values()].map(({ name, dtype, shape, offset, length }) => ({
    ...{ name, dtype, shape },
    bytes: new Uint8Array(whole.subarray(offset, offset + length)),
  }))
  return { list, metadata }
}

/** The small model with the case's tensors in the place of its own. */
async function variant(name: string, about: About, extra: Awaited<ReturnType<typeof contents>>["list"]) {
  const path = join(scratch, name)
  cpSync(join(golden, "models", about.model), path, { recursive: true })
  const own = extra.flatMap((t) => (t.name.startsWith("unet.") ? [{ ...t, name: t.name.slice(5) }] : []))
  const file = join(path, "unet", "diffusion_pytorch_model.safetensors")
  const { list } = await contents(file)
  const kept = list.filter((t) => !own.some((o) => o.name === t.name))
  await writeSafetensors(file, [...kept, ...own])
  const json = (at: string, change: object) => {
    const before = JSON.parse(readFileSync(join(path, at), "utf8")) as object
    writeFileSync(join(path, at), JSON.stringify({ ...before, ...change }))
  }
  json("unet/config.json", about.unet)
  writeFileSync(join(path, "scheduler/scheduler_config.json"), JSON.stringify(about.scheduler))
  return path
}

const cases = readdirSync(folder).flatMap((f) =>
  f.endsWith(".safetensors") ? [f.slice(0, -".safetensors".length)] : [],
)

test.each(cases)(
  "%s: diffusers' latents",
  async (name) => {
    const { list, metadata } = await contents(join(folder, `${name}.safetensors`))
    const about = JSON.parse(metadata.get("about")!) as About
    const want = new Float32Array(list.find((t) => t.name === "latents")!.bytes.buffer)
    const sd = await StableDiffusion.load(await variant(name, about, list), { engine, cache: null })
    const { prompt, seed, steps, cfg, imageCfg, init } = about
    const picture = init && (await decodeImage(readFileSync(join(folder, init))))
    const ask: GenerateRequest = {
      ...{ prompt, width: 64, height: 64 },
      ...(seed === undefined ? {} : { seed }),
      ...(steps === undefined ? {} : { steps }),
      ...(cfg === undefined ? {} : { cfg }),
      ...(imageCfg === undefined ? {} : { imageCfg }),
      ...(picture ? { init: picture } : {}),
    }
    const { trace } = await sd.generate(ask, { trace: true })
    await sd.release()
    expect(relativeError(trace!.tensors().get("latents")!.data as Float32Array, want)).toBeLessThan(1e-3)
  },
  120_000,
)

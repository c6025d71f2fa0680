import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { StableDiffusion } from "../src/index.ts"
import { Networks } from "../src/pipeline/networks.ts"
import { openModel } from "../src/pipeline/stable-diffusion.ts"
import { f32 } from "../src/runtime/engine.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openSafetensors } from "../src/weights/open-file.ts"
import { relativeError } from "./golden-case.ts"

/** Seamless pictures against diffusers' networks with padding_mode "circular" (tools/reference/modes_golden.py). */
const golden = join(import.meta.dirname, "golden")
const engine = nodeEngine()
afterAll(() => engine.close())
const model = join(golden, "models", "sd1-tiny")
const sd = await StableDiffusion.load(model, { engine, cache: null })

const half = (bits: number) => {
  const [e, m] = [(bits >> 10) & 31, bits & 1023]
  return (bits & 0x8000 ? -1 : 1) * (e === 0 ? m * 2 ** -24 : (1 + m / 1024) * 2 ** (e - 15))
}

test.each(["both", "x"] as const)("tiling %s: U-Net, decoder and encoder", async (tiling) => {
  const path = join(golden, "modes", `tiling-${tiling}.safetensors`)
  const { tensors, metadata } = await openSafetensors(path)
  const bytes = readFileSync(path)
  const want = (key: string) => {
    const { dtype, offset, length } = tensors.get(key)!
    const { buffer } = new Uint8Array(bytes.subarray(offset, offset + length))
    return dtype === "F16" ? Float32Array.from(new Uint16Array(buffer), half) : new Float32Array(buffer)
  }
  const { model: _m, ...ask } = JSON.parse(metadata.get("about")!).ask
  const { trace, images } = await sd.generate({ ...ask, tiling, promptSyntax: "plain" }, { trace: true })
  const got = trace!.tensors()
  expect(relativeError(got.get("latents")!.data as Float32Array, want("latents"))).toBeLessThan(1e-3)
  const image = got.get("image")!.data as Float32Array
  expect(relativeError(image, want("image"))).toBeLessThan(2e-3)
  expect(images[0]!.infotext).toContain(`Tiling: ${tiling === "both" ? "True" : "x"}`)
  const networks = new Networks(await openModel(model), engine, "cpu")
  const encoder = await networks.encoder({ x: true, y: tiling === "both" })
  const clamped = image.map((v) => Math.min(1, Math.max(-1, v)))
  const { moments } = await encoder.run({ image: f32(clamped, [1, 3, 48, 72]) })
  const mean = (moments!.data as Float32Array).slice(0, 4 * 6 * 9)
  expect(relativeError(mean, want("mean"))).toBeLessThan(1e-3)
  await networks.release()
})

test("an axis that there is not is refused", async () => {
  const ask = { prompt: "x", steps: 1, tiling: "z" as "x" }
  await expect(Promise.resolve(sd.generate(ask))).rejects.toMatchObject({ code: "REQUEST_CHOICE" })
})

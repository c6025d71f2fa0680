import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { layouts } from "../../src/cli/bench-model.ts"
import {
  convert,
  decodeImage,
  inspect,
  type LoraRequest,
  StableDiffusion,
  writeRandomModel,
  writeSafetensors,
} from "../../src/index.ts"
import { UNet, unetConfig } from "../../src/models/index.ts"
import { expected } from "../../src/nn/index.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { encodeHeader } from "../../src/weights/encode.ts"
import { openSafetensors } from "../../src/weights/open-file.ts"
import { relativeError } from "../golden-case.ts"
import { serve } from "../server/harness.ts"

const scratch = mkdtempSync(join(tmpdir(), "aquatint-int8-"))
const at = (...name: string[]) => join(scratch, ...name)
const engine = nodeEngine()
const file = ["unet", "diffusion_pytorch_model.safetensors"]

/** A model whose U-Net has layers that are wide enough. */
beforeAll(async () => {
  cpSync(resolve(import.meta.dirname, "../golden/models/sd1-tiny"), at("model"), { recursive: true })
  const path = at("model", "unet", "config.json")
  const config = { ...JSON.parse(readFileSync(path, "utf8")), block_out_channels: [64, 128, 128, 128] }
  writeFileSync(path, JSON.stringify(config))
  const shapes = expected(new UNet(unetConfig(config)))
  let state = 5
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  }
  const tensors = [...shapes].map(([name, shape]) => {
    const size = shape.reduce((a, b) => a * b, 1)
    const spread = shape.length > 1 ? 1.5 / Math.sqrt(size / shape[0]!) : 0.1
    const middle = /norm.*weight$/.test(name) ? 1 : 0
    const data = Float32Array.from({ length: size }, () => middle + spread * random())
    return { name, dtype: "F32" as const, shape: [...shape], bytes: new Uint8Array(data.buffer) }
  })
  await writeSafetensors(at("model", ...file), tensors)
  await convert(at("model"), at("codes"), { dtype: "int8" })
  // of the parts that single files are read with: CLIP's own vocabulary and width, DDIM's schedule
  const { quick } = layouts
  const unet = { ...quick.unet, block_out_channels: [64, 128, 128, 128] }
  await writeRandomModel(at("usual"), { ...quick, unet })
  await convert(at("usual"), at("usual-codes"), { dtype: "int8" })
  mkdirSync(at("shelf"))
  await convert(at("usual-codes"), at("shelf", "codes.safetensors"))
})
afterAll(async () => {
  await engine.close()
  rmSync(scratch, { recursive: true, force: true })
})

async function latents(model: string, dtype: "fp32" | "int8" = "fp32", loras: LoraRequest[] = []) {
  const sd = await StableDiffusion.load(at(model), { engine, cache: null, dtype })
  const ask = { prompt: "a fox", seed: 3, steps: 3, width: 64, height: 64, loras }
  const { trace } = await sd.generate(ask, { trace: true })
  await sd.release()
  return (trace!.tensors().get("latents")!.data as Float32Array).slice()
}

async function numbers(path: string, name: string): Promise<Float32Array> {
  const view = (await openSafetensors(path)).tensors.get(name)!
  const bytes = readFileSync(path).subarray(view.offset, view.offset + view.length)
  return new Float32Array(new Uint8Array(bytes).buffer)
}

test("a folder's U-Net becomes codes with a scale for each output, all else half precision", async () => {
  const { tensors, metadata } = await openSafetensors(at("codes", ...file))
  const codes = [...tensors.values()].filter(({ dtype }) => dtype === "I8")
  expect(codes.length).toBeGreaterThan(4)
  expect(codes.every(({ scale, shape }) => scale?.shape[0] === shape[0])).toBe(true)
  expect(new Set([...tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(["I8", "F16"]))
  expect(metadata.get("aquatint.int8")).toContain("NAME_scale")
  const text = await openSafetensors(at("codes", "text_encoder", "model.safetensors"))
  expect(new Set([...text.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(["F16"]))
  // each number is within half a step
  const name = codes[0]!.name
  const before = await numbers(at("model", ...file), name)
  await convert(at("codes"), at("back"), { dtype: "fp32" })
  const after = await numbers(at("back", ...file), name)
  const inner = before.length / codes[0]!.shape[0]!
  for (let r = 0; r < codes[0]!.shape[0]!; r++) {
    const row = before.subarray(r * inner, (r + 1) * inner)
    const step = row.reduce((m, v) => Math.max(m, Math.abs(v)), 0) / 127
    const off = row.reduce((m, v, i) => Math.max(m, Math.abs(v - after[r * inner + i]!)), 0)
    expect(off).toBeLessThan(step * 0.501)
  }
  expect(statSync(at("codes", ...file)).size).toBeLessThan(0.55 * statSync(at("model", ...file)).size)
})

test("a single file and back gives the very same bytes, and codes of the numbers are the same codes", async () => {
  await convert(at("codes"), at("codes.safetensors"))
  const { components } = await inspect(at("codes.safetensors"))
  expect(components.unet!.dtypes).toContain("I8")
  await convert(at("codes.safetensors"), at("again"))
  const bytes = (folder: string) => readFileSync(at(folder, ...file))
  expect(bytes("again").equals(bytes("codes"))).toBe(true)
  await convert(at("model"), at("straight.safetensors"), { dtype: "int8" })
  const [one, other] = ["straight", "codes"].map((name) => readFileSync(at(`${name}.safetensors`)))
  expect(one!.equals(other!)).toBe(true)
  await convert(at("codes"), at("wide"), { dtype: "fp32" })
  await convert(at("wide"), at("anew"), { dtype: "int8" })
  const { tensors } = await openSafetensors(at("anew", ...file))
  for (const { name, dtype, offset, length } of tensors.values()) {
    if (dtype !== "I8") continue
    const known = (await openSafetensors(at("codes", ...file))).tensors.get(name)!
    const was = bytes("codes").subarray(known.offset, known.offset + known.length)
    expect(
      bytes("anew")
        .subarray(offset, offset + length)
        .equals(was),
      name,
    ).toBe(true)
  }
})

test("codes draw what their numbers draw, in integers, and with a LoRA beside them or in them", async () => {
  const plain = await latents("model")
  const folder = await latents("codes")
  const off = relativeError(folder, plain)
  expect(off).toBeGreaterThan(1e-6)
  expect(off).toBeLessThan(0.1)
  await convert(at("codes"), at("numbers"), { dtype: "fp32" })
  expect(relativeError(folder, await latents("numbers"))).toBeLessThan(1e-5)
  // the same codes: integers find them again
  expect(relativeError(await latents("codes", "int8"), await latents("numbers", "int8"))).toBeLessThan(1e-3)
  const layer = "down_blocks_0_attentions_0_transformer_blocks_0_ff_net_0_proj"
  const part = (name: string, shape: number[]) => {
    const data = Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => Math.sin(i) * 0.2)
    return {
      name: `lora_unet_${layer}.${name}`,
      dtype: "F32" as const,
      shape,
      bytes: new Uint8Array(data.buffer),
    }
  }
  await writeSafetensors(at("lora.safetensors"), [
    part("lora_down.weight", [4, 64]),
    part("lora_up.weight", [512, 4]),
  ])
  for (const weight of [0.7]) {
    const loras = [{ file: at("lora.safetensors"), weight }]
    const changed = await latents("codes", "fp32", loras)
    expect(relativeError(changed, folder)).toBeGreaterThan(1e-4)
    expect(relativeError(changed, await latents("numbers", "fp32", loras))).toBeLessThan(1e-5)
    await convert(at("codes"), at("baked"), {
      engine,
      dtype: "fp32",
      loras: [{ file: at("lora.safetensors"), weight }],
    })
    expect(relativeError(changed, await latents("baked"))).toBeLessThan(1e-4)
  }
})

test("a single file of codes draws what its folder draws, in both types", async () => {
  for (const dtype of ["fp32", "int8"] as const) {
    const [folder, single] = [
      await latents("usual-codes", dtype),
      await latents("shelf/codes.safetensors", dtype),
    ]
    expect(relativeError(single, folder), dtype).toBeLessThan(1e-6)
  }
})

test("the server draws with a single file of codes", async () => {
  const server = await serve(["--models", at("shelf"), "--data", at("data")])
  try {
    const ask = { prompt: "a fox", steps: 2, width: 64, height: 64, seed: 3 }
    const made = await fetch(`${server.url}/sdapi/v1/txt2img`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...ask, override_settings: { sd_model_checkpoint: "codes" } }),
    })
    expect(made.status, server.errors()).toBe(200)
    const { images } = (await made.json()) as { images: string[] }
    const { width, height } = await decodeImage(Buffer.from(images[0]!, "base64"))
    expect([width, height]).toEqual([64, 64])
  } finally {
    await server.stop()
  }
})

test("scales that are missing or of another shape are refused, and so are models without wide layers", async () => {
  const spoil = (name: string, change: (entry: { name: string; shape: number[] }) => void, noted = true) => {
    const entries = [
      { name: "a.weight", dtype: "I8" as const, shape: [4, 4] },
      { name: "a.weight_scale", dtype: "F32" as const, shape: [4] },
    ]
    change(entries[1]!)
    const header = encodeHeader(entries, noted ? [["aquatint.int8", ""]] : [])
    const size = 16 + 4 * entries[1]!.shape.reduce((a, b) => a * b, 1)
    writeFileSync(at(name), Buffer.concat([header, Buffer.alloc(size)]))
    return openSafetensors(at(name))
  }
  const refused = { code: "WEIGHTS_SCALE", blame: "caller" }
  await expect(spoil("a.safetensors", (e) => void (e.name = "b"))).rejects.toMatchObject(refused)
  await expect(spoil("b.safetensors", (e) => void (e.shape = [3]))).rejects.toMatchObject(refused)
  await expect(spoil("c.safetensors", (e) => void (e.shape = [4, 1]))).rejects.toMatchObject(refused)
  expect((await spoil("d.safetensors", () => {})).tensors.size).toBe(1)
  const tiny = resolve(import.meta.dirname, "../golden/models/sd1-tiny")
  await expect(convert(tiny, at("tiny"), { dtype: "int8" })).rejects.toMatchObject({ code: "CONVERT_DTYPE" })
})

import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { decodeFloats, halfToFloat, readFloats } from "./decode.ts"
import { fileSource } from "./file-source.ts"
import { openFolder, pickWeights } from "./folder.ts"
import { hashFile } from "./hash.ts"
import { openSafetensors } from "./open-file.ts"
import { blobSource, bufferSource } from "./source.ts"
import { elements, reshaped, rows, transposed } from "./view.ts"
import { type TensorToWrite, writeSafetensors } from "./write.ts"

let dir = ""
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "aquatint-weights-"))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const f32 = (name: string, shape: number[], value = 0.5): TensorToWrite => ({
  name,
  dtype: "F32",
  shape,
  bytes: new Uint8Array(new Float32Array(elements(shape)).fill(value).buffer),
})
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => "fine",
    (e: { code?: string }) => e.code ?? String(e),
  )

describe("file sources", () => {
  test("links are followed to the real file; folders, pipes and absent files are refused", async () => {
    const path = join(dir, "blob")
    writeFileSync(path, "0123456789")
    symlinkSync("blob", join(dir, "link"))
    symlinkSync("link", join(dir, "link2.safetensors"))
    const source = await fileSource(join(dir, "link2.safetensors"))
    expect(source.path).toBe(path)
    expect(new TextDecoder().decode(await source.read(3, 4))).toBe("3456")
    expect(await codeOf(source.read(8, 3))).toBe("SOURCE_RANGE")
    expect(await codeOf(source.read(-1, 3))).toBe("SOURCE_RANGE")
    expect(await codeOf(source.read(0.5, 3))).toBe("SOURCE_RANGE")
    await source.close()
    expect(await codeOf(fileSource(dir))).toBe("FILE_NOT_REGULAR")
    expect(await codeOf(fileSource(join(dir, "nowhere")))).toBe("FILE_NOT_FOUND")
    expect(await codeOf(fileSource("a\0b"))).toBe("FILE_NOT_FOUND")
    expect(await codeOf(fileSource(join(path, "under-a-file")))).toBe("FILE_NOT_FOUND")
    symlinkSync("round", join(dir, "round"))
    expect(await codeOf(fileSource(join(dir, "round")))).toBe("FILE_UNREADABLE")
    if (process.platform === "linux") {
      execFileSync("mkfifo", [join(dir, "pipe")])
      expect(await codeOf(fileSource(join(dir, "pipe")))).toBe("FILE_NOT_REGULAR")
      expect(await codeOf(fileSource("/dev/zero"))).toBe("FILE_NOT_REGULAR")
    }
  })

  test("bytes and blobs read alike", async () => {
    const bytes = Uint8Array.from({ length: 50 }, (_, i) => i)
    for (const source of [bufferSource(bytes), blobSource(new Blob([bytes]))]) {
      expect(source.size).toBe(50)
      expect([...(await source.read(10, 3))]).toEqual([10, 11, 12])
      expect(await codeOf(source.read(49, 2))).toBe("SOURCE_RANGE")
    }
  })
})

describe("writer", () => {
  test("what is written is read, streamed tensors included, and nothing else is left", async () => {
    const here = join(dir, "write")
    mkdirSync(here)
    const path = join(here, "out.safetensors")
    const streamed = async function* () {
      yield new Uint8Array([0, 0, 128])
      yield new Uint8Array([63, 0, 0, 0, 64])
    }
    const tensors: TensorToWrite[] = [
      f32("a", [2, 2]),
      { name: "b", dtype: "F32", shape: [2], bytes: streamed },
    ]
    await writeSafetensors(path, tensors, [["made", 'by "us"\n\ud800']])
    const { tensors: read, metadata } = await openSafetensors(path)
    expect(metadata.get("made")).toBe('by "us"\n\ufffd')
    const source = await fileSource(path)
    expect([...(await readFloats(source, read.get("a")!))]).toEqual([0.5, 0.5, 0.5, 0.5])
    expect([...(await readFloats(source, read.get("b")!))]).toEqual([1, 2])
    await source.close()
    expect(readdirSync(here)).toEqual(["out.safetensors"])
  })

  test("a source of the wrong length, a failing one and a bad place leave nothing behind", async () => {
    const here = join(dir, "broken")
    mkdirSync(here)
    const path = join(here, "x.safetensors")
    writeFileSync(path, "before")
    const short = { ...f32("a", [2]), bytes: new Uint8Array(7) }
    const long = { ...f32("a", [2]), bytes: new Uint8Array(9) }
    const failing = { ...f32("a", [2]), bytes: () => Promise.reject(new Error("boom")) }
    expect(await codeOf(writeSafetensors(path, [short]))).toBe("SAFETENSORS_SIZE")
    expect(await codeOf(writeSafetensors(path, [long]))).toBe("SAFETENSORS_SIZE")
    expect(await codeOf(writeSafetensors(path, [failing]))).toBe("Error: boom")
    expect(await codeOf(writeSafetensors(path, [f32("a", [1]), f32("a", [1])]))).toBe(
      "SAFETENSORS_DUPLICATE_KEY",
    )
    expect(await codeOf(writeSafetensors(join(here, "no", "x"), [f32("a", [1])]))).toBe("FILE_NOT_WRITTEN")
    expect(readdirSync(here)).toEqual(["x.safetensors"])
    expect(readFileSync(path, "utf8")).toBe("before")
  })
})

describe("values", () => {
  test("every half precision number, exactly", () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i)
    const decoded = decodeFloats("F16", new Uint8Array(all.buffer))
    expect(decoded[0x3c00]).toBe(1)
    expect(decoded[0x0001]).toBe(2 ** -24)
    expect(decoded[0x03ff]).toBe(1023 * 2 ** -24)
    expect(decoded[0x7bff]).toBe(65504)
    expect(decoded[0xfc00]).toBe(Number.NEGATIVE_INFINITY)
    expect(Number.isNaN(halfToFloat(0x7c01))).toBe(true)
    expect(Object.is(decoded[0x8000], -0)).toBe(true)
    expect(decoded[0x3555]).toBe(0.333251953125)
  })

  test("bf16, f64 and unaligned f32", () => {
    expect([...decodeFloats("BF16", new Uint8Array([0x80, 0x3f, 0x49, 0xc0]))]).toEqual([1, -3.140625])
    expect([...decodeFloats("F64", new Uint8Array(new Float64Array([0.1, -2]).buffer))]).toEqual([
      Math.fround(0.1),
      -2,
    ])
    const shifted = new Uint8Array(9)
    new DataView(shifted.buffer).setFloat32(1, 3.5, true)
    expect([...decodeFloats("F32", shifted.subarray(1, 5))]).toEqual([3.5])
    expect(() => decodeFloats("I64", new Uint8Array(8))).toThrow(/I64/)
  })

  test("rows, reshape and transpose are views", async () => {
    const bytes = new Uint8Array(new Float32Array([0, 1, 2, 3, 4, 5]).buffer)
    const view = { name: "m", dtype: "F32" as const, shape: [3, 2], file: "m", offset: 0, length: 24 }
    const source = bufferSource(bytes, "m")
    expect([...(await readFloats(source, rows(view, "r", 1, 2)))]).toEqual([2, 3, 4, 5])
    expect([...(await readFloats(source, transposed(view)))]).toEqual([0, 2, 4, 1, 3, 5])
    expect(transposed(transposed(view))).toEqual({ ...view, transposed: false })
    expect(reshaped(view, [6, 1]).shape).toEqual([6, 1])
    expect(() => reshaped(view, [5])).toThrow(/m: /)
    expect(() => rows(view, "r", 2, 2)).toThrow(/rows 2 to 4/)
    expect(() => transposed({ ...view, shape: [6] })).toThrow(/matrix/)
  })
})

test("hashes: whole file, 64 KiB at 1 MiB, bytes after the header", async () => {
  const path = join(dir, "hash.safetensors")
  await writeSafetensors(path, [f32("a", [300_000])])
  const bytes = readFileSync(path)
  const { dataStart } = await openSafetensors(path)
  const sha = (b: Uint8Array) => createHash("sha256").update(b).digest("hex")
  expect(await hashFile(path, { dataStart })).toEqual({
    sha256: sha(bytes),
    autov1: sha(bytes.subarray(0x100000, 0x110000)).slice(0, 8),
    autov2: sha(bytes).slice(0, 10),
    autov3: sha(bytes.subarray(dataStart)).slice(0, 12),
  })
  writeFileSync(path, "short")
  expect((await hashFile(path)).autov1).toBe("e3b0c442")
  const signal = AbortSignal.abort()
  await expect(hashFile(path, { signal })).rejects.toThrow(/abort/i)
})

describe("diffusers folders", () => {
  const config = (className: string) =>
    JSON.stringify({ _class_name: className, in_channels: 4, out_channels: 4 })
  let count = 0
  /** A model's folder with one tensor per network; `change` edits it. */
  async function folder(change: (path: string) => Promise<void> | void = () => undefined): Promise<string> {
    const path = join(dir, `model${count++}`)
    for (const part of ["unet", "vae", "text_encoder", "scheduler", "tokenizer"])
      mkdirSync(join(path, part), { recursive: true })
    const index = {
      _class_name: "StableDiffusionPipeline",
      unet: ["diffusers", "UNet2DConditionModel"],
      vae: ["diffusers", "AutoencoderKL"],
      text_encoder: ["transformers", "CLIPTextModel"],
      safety_checker: [null, null],
    }
    writeFileSync(join(path, "model_index.json"), JSON.stringify(index))
    writeFileSync(join(path, "unet", "config.json"), config("UNet2DConditionModel"))
    writeFileSync(join(path, "vae", "config.json"), config("AutoencoderKL"))
    writeFileSync(
      join(path, "text_encoder", "config.json"),
      JSON.stringify({ architectures: ["CLIPTextModel"] }),
    )
    writeFileSync(
      join(path, "scheduler", "scheduler_config.json"),
      JSON.stringify({ prediction_type: "v_prediction" }),
    )
    await writeSafetensors(join(path, "unet", "diffusion_pytorch_model.safetensors"), [
      f32("conv_in.weight", [1]),
    ])
    await writeSafetensors(join(path, "vae", "diffusion_pytorch_model.safetensors"), [
      f32("encoder.mid_block.attentions.0.query.weight", [2, 2, 1, 1]),
      f32("encoder.mid_block.attentions.0.proj_attn.bias", [2]),
      f32("encoder.mid_block.attentions.0.group_norm.weight", [2]),
    ])
    await writeSafetensors(join(path, "text_encoder", "model.safetensors"), [
      f32("embeddings.token_embedding.weight", [3, 2]),
      { name: "embeddings.position_ids", dtype: "I64", shape: [1, 1], bytes: new Uint8Array(8) },
    ])
    await change(path)
    return path
  }
  const unet = (path: string) => join(path, "unet")
  const whole = "diffusion_pytorch_model.safetensors"

  test("old attention names, text keys without prefix, position ids", async () => {
    const path = await folder()
    const model = await openFolder(path)
    expect([...model.components.get("vae")!.weights].map(([key, v]) => [key, v.name, v.shape])).toEqual([
      ["encoder.mid_block.attentions.0.to_q.weight", "encoder.mid_block.attentions.0.to_q.weight", [2, 2]],
      ["encoder.mid_block.attentions.0.to_out.0.bias", "encoder.mid_block.attentions.0.to_out.0.bias", [2]],
      [
        "encoder.mid_block.attentions.0.group_norm.weight",
        "encoder.mid_block.attentions.0.group_norm.weight",
        [2],
      ],
    ])
    expect([...model.components.get("text_encoder")!.weights.keys()]).toEqual([
      "text_model.embeddings.token_embedding.weight",
    ])
    expect(model).toMatchObject({
      family: "sd1",
      variant: "base",
      prediction: "v_prediction",
      format: "diffusers",
    })
    expect([...model.tokenizers]).toEqual([["tokenizer", join(path, "tokenizer")]])
  })

  test("only fp16 weights, and a wanted variant", async () => {
    const path = await folder(async (p) => {
      rmSync(join(unet(p), whole))
      await writeSafetensors(join(unet(p), "diffusion_pytorch_model.fp16.safetensors"), [f32("half", [1])])
    })
    expect([...(await openFolder(path)).components.get("unet")!.weights.keys()]).toEqual(["half"])
    const both = ["diffusion_pytorch_model.fp16.safetensors", whole]
    expect(pickWeights(both)).toBe(whole)
    expect(pickWeights(both, "fp16")).toBe(both[0])
    expect(pickWeights(both, "bf16")).toBe(whole)
    expect(pickWeights(["model-00001-of-00002.safetensors", "model.safetensors.index.json"])).toBe(
      "model.safetensors.index.json",
    )
    expect(pickWeights(["model.safetensors.index.fp16.json"])).toBe("model.safetensors.index.fp16.json")
    expect(pickWeights(["model.bin", "README.md"])).toBeUndefined()
  })

  const shard = (names: Record<string, string>) => async (p: string) => {
    rmSync(join(unet(p), whole))
    await writeSafetensors(join(unet(p), "s-1.safetensors"), [f32("a", [1])])
    await writeSafetensors(join(unet(p), "s-2.safetensors"), [f32("b", [1])])
    writeFileSync(join(unet(p), `${whole}.index.json`), JSON.stringify({ weight_map: names }))
  }

  test("sharded weights", async () => {
    const model = await openFolder(await folder(shard({ a: "s-1.safetensors", b: "s-2.safetensors" })))
    expect([...model.components.get("unet")!.weights.keys()]).toEqual(["a", "b"])
    expect(model.components.get("unet")!.files).toHaveLength(2)
  })

  test.each([
    ["../unet/s-1.safetensors"],
    ["/etc/passwd"],
    ["sub/s-1.safetensors"],
    ["s-1.bin"],
    ["..\\s-1.safetensors"],
    ["s-1.safetensors\0"],
    ["s-1.safetensors\n"],
    [".safetensors"],
  ])("shard name %j is refused", async (name) => {
    const code = await codeOf(openFolder(await folder(shard({ a: name, b: "s-2.safetensors" }))))
    expect(code).toBe("FOLDER_SHARD_NAME")
  })

  test("a scheduler config may hold Python's bare numbers", async () => {
    const text =
      '{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "a": NaN, "b": "NaN \\" -Infinity"}'
    const path = await folder((p) => writeFileSync(join(p, "scheduler", "scheduler_config.json"), text))
    const { scheduler } = await openFolder(path)
    expect(scheduler).toMatchObject({ lambda_min_clipped: -Infinity, a: null, b: 'NaN " -Infinity' })
  })

  test("errors say what is there and what to do", async () => {
    const cases: [string, (p: string) => void, RegExp][] = [
      ["FOLDER_NO_INDEX", (p) => rmSync(join(p, "model_index.json")), /there are: scheduler, text_encoder/],
      [
        "FOLDER_NO_COMPONENT",
        (p) => rmSync(join(p, "vae"), { recursive: true }),
        /no vae; there are: model_index.json/,
      ],
      ["FOLDER_NO_CONFIG", (p) => rmSync(join(p, "vae", "config.json")), /no config.json/],
      ["FOLDER_NO_CLASS", (p) => writeFileSync(join(p, "vae", "config.json"), "{}"), /names no class/],
      ["CONFIG_JSON", (p) => writeFileSync(join(p, "vae", "config.json"), "{"), /no JSON/],
      ["CONFIG_JSON", (p) => writeFileSync(join(p, "vae", "config.json"), "[]"), /no JSON object/],
      ["FOLDER_NO_WEIGHTS", (p) => rmSync(join(unet(p), whole)), /there are: config.json/],
      ["SAFETENSORS_TOO_SMALL", (p) => writeFileSync(join(unet(p), whole), ""), /no header/],
      [
        "FOLDER_SHARD_INDEX",
        (p) => {
          rmSync(join(unet(p), whole))
          writeFileSync(join(unet(p), `${whole}.index.json`), "{}")
        },
        /weight_map/,
      ],
    ]
    for (const [code, change, message] of cases) {
      const path = await folder(change)
      await expect(openFolder(path)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
        exitCode: 2,
      })
    }
    const pickled = await folder((p) => {
      rmSync(join(unet(p), whole))
      writeFileSync(join(unet(p), "diffusion_pytorch_model.bin"), "")
    })
    await expect(openFolder(pickled)).rejects.toMatchObject({
      code: "FOLDER_PICKLED",
      hint: expect.stringMatching(/aquatint convert/),
    })
    const wrong = await folder(shard({ a: "s-1.safetensors", c: "s-2.safetensors" }))
    expect(await codeOf(openFolder(wrong))).toBe("FOLDER_SHARD_TENSOR")
    expect(await codeOf(openFolder(join(dir, "nowhere")))).toBe("FILE_NOT_FOUND")
  })
})

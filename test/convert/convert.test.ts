import { createHash } from "node:crypto"
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { basename, join, resolve } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { AquatintError, type ConvertStep, convert, writeSafetensors } from "../../src/index.ts"
import { openFolder } from "../../src/weights/folder.ts"
import { openSafetensors } from "../../src/weights/open-file.ts"
import { openSingleFile } from "../../src/weights/single-file.ts"
import type { TensorView } from "../../src/weights/view.ts"
import { type Bytes, Opcodes, torchZip, zip } from "./pickler.ts"

const golden = resolve(import.meta.dirname, "../golden/convert")
const models = resolve(import.meta.dirname, "../golden/models")
const MODELS = ["sd1-tiny", "sd1-odd", "sd1-inpaint", "sd2-tiny", "sdxl-tiny"]

let folder = ""
const at = (...parts: string[]) => join(folder, ...parts)
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "aquatint-convert-"))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Every tensor of a file as "dtype[shape]" and its bytes in base64. */
async function contents(path: string): Promise<Map<string, { what: string; bytes: string }>> {
  const whole = readFileSync(path)
  const { tensors } = await openSafetensors(path)
  const show = ({ dtype, shape }: TensorView) => `${dtype}[${shape}]`
  const bytes = ({ offset, length }: TensorView) => whole.toString("base64", offset, offset + length)
  return new Map([...tensors].map(([name, view]) => [name, { what: show(view), bytes: bytes(view) }]))
}

/** Files below a folder with their bytes. */
const tree = (root: string) =>
  new Map(
    readdirSync(root, { recursive: true, encoding: "utf8" })
      .filter((name) => statSync(join(root, name)).isFile())
      .sort()
      .map((name) => [name, readFileSync(join(root, name)).toString("base64")]),
  )

async function codeOf(work: PromiseLike<unknown>): Promise<string> {
  const error: unknown = await Promise.resolve(work).then(
    () => "nothing was thrown",
    (e: unknown) => e,
  )
  return error instanceof AquatintError ? `${error.code} ${error.exitCode}` : String(error)
}

interface Layouts {
  models: Record<string, Record<string, { tensors: number; sha256: string }>>
}

describe.each(MODELS)("folder %s", (name) => {
  test("becomes one file with the keys and numbers of diffusers' inverse", async () => {
    const { models: all } = JSON.parse(readFileSync(join(golden, "ldm.json"), "utf8")) as Layouts
    const path = at(`${name}.safetensors`)
    const result = await convert(join(models, name), path)
    expect(result).toMatchObject({ format: "single-file", family: name.slice(0, name.indexOf("-")) })
    const found = await contents(path)
    for (const [prefix, want] of Object.entries(all[name]!)) {
      const sums = createHash("sha256")
      const layers = Math.max(
        ...[...found.keys()].map((key) =>
          Number(/model\.transformer\.resblocks\.(\d+)/.exec(key)?.[1] ?? -1),
        ),
      )
      const unused = name.startsWith("sd2") ? `.resblocks.${layers}.` : "(none)"
      const keys = [...found.keys()].filter((key) => key.startsWith(prefix) && !key.includes(unused)).sort()
      for (const key of keys) {
        const { what, bytes } = found.get(key)!
        sums
          .update(
            `${key} [${what
              .slice(what.indexOf("[") + 1, -1)
              .split(",")
              .join(", ")}]\n`,
          )
          .update(bytes, "base64")
      }
      expect({ prefix, tensors: keys.length, sha256: sums.digest("hex") }).toEqual({ prefix, ...want })
    }
  })

  test("and that file reads as the same model", async () => {
    const want = await openFolder(join(models, name))
    const got = await openSingleFile(at(`${name}.safetensors`))
    expect([got.family, got.variant, got.prediction]).toEqual([want.family, want.variant, want.prediction])
    const key = "sample_size"
    expect(got.components.get("unet")!.config[key]).toBe(want.components.get("unet")!.config[key])
  })

  test("folder to file to folder to file: configs, weights and files are the same again", async () => {
    const [once, twice] = [at(`${name}-1`), at(`${name}-2.safetensors`)]
    await convert(at(`${name}.safetensors`), once)
    await convert(once, twice)
    expect(readFileSync(twice).equals(readFileSync(at(`${name}.safetensors`)))).toBe(true)
    const before = tree(join(models, name))
    const after = tree(once)
    const own = [...before.keys()].filter((file) => /\.safetensors$/.test(file))
    expect(own.map((file) => [file, after.get(file) === before.get(file)])).toEqual(
      own.map((file) => [file, true]),
    )
    const configs = [...before.keys()].filter(
      (file) => /config\.json$/.test(file) && !file.startsWith("tokenizer"),
    )
    const json = (text: string | undefined) =>
      JSON.parse(Buffer.from(text ?? "", "base64").toString()) as unknown
    // transformers takes no 1 for 1.0
    const text = Buffer.from(after.get("text_encoder/config.json") ?? "", "base64").toString()
    expect(text).toContain('"initializer_factor": 1.0')
    for (const file of configs)
      expect({ file, json: json(after.get(file)) }).toEqual({ file, json: json(before.get(file)) })
  })

  test("folder to folder keeps every file's meaning", async () => {
    const copy = at(`${name}-copy`)
    await convert(join(models, name), copy)
    const [before, after] = [tree(join(models, name)), tree(copy)]
    expect([...after.keys()]).toEqual([...before.keys()])
    for (const [file, bytes] of before)
      if (!file.endsWith("index.json")) expect([file, after.get(file) === bytes]).toEqual([file, true])
    expect((await openFolder(copy)).family).toBe((await openFolder(join(models, name))).family)
  })
})

describe("leftovers of a file", () => {
  test("survive the folder and come back", async () => {
    const { tensors } = await openSafetensors(at("sd2-tiny.safetensors"))
    const whole = readFileSync(at("sd2-tiny.safetensors"))
    const list = [...tensors.values()].map(({ name, dtype, shape, offset, length }) => ({
      name,
      dtype,
      shape,
      bytes: whole.subarray(offset, offset + length),
    }))
    const more = { dtype: "F32", shape: [2], bytes: Buffer.from(new Float32Array([0.5, 1]).buffer) } as const
    const path = at("left.safetensors")
    await writeSafetensors(
      path,
      [...list, { ...more, name: "betas" }, { ...more, name: "model_ema.decay" }],
      [["note", "mine"]],
    )
    const result = await convert(path, at("left"))
    expect(result.notes.join()).toContain("leftovers.safetensors")
    await convert(at("left"), at("left-2.safetensors"))
    const [before, after] = [await contents(path), await contents(at("left-2.safetensors"))]
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort())
    for (const [name, { what, bytes }] of before) {
      expect([name, after.get(name)!.what]).toEqual([name, what])
      expect(after.get(name)!.bytes === bytes).toBe(true)
    }
    expect((await openSafetensors(at("left-2.safetensors"))).metadata).toEqual(new Map([["note", "mine"]]))
  })
})

describe("files of torch.save", () => {
  const files = [2, 3, 4, 5].flatMap((n) => [`zip-${n}.pt`, `legacy-${n}.pt`]).concat("nested.ckpt")

  test.each(files)("%s has torch's numbers", async (name) => {
    const path = at("torch.safetensors")
    const result = await convert(join(golden, name), path, { force: true })
    const [want, got] = [await contents(join(golden, "state.safetensors")), await contents(path)]
    expect([...got.keys()].sort()).toEqual([...want.keys()].sort())
    for (const [key, value] of want) expect({ key, ...got.get(key) }).toEqual({ key, ...value })
    expect(result.notes.length).toBe(name === "nested.ckpt" ? 1 : 0)
  })

  test("a module is refused by the names it needs", async () => {
    expect(await codeOf(convert(join(golden, "refused.pth"), at("no.safetensors")))).toBe("PICKLE_GLOBAL 2")
  })

  test("a checkpoint becomes a folder, with the .yaml beside it", async () => {
    writeFileSync(at("sd1.ckpt"), await pickled(at("sd1-tiny.safetensors"), "state_dict"))
    writeFileSync(at("sd1.yaml"), 'model:\n  params:\n    parameterization: "v"\n')
    await convert(at("sd1.ckpt"), at("from-ckpt"))
    const model = await openFolder(at("from-ckpt"))
    expect([model.family, model.prediction]).toEqual(["sd1", "v_prediction"])
    const unet = "unet/diffusion_pytorch_model.safetensors"
    expect(readFileSync(at("from-ckpt", unet)).equals(readFileSync(join(models, "sd1-tiny", unet)))).toBe(
      true,
    )
    await convert(at("sd1.ckpt"), at("again.safetensors"))
    expect(existsSync(at("again.yaml"))).toBe(true)
    expect(await contents(at("again.safetensors"))).toEqual(await contents(at("sd1-tiny.safetensors")))
  })

  test("a folder whose weights are only pickled", async () => {
    cpSync(join(models, "sd1-tiny"), at("bin"), { recursive: true })
    const vae = at("bin", "vae", "diffusion_pytorch_model.safetensors")
    writeFileSync(at("bin", "vae", "diffusion_pytorch_model.bin"), await pickled(vae))
    rmSync(vae)
    await convert(at("bin"), at("from-bin"))
    const got = at("from-bin", "vae", "diffusion_pytorch_model.safetensors")
    expect(await contents(got)).toEqual(
      await contents(join(models, "sd1-tiny", "vae", "diffusion_pytorch_model.safetensors")),
    )
  })
})

/** A safetensors file of halves as torch.save would have written it, in our own hand. */
async function pickled(path: string, nest?: string): Promise<Bytes> {
  const p = new Opcodes(2)
  const storages: Record<string, Bytes> = {}
  const whole = readFileSync(path)
  const pairs = [...(await openSafetensors(path)).tensors.values()].map((view, i): [Bytes, Bytes] => {
    const type = { F16: "HalfStorage", F32: "FloatStorage" }[view.dtype as "F16" | "F32"]
    storages[i] = whole.subarray(view.offset, view.offset + view.length)
    const strides = view.shape.map((_, axis) => view.shape.slice(axis + 1).reduce((a, b) => a * b, 1))
    const count = view.length / (view.dtype === "F16" ? 2 : 4)
    return [p.string(view.name), p.tensor(p.storage(String(i), count, type), view.shape, strides)]
  })
  const dict = p.dict(...pairs)
  return zip(torchZip(p.whole(nest === undefined ? dict : p.dict([p.string(nest), dict])), storages))
}

describe("types", () => {
  test.each([
    ["fp16", "f16"],
    ["bf16", "bf16"],
    ["fp32", "f32"],
  ] as const)("%s as torch rounds", async (dtype, short) => {
    const path = at(`cast-${dtype}.safetensors`)
    const result = await convert(join(golden, "casts.safetensors"), path, { dtype })
    const [want, got] = [await contents(join(golden, "casts.safetensors")), await contents(path)]
    for (const from of ["f32", "f64", "f16"])
      if (from !== short)
        expect({ from, same: got.get(from)!.bytes === want.get(`${from}.${short}`)!.bytes }).toEqual({
          from,
          same: true,
        })
    expect(result.notes.join().includes("infinite")).toBe(dtype !== "fp32")
  })

  test("whole numbers keep theirs", async () => {
    await convert(join(golden, "zip-2.pt"), at("ints.safetensors"), { dtype: "bf16" })
    const got = await contents(at("ints.safetensors"))
    expect([got.get("long")!.what, got.get("bool")!.what, got.get("half")!.what]).toEqual([
      "I64[5]",
      "BOOL[2]",
      "BF16[5]",
    ])
  })

  test("of a whole folder", async () => {
    await convert(join(models, "sdxl-tiny"), at("bf16"), { dtype: "bf16" })
    const types = [...(await openFolder(at("bf16"))).components.values()].flatMap((c) =>
      [...c.weights.values()].map((v) => v.dtype),
    )
    expect(new Set(types)).toEqual(new Set(["BF16"]))
  })
})

describe("destinations", () => {
  const source = () => at("sd1-tiny.safetensors")

  test("what stands there is kept without force, and nothing is left beside it", async () => {
    writeFileSync(at("taken.safetensors"), "mine")
    mkdirSync(at("home"))
    writeFileSync(at("home", "letter.txt"), "mine")
    writeFileSync(at("stem.yaml"), "mine")
    const before = readdirSync(folder).sort()
    expect(await codeOf(convert(source(), at("taken.safetensors")))).toBe("CONVERT_EXISTS 2")
    expect(await codeOf(convert(source(), at("home")))).toBe("CONVERT_EXISTS 2")
    expect(await codeOf(convert(source(), at("home"), { force: true }))).toBe("CONVERT_EXISTS 2")
    expect(await codeOf(convert(source(), at("taken.safetensors", "x.safetensors")))).toBe(
      "FILE_NOT_WRITTEN 2",
    )
    expect(await codeOf(convert(source(), at("no", "x.safetensors")))).toBe("FILE_NOT_WRITTEN 2")
    expect(await codeOf(convert(join(models, "sd1-tiny"), at("stem.safetensors")))).toBe("CONVERT_EXISTS 2")
    expect(await codeOf(convert(source(), at("x.ckpt")))).toBe("CONVERT_TO_PICKLE 2")
    expect(await codeOf(convert(at("nothing"), at("x")))).toBe("MODEL_NOT_FOUND 2")
    expect(
      await codeOf(convert(join(models, "sd1-tiny", "unet"), join(models, "sd1-tiny"), { force: true })),
    ).toBe("CONVERT_INSIDE 2")
    expect(readdirSync(folder).sort()).toEqual(before)
    expect(readFileSync(at("home", "letter.txt"), "utf8")).toBe("mine")
  })

  test("force replaces files and model folders, the source itself too", async () => {
    await convert(source(), at("again"))
    writeFileSync(at("again", "stray.txt"), "old")
    await convert(source(), at("again"), { force: true })
    expect(existsSync(at("again", "stray.txt"))).toBe(false)
    cpSync(source(), at("self.safetensors"))
    await convert(at("self.safetensors"), at("self.safetensors"), { force: true, dtype: "bf16" })
    expect([...(await contents(at("self.safetensors"))).values()][0]!.what.startsWith("BF16")).toBe(true)
    cpSync(join(models, "sd1-tiny"), at("self"), { recursive: true })
    await convert(at("self"), at("self"), { force: true, dtype: "bf16" })
    expect((await openFolder(at("self"))).components.size).toBe(3)
  })

  test("leaving the loop, or a signal, stops and leaves nothing", async () => {
    const before = readdirSync(folder).sort()
    for await (const step of convert(source(), at("left-early"))) {
      expect(step.progress).toBeLessThanOrEqual(1)
      break
    }
    const controller = new AbortController()
    const aborted = convert(source(), at("aborted"), { signal: controller.signal })
    const seen: ConvertStep[] = []
    const loop = async () => {
      for await (const step of aborted) {
        seen.push(step)
        controller.abort()
      }
    }
    await expect(loop()).rejects.toThrow()
    expect(seen.length).toBeGreaterThan(0)
    expect(readdirSync(folder).sort()).toEqual(before)
  })
})

describe("files that are no whole model", () => {
  test("a component's folder becomes a file in LDM keys, and a folder again", async () => {
    for (const part of ["vae", "unet"]) {
      await convert(join(models, "sd1-tiny", part), at(`${part}.safetensors`))
      await convert(at(`${part}.safetensors`), at(`${part}-folder`))
      const file = "diffusion_pytorch_model.safetensors"
      expect(
        readFileSync(at(`${part}-folder`, file)).equals(readFileSync(join(models, "sd1-tiny", part, file))),
      ).toBe(true)
    }
    expect([...(await contents(at("vae.safetensors"))).keys()]).toContain("decoder.mid.attn_1.q.weight")
  })

  test("tensors of no model have no folder", async () => {
    expect(await codeOf(convert(join(golden, "casts.safetensors"), at("casts")))).toBe("CONVERT_NO_FOLDER 2")
  })

  test("a torn file is refused as its reader says", async () => {
    writeFileSync(at("torn.safetensors"), readFileSync(join(golden, "casts.safetensors")).subarray(0, 5000))
    expect(await codeOf(convert(at("torn.safetensors"), at("t.safetensors")))).toBe(
      "SAFETENSORS_INCOMPLETE 2",
    )
    expect(basename(at("x"))).toBe("x")
  })
})

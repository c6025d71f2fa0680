import { createHash } from "node:crypto"
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, expect, test } from "vitest"
import { type ConvertOptions, convert, StableDiffusion, writeSafetensors } from "../../src/index.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { truncatedSvd } from "../../src/weights/edit/svd.ts"
import { openSafetensors } from "../../src/weights/open-file.ts"
import { openGolden, relativeError } from "../golden-case.ts"

/** tools/reference/edits_golden.py */
interface Golden {
  merges: Record<
    string,
    { weight: number; blocks: number[]; sums: Record<"weighted" | "difference" | "blocks", string> }
  >
  svd: {
    rows: number
    columns: number
    kind: "flat" | "falling"
    rank: number
    values: number[]
    left: number
  }[]
}

const golden = resolve(import.meta.dirname, "../golden")
const { merges, svd } = JSON.parse(readFileSync(join(golden, "convert/edits.json"), "utf8")) as Golden
const scratch = mkdtempSync(join(tmpdir(), "aquatint-edits-"))
const at = (name: string) => join(scratch, name)
const engine = nodeEngine()
afterAll(async () => {
  await engine.close()
  rmSync(scratch, { recursive: true, force: true })
})

const parts = {
  unet: "diffusion_pytorch_model",
  vae: "diffusion_pytorch_model",
  text_encoder: "model",
  text_encoder_2: "model",
}

/** Every tensor of a model's folder by `part.key`, with its bytes. */
async function tensorsOf(folder: string): Promise<Map<string, Buffer>> {
  const out = new Map<string, Buffer>()
  for (const [part, file] of Object.entries(parts)) {
    const path = join(folder, part, `${file}.safetensors`)
    const header = await openSafetensors(path).catch(() => null)
    const bytes = header ? readFileSync(path) : Buffer.alloc(0)
    for (const [key, { offset, length }] of header?.tensors ?? [])
      out.set(`${part}.${key}`, bytes.subarray(offset, offset + length))
  }
  return out
}

async function checksum(folder: string): Promise<string> {
  const total = createHash("sha256")
  const found = await tensorsOf(folder)
  for (const key of [...found.keys()].sort()) total.update(key).update(found.get(key)!)
  return total.digest("hex")
}

/** A copy of a model whose tensors are turned by some places: the reference's other models. */
async function turned(name: string, places: number): Promise<string> {
  const folder = at(`${name} ${places}`)
  cpSync(join(golden, "models", name), folder, { recursive: true })
  for (const [part, file] of Object.entries(parts)) {
    const path = join(folder, part, `${file}.safetensors`)
    const header = await openSafetensors(path).catch(() => null)
    if (!header) continue
    const bytes = readFileSync(path)
    for (const { dtype, offset, length } of header.tensors.values()) {
      if (!/^B?F\d/.test(dtype)) continue
      const old = Buffer.from(bytes.subarray(offset, offset + length))
      const by = ((dtype === "F32" ? 4 : 2) * places) % length
      bytes.set(old.subarray(length - by), offset)
      bytes.set(old.subarray(0, length - by), offset + by)
    }
    writeFileSync(path, bytes)
  }
  return folder
}

test.each(Object.keys(merges))("%s: merges are torch's, bit for bit", async (name) => {
  const { weight, blocks, sums } = merges[name]!
  const [b, c] = [await turned(name, 1), await turned(name, 2)]
  const a = join(golden, "models", name)
  const mixed = async (to: string, merge: NonNullable<ConvertOptions["merge"]>) => {
    await convert(a, at(to), { merge })
    return checksum(at(to))
  }
  expect(await mixed(`${name} weighted`, { with: b, weight })).toBe(sums.weighted)
  expect(await mixed(`${name} added`, { with: b, difference: c, weight })).toBe(sums.difference)
  expect(await mixed(`${name} blocks`, { with: b, weight, blocks })).toBe(sums.blocks)
  // by way of single files
  await convert(a, at(`${name} a.safetensors`))
  await convert(b, at(`${name} b.safetensors`))
  const file = at(`${name} mixed.safetensors`)
  await convert(at(`${name} a.safetensors`), file, { merge: { with: at(`${name} b.safetensors`), weight } })
  await convert(file, at(`${name} back`))
  expect(await checksum(at(`${name} back`))).toBe(sums.weighted)
  expect(await mixed(`${name} none`, { with: b, weight: 0 })).toBe(await checksum(a))
})

test("what cannot be mixed is refused", async () => {
  const a = join(golden, "models/sd1-tiny")
  const code = (options: ConvertOptions) =>
    Promise.resolve(convert(a, at("refused"), options)).then(
      () => "done",
      (error: { code: string }) => error.code,
    )
  expect(await code({ merge: { with: join(golden, "models/sdxl-tiny") } })).toBe("CONVERT_MERGE")
  expect(await code({ merge: { with: a, blocks: [1, 2] } })).toBe("CONVERT_MERGE")
  expect(await code({ merge: { with: a, weight: Number.NaN } })).toBe("CONVERT_MERGE")
  expect(await code({ merge: { with: join(golden, "models/sd1-inpaint") } })).toBe("CONVERT_MERGE")
  expect(await code({ extract: { from: a } })).toBe("CONVERT_EXTRACT")
  expect(await code({ loras: [{ file: join(golden, "adapters/sdxl-sgm/xl.safetensors") }] })).toBe(
    "ADAPTER_SHAPE",
  )
})

test("an inpainting model takes an ordinary one's weights for the channels they share", async () => {
  const plain = join(golden, "models/sd1-tiny")
  cpSync(plain, at("inpaint"), { recursive: true })
  const config = JSON.parse(readFileSync(join(plain, "unet/config.json"), "utf8")) as object
  writeFileSync(at("inpaint/unet/config.json"), JSON.stringify({ ...config, in_channels: 9 }))
  const path = join(plain, "unet/diffusion_pytorch_model.safetensors")
  const bytes = readFileSync(path)
  const tensors = [...(await openSafetensors(path)).tensors.values()].map(
    ({ name, dtype, shape, offset, length }) =>
      name === "conv_in.weight"
        ? { name, dtype, shape: [shape[0]!, 9, 3, 3], bytes: new Uint8Array((length / 4) * 9).fill(60) }
        : { name, dtype, shape, bytes: bytes.subarray(offset, offset + length) },
  )
  await writeSafetensors(at("inpaint/unet/diffusion_pytorch_model.safetensors"), tensors)
  await convert(at("inpaint"), at("nine"), { merge: { with: plain, weight: 1 } })
  const rows = async (folder: string) => (await tensorsOf(folder)).get("unet.conv_in.weight")!
  const [mixed, before, other] = [await rows(at("nine")), await rows(at("inpaint")), await rows(plain)]
  const shared = 4 * 9 * 2
  expect(mixed.subarray(0, shared)).toEqual(other.subarray(0, shared))
  expect(mixed.subarray(shared, (9 / 4) * shared)).toEqual(before.subarray(shared, (9 / 4) * shared))
})

interface About {
  model: string
  prompt: string
  seed: number
  steps: number
  cfg: number
  files: { file: string; weight: number; text?: number; unet?: number }[]
}

async function goldenCase(name: string) {
  const { about, want } = await openGolden<About>(join(golden, "adapters", name, "trace.safetensors"))
  const loras = about.files.map(({ file, ...weights }) => ({
    file: join(golden, "adapters", name, file),
    ...weights,
  }))
  return { about, latents: want("latents"), loras, model: join(golden, "models", about.model) }
}

async function draw(model: string, { prompt, seed, steps, cfg }: About, loras: { file: string }[] = []) {
  const sd = await StableDiffusion.load(model, { engine, cache: null })
  const ask = { prompt, seed, steps, cfg, width: 64, height: 64, loras }
  const { trace } = await sd.generate(ask, { trace: true })
  await sd.release()
  return trace!.tensors().get("latents")!.data as Float32Array
}

test.each(["two", "loha", "sdxl-sgm"])(
  "%s: adapters baked in draw the reference's latents without them",
  async (name) => {
    const { about, latents, loras, model } = await goldenCase(name)
    const folder = at(`baked ${name}`)
    const { notes } = await convert(model, folder, { loras, engine, dtype: "fp32" })
    expect(notes.join()).toMatch(/\d+ weights changed/)
    expect(relativeError(await draw(folder, about), latents)).toBeLessThan(1e-3)
    const file = at(`baked ${name}.safetensors`)
    await convert(model, at(`plain ${name}.safetensors`))
    await convert(at(`plain ${name}.safetensors`), file, { loras, engine, dtype: "fp32" })
    await convert(file, at(`baked again ${name}`))
    expect(await checksum(at(`baked again ${name}`))).toBe(await checksum(folder))
  },
)

test.each(["kohya"])("%s: what was baked in can be extracted", async (name) => {
  const { about, latents, loras, model } = await goldenCase(name)
  await convert(model, at(`tuned ${name}`), { loras, engine, dtype: "fp32" })
  const lora = at(`lora ${name}.safetensors`)
  const result = await convert(at(`tuned ${name}`), lora, {
    extract: { from: model, rank: 16, convRank: 16 },
  })
  expect(result.format).toBe("tensors")
  expect(relativeError(await draw(model, about, [{ file: lora }]), latents)).toBeLessThan(1e-3)
  const { tensors, metadata } = await openSafetensors(lora)
  expect(
    [...tensors.keys()].every((key) =>
      /^lora_(unet|te1?|te2)_\w+\.(alpha|lora_(down|up)\.weight)$/.test(key),
    ),
  ).toBe(true)
  expect(metadata.get("ss_network_dim")).toBe("16")
})

function matrix(rows: number, columns: number, kind: "flat" | "falling"): Float32Array {
  const at = (i: number, j: number) =>
    kind === "flat"
      ? Math.sin(i * 12.9898 + j * 78.233 + i * j * 0.37)
      : Array.from(
          { length: 20 },
          (_, k) => Math.sin(i * (1.1 + k)) * Math.cos(j * (0.7 + k)) * 0.5 ** k,
        ).reduce((a, b) => a + b)
  return Float32Array.from({ length: rows * columns }, (_, n) => at(Math.floor(n / columns), n % columns))
}

test.each(svd)(
  "singular values of $rows x $columns, $kind, rank $rank: torch.linalg.svd",
  ({ rows, columns, kind, rank, values, left }) => {
    const a = matrix(rows, columns, kind)
    const found = truncatedSvd(a, rows, columns, rank)
    for (const [r, value] of values.entries())
      expect(Math.abs(found.values[r]! - value)).toBeLessThan(1e-5 * values[0]!)
    // Eckart and Young: nothing of this rank is nearer
    let missed = 0
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) {
        let sum = 0
        for (let r = 0; r < rank; r++)
          sum += found.values[r]! * found.left[r * rows + i]! * found.right[r * columns + j]!
        missed += (a[i * columns + j]! - sum) ** 2
      }
    expect(Math.sqrt(missed)).toBeLessThan(left * (1 + 1e-5) + 1e-5 * values[0]!)
  },
)

import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { crc32, gunzipSync } from "node:zlib"
import { afterAll, expect, test } from "vitest"
import { type GenerateRequest, type Picture, StableDiffusion, writeSafetensors } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { relativeError } from "./golden-case.ts"

/** Whole pictures of single files of every kind, by diffusers (tools/reference/single_file_pictures.py). */
interface Case {
  file: string
  family: string
  tensors: Record<string, number[]>
  /** The ControlNet's tensors, of the strength that `ask.control` says. */
  control?: Record<string, number[]>
  ask?: Partial<GenerateRequest> & { refiner?: string; at?: number; control?: number }
  seed?: number
  latents?: number[]
  image?: number[]
}

const path =
  process.env.SINGLE_FILES_GOLDEN ?? join(import.meta.dirname, "golden/single-files/pictures.json.gz")
const { cases } = JSON.parse(gunzipSync(readFileSync(path)).toString()) as { cases: Case[] }
const scratch = mkdtempSync(join(tmpdir(), "aquatint-single-"))
const engine = nodeEngine()
afterAll(async () => {
  await engine.close()
  rmSync(scratch, { recursive: true })
})

/** The script's numbers: norms near 1, small biases, matrices of unit gain. */
function formula(key: string, shape: readonly number[]): Float32Array {
  const count = shape.reduce((a, b) => a * b, 1)
  const start = crc32(key)
  const norm = shape.length === 1 && key.endsWith("weight")
  const fan = key.includes("embedding")
    ? 16
    : Math.max(
        1,
        shape.slice(1).reduce((a, b) => a * b, 1),
      )
  const spread = norm ? 0.3 : key.endsWith("bias") ? 0.2 : 3.4 / Math.sqrt(fan)
  const out = new Float32Array(count)
  for (let i = 0; i < count; i++) {
    let h = (Math.imul(i, 0x9e3779b1) + start) | 0
    h = Math.imul(h ^ (h >>> 15), 0x85ebca6b)
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
    h ^= h >>> 16
    out[i] = ((h >>> 0) / 2 ** 32 - 0.5) * spread + (norm ? 1 : 0)
  }
  return out
}

const written = (name: string) => writtenAs(name, cases.find(({ file }) => file === name)!.tensors)

async function writtenAs(name: string, tensors: Readonly<Record<string, number[]>>): Promise<string> {
  const file = join(scratch, `${name}.safetensors`)
  const list = Object.entries(tensors).map(([key, shape]) => ({
    ...{ name: key, dtype: "F32" as const, shape },
    bytes: new Uint8Array(formula(key, shape).buffer),
  }))
  await writeSafetensors(file, list)
  return file
}

const side = 64
const drawn = (channels: 1 | 3, at: (x: number, y: number, c: number) => number): Picture => ({
  ...{ width: side, height: side, channels },
  data: Uint8ClampedArray.from({ length: side * side * channels }, (_, i) => {
    const p = Math.floor(i / channels)
    return at(p % side, Math.floor(p / side), i % channels)
  }),
})
const picture = () => drawn(3, (x, y, c) => [x * 4, y * 4, (x * y) % 256][c]!)
const mask = () => drawn(1, (x, y) => (x >= 16 && x < 48 && y >= 8 ? 255 : 0))

/** Means of blocks of 4x4. */
function blocks(image: Float32Array): Float32Array {
  const small = side / 4
  const out = new Float32Array(3 * small * small)
  image.forEach((v, i) => {
    const [c, y, x] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side]
    out[(c * small + Math.floor(y / 4)) * small + Math.floor(x / 4)]! += v / 16
  })
  return out
}

const load = async (name: string) => StableDiffusion.load(await written(name), { engine, cache: null })

test.each(cases.flatMap((c) => (c.ask ? [c.file] : [])))(
  "%s.safetensors: diffusers' latents and picture",
  async (name) => {
    const { ask, family, seed, latents, image, control } = cases.find(({ file }) => file === name)!
    const { refiner, at, control: weight, ...more } = ask!
    const model = control && (await writtenAs(`${name}-control`, control))
    const sd = await load(name)
    expect(sd.files.family).toBe(family)
    const second = refiner === undefined ? null : await load(refiner)
    const channels = sd.files.components.get("unet")!.config.in_channels
    const { trace } = await sd.generate(
      {
        ...{
          prompt: "a lighthouse at sunset, oil painting",
          seed: seed!,
          width: side,
          height: side,
          ...more,
        },
        ...(channels === 4 ? {} : { init: picture() }),
        ...(channels === 9 ? { mask: mask() } : {}),
        ...(model ? { controls: [{ model, image: picture(), weight: weight! }] } : {}),
        ...(second ? { refiner: { model: second, at: at! } } : {}),
      },
      { trace: true },
    )
    await sd.release()
    await second?.release()
    const made = (key: string) => trace!.tensors().get(key)!.data as Float32Array
    expect(relativeError(made("latents"), Float32Array.from(latents!))).toBeLessThan(1e-3)
    const off = blocks(made("image")).reduce((s, v, i) => s + Math.abs(v - image![i]!), 0) / image!.length
    // a picture's range of 2 is 255 levels
    expect(off * 127.5).toBeLessThan(0.5)
  },
  120_000,
)

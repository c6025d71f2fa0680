import { mkdir, readdir, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { fail } from "../../errors.ts"
import type { StoredTensor } from "../../graph/index.ts"
import { encoderGraph, vaeConfig } from "../../models/index.ts"
import { expected } from "../../nn/index.ts"
import { type Engine, f32 } from "../../runtime/engine.ts"
import { compile, type Program } from "../../runtime/program.ts"
import { castOf } from "../../weights/convert-cast.ts"
import { halfToFloat } from "../../weights/decode.ts"
import { openSafetensors, withFile } from "../../weights/open-file.ts"
import { writeSafetensors } from "../../weights/write.ts"
import { type Corpus, corpus } from "../corpus/index.ts"
import { cropInto } from "../pictures.ts"
import { foldWhitening, Moments, whitening } from "../whiten.ts"

export interface LatentsConfig {
  readonly seed: number
  /** Side of the pictures in pixels. */
  readonly size: number
  readonly count: number
  /** Pictures of held-out combinations, for the validation loss. */
  readonly validation: number
}

const rowsPerRun = 8
const rowsPerFile = 960
/** Most things in one picture. */
const boxesPerRow = 3

type Weights = ReadonlyMap<string, Float32Array>

const asStored = (
  weights: Weights,
  shapes: ReadonlyMap<string, readonly number[]>,
): Map<string, StoredTensor> =>
  new Map(
    [...weights].map(([name, data]) => [
      name,
      {
        dtype: "f32" as const,
        shape: shapes.get(name)!,
        bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      },
    ]),
  )

/** Encoder of `rowsPerRun` pictures of a size. */
function encoder(engine: Engine, model: unknown, weights: Weights, size: number): Promise<Program> {
  const { net, graph } = encoderGraph(vaeConfig(model), { b: rowsPerRun, h: size, w: size })
  return compile(engine, graph, asStored(weights, expected(net)), { device: "cpu", threads: 2 })
}

/** Latent means of items `from` .. `from + rowsPerRun`, b c h w, and the boxes of what they show. */
async function encodeItems(program: Program, scenes: Corpus, from: number, size: number) {
  const data = new Float32Array(rowsPerRun * 3 * size * size)
  const boxes = new Float32Array(rowsPerRun * boxesPerRow * 4)
  for (let row = 0; row < rowsPerRun; row++) {
    const scene = scenes.item(from + row)
    cropInto(data, row * 3 * size * size, scene, { x: 0, y: 0, size, mirror: false })
    for (const [n, { x, y, width, height }] of scene.boxes.slice(0, boxesPerRow).entries())
      boxes.set([x / size, y / size, (x + width) / size, (y + height) / size], (row * boxesPerRow + n) * 4)
  }
  const { moments } = await program.run({ image: f32(data, [rowsPerRun, 3, size, size]) })
  const all = moments!.data as Float32Array
  const own = all.length / rowsPerRun
  const means = new Float32Array(all.length / 2)
  for (let row = 0; row < rowsPerRun; row++)
    means.set(all.subarray(row * own, row * own + own / 2), (row * own) / 2)
  return { means, boxes }
}

/** The same autoencoder with white latents of unit variance: statistics of fresh pictures of both sizes, folded in. */
export async function whitened(
  engine: Engine,
  model: unknown,
  weights: Weights,
  seed: number,
): Promise<Map<string, Float32Array>> {
  const moments = new Moments(vaeConfig(model).latent_channels)
  for (const [size, pictures] of [
    [256, 160],
    [128, 640],
  ] as const) {
    const program = await encoder(engine, model, weights, size)
    const scenes = corpus({ seed, size, split: "train" })
    for (let from = 0; from < pictures; from += rowsPerRun)
      moments.add((await encodeItems(program, scenes, from, size)).means, rowsPerRun)
    await program.release()
  }
  return foldWhitening(weights, whitening(moments.result()))
}

const fileOf = (kind: "train" | "validation", n: number): string =>
  `${kind}-${String(n).padStart(5, "0")}.safetensors`

/**
 * Encodes pictures of the corpus into files of half-precision latents and boxes; files that are there stay, so a
 * stopped run goes on. Yields after every file.
 */
export async function* encodeLatents(
  engine: Engine,
  model: unknown,
  weights: Weights,
  folder: string,
  c: LatentsConfig,
): AsyncGenerator<{ done: number; count: number }> {
  await mkdir(folder, { recursive: true })
  for (const name of await readdir(folder)) if (name.endsWith(".tmp")) await rm(join(folder, name))
  const program = await encoder(engine, model, weights, c.size)
  try {
    for (const [kind, count] of [
      ["validation", c.validation],
      ["train", c.count],
    ] as const) {
      const scenes = corpus({ seed: c.seed, size: c.size, split: kind === "train" ? "train" : "evaluation" })
      for (let from = 0; from < count; from += rowsPerFile) {
        const path = join(folder, fileOf(kind, from / rowsPerFile))
        if (!(await stat(path).catch(() => null)))
          await encodeFile(program, scenes, path, from, Math.min(rowsPerFile, count - from), c.size)
        if (kind === "train") yield { done: Math.min(count, from + rowsPerFile), count }
      }
    }
  } finally {
    await program.release()
  }
}

async function encodeFile(
  program: Program,
  scenes: Corpus,
  path: string,
  from: number,
  rows: number,
  size: number,
) {
  const parts: Awaited<ReturnType<typeof encodeItems>>[] = []
  for (let at = 0; at < rows; at += rowsPerRun)
    parts.push(await encodeItems(program, scenes, from + at, size))
  const join32 = (list: Float32Array[], length: number) => {
    const out = new Float32Array(length)
    let at = 0
    for (const part of list) {
      out.set(part.subarray(0, Math.min(part.length, length - at)), at)
      at += part.length
    }
    return out
  }
  const perRow = parts[0]!.means.length / rowsPerRun
  const latents = join32(
    parts.map((p) => p.means),
    rows * perRow,
  )
  const boxes = join32(
    parts.map((p) => p.boxes),
    rows * boxesPerRow * 4,
  )
  const halves = new Uint8Array(latents.length * 2)
  castOf("F32", "F16")!.run(new Uint8Array(latents.buffer), halves)
  const side = Math.sqrt(perRow / 4)
  await writeSafetensors(path, [
    { name: "latents", dtype: "F16", shape: [rows, 4, side, side], bytes: halves },
    { name: "boxes", dtype: "F32", shape: [rows, boxesPerRow, 4], bytes: new Uint8Array(boxes.buffer) },
  ])
}

const halfTable = Float32Array.from({ length: 65536 }, (_, bits) => halfToFloat(bits))

/** Stored latents with random access. */
export interface LatentStore {
  readonly count: number
  /** c h w of one picture. */
  readonly shape: readonly [number, number, number]
  /** Copies latents of item i to `out` at `at`. */
  latents(i: number, out: Float32Array, at: number): void
  /** Left, top, right, bottom of each thing, in 0..1. */
  boxes(i: number): [number, number, number, number][]
}

export async function openLatents(folder: string, kind: "train" | "validation"): Promise<LatentStore> {
  const names = (await readdir(folder).catch(() => []))
    .filter((n) => n.startsWith(kind) && n.endsWith(".safetensors"))
    .sort()
  if (names.length === 0)
    fail("TRAIN_NEEDS", `${folder} holds no latents`, {
      file: folder,
      hint: "run the stage that encodes them first",
    })
  const files = await Promise.all(names.map((n) => readLatents(join(folder, n))))
  const [, c, h, w] = files[0]!.shape as [number, number, number, number]
  const starts: number[] = []
  let count = 0
  for (const f of files) {
    starts.push(count)
    count += f.shape[0]!
  }
  const find = (i: number) => {
    const n = Math.min(Math.floor(i / files[0]!.shape[0]!), files.length - 1)
    return { file: files[n]!, row: i - starts[n]! }
  }
  const size = c * h * w
  return {
    count,
    shape: [c, h, w],
    latents(i, out, at) {
      const { file, row } = find(i)
      for (let k = 0; k < size; k++) out[at + k] = halfTable[file.latents[row * size + k]!]!
    },
    boxes(i) {
      const { file, row } = find(i)
      const own = file.boxes.subarray(row * boxesPerRow * 4, (row + 1) * boxesPerRow * 4)
      const list = Array.from({ length: boxesPerRow }, (_, n) => Array.from(own.subarray(4 * n, 4 * n + 4)))
      return list.filter(([l, , r]) => r! > l!) as [number, number, number, number][]
    },
  }
}

async function readLatents(path: string) {
  const { tensors } = await openSafetensors(path)
  const [latents, boxes] = ["latents", "boxes"].map(
    (n) => tensors.get(n) ?? fail("LATENTS_FILE", `${path} has no ${n}`, { file: path }),
  )
  return withFile(path, async (source) => ({
    shape: latents!.shape,
    latents: new Uint16Array(Uint8Array.from(await source.read(latents!.offset, latents!.length)).buffer),
    boxes: new Float32Array(Uint8Array.from(await source.read(boxes!.offset, boxes!.length)).buffer),
  }))
}

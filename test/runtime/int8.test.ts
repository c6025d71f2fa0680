import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import {
  apply,
  graphNodes,
  input,
  liftInt8,
  parameter,
  type StoredTensor,
  symbol,
  type Tensor,
} from "../../src/graph/index.ts"
import { StableDiffusion } from "../../src/index.ts"
import { f32, type Value, value } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { compile } from "../../src/runtime/program.ts"
import { noise } from "../conformance/operands.ts"
import { type Arr, arr, convolved, product, transposed } from "../conformance/reference.ts"
import { worst } from "./suite.ts"

const engine = nodeEngine()
afterAll(() => engine.close())

const numbers = (shape: readonly number[], seed: number, scale = 1): Arr =>
  arr(shape, (i) => Math.fround(noise(7919 * seed + i) * scale))
const feedOf = (x: Arr): Value => f32(Float32Array.from(x.data), x.shape)
const stored = (x: Arr): StoredTensor => ({
  dtype: "f32",
  shape: x.shape,
  bytes: new Uint8Array(Float32Array.from(x.data).buffer),
})
/** Half to even, as IEEE 754 rounds. */
const rounded = (v: number): number => {
  const near = Math.round(v)
  return Math.abs(v - Math.trunc(v)) === 0.5 && near % 2 !== 0 ? near - 1 : near
}

/** Weights at 255 even steps around zero, per output channel. */
function rows(w: Arr): Arr {
  const size = w.data.length / w.shape[0]!
  const scales = Array.from({ length: w.shape[0]! }, (_, o) => {
    const top = Math.max(...Array.from(w.data.slice(o * size, (o + 1) * size), Math.abs))
    return Math.fround(top * Math.fround(1 / 127))
  })
  return arr(w.shape, (i) => {
    const scale = scales[Math.floor(i / size)]!
    return rounded(Math.fround(w.data[i]! / scale)) * scale
  })
}

/** Values at 256 even steps from the smallest to the largest, zero among them (ONNX, DynamicQuantizeLinear). */
function steps(x: Arr): Arr {
  const [low, high] = [Math.min(0, ...x.data), Math.max(0, ...x.data)]
  const scale = Math.fround((high - low) / 255)
  const zero = Math.min(255, Math.max(0, rounded(-low / scale)))
  const code = (v: number) => Math.min(255, Math.max(0, rounded(Math.fround(v / scale)) + zero))
  return arr(x.shape, (i) => (code(x.data[i]!) - zero) * scale)
}

const convolutions = [
  { x: [2, 3, 6, 5], w: [4, 3, 3, 3], stride: 1, pads: [1, 1, 1, 1] },
  { x: [1, 5, 7, 6], w: [3, 5, 3, 3], stride: 2, pads: [1, 1, 1, 1] },
  { x: [1, 4, 6, 6], w: [2, 4, 3, 3], stride: 2, pads: [0, 0, 1, 1] },
  { x: [2, 8, 3, 4], w: [6, 8, 1, 1], stride: 1, pads: [0, 0, 0, 0] },
  { x: [1, 2, 5, 9], w: [3, 2, 1, 3], stride: 1, pads: [0, 1, 0, 1] },
]

describe("products of eight-bit integers", () => {
  test.each(convolutions)("convolution $x by $w, stride $stride", async ({ x, w, stride, pads }) => {
    const [b, c, h, wide] = x as [number, number, number, number]
    const [o, , kh, kw] = w as [number, number, number, number]
    const [values, weights, bias] = [numbers(x, 1, 2), numbers(w, 2), numbers([o], 3)]
    const matrix = input("w", [o, kh * kw * c])
    const scale = input("scale", [o])
    const codes = apply("int8Codes", [matrix, scale])
    const sides = [symbol("b"), c, symbol("h"), symbol("w")]
    const y = apply("int8Conv", [input("x", sides), codes, scale, input("bias", [o])], {
      stride,
      pads,
      groups: 1,
      kernel: [kh, kw],
    })
    const known = rows(weights)
    const program = await compile(engine, { outputs: { y } }, new Map(), { device: "cpu" })
    const size = weights.data.length / o
    const scales = Array.from({ length: o }, (_, n) =>
      Math.fround(Math.max(...Array.from(weights.data.slice(n * size, (n + 1) * size), Math.abs)) / 127),
    )
    const got = await program.run({
      x: feedOf(values),
      w: f32(Float32Array.from(transposed(weights, [0, 2, 3, 1]).data), [o, kh * kw * c]),
      scale: f32(Float32Array.from(scales), [o]),
      bias: feedOf(bias),
    })
    await program.release()
    const want = convolved(steps(values), known, bias, { stride, pads, groups: 1 })
    expect(value(got, "y").shape).toEqual(want.shape)
    expect([b, h, wide].every((n) => n > 0)).toBe(true)
    expect(worst(value(got, "y").data as Float32Array, want.data)).toBeLessThan(2e-5)
  })

  test("linear layers and wide convolutions of a graph change, small and slow ones do not", async () => {
    const [x, prompt] = [input("x", [symbol("b"), 6, 256]), input("prompt", [1, 1, 256])]
    const wide = parameter("wide", [320, 256])
    const bias = parameter("bias", [320])
    const map = x.rearrange("b s c -> b c s 1").conv2d(parameter("narrow", [4, 256, 1, 1]), null)
    const large = parameter("large", [640, 640, 1, 1])
    const places = x
      .linear(wide.slice(0, 0, 256), null)
      .add(prompt.linear(parameter("slow", [256, 256]), null))
    const deep = x.linear(wide, bias).reshape([-1, 640, 3, 1]).conv2d(large, null)
    const graph = { outputs: { map, places, deep } }
    const { graph: lifted, made } = liftInt8(graph, new Set(["prompt"]))
    expect([...made.keys()].sort()).toEqual([
      "large codes",
      "large scales",
      "wide 0 256 codes",
      "wide 0 256 scales",
      "wide codes",
      "wide scales",
    ])
    const left = graphNodes(lifted).filter((n: Tensor) => n.op === "linear" || n.op === "conv2d")
    expect(left).toHaveLength(2)
  })

  test("codes are kept from one run to the next, and made again where their file is broken", async () => {
    const cache = mkdtempSync(join(tmpdir(), "aquatint-codes-"))
    const folder = join(cache, "int8")
    const model = join(import.meta.dirname, "../golden/models/sd1-odd")
    const draw = async () => {
      const sd = await StableDiffusion.load(model, { engine, cache, dtype: "int8" })
      const { images } = await sd.generate({ prompt: "a fox", steps: 2, seed: 1, width: 64, height: 64 })
      await sd.release()
      return Buffer.from(await images[0]!.encode()).toString("base64")
    }
    const held = await StableDiffusion.load(model, { engine, cache: null, dtype: "int8" })
    const without = await held.generate({ prompt: "a fox", steps: 2, seed: 1, width: 64, height: 64 })
    await held.release()
    const first = await draw()
    expect(first).toBe(Buffer.from(await without.images[0]!.encode()).toString("base64"))
    const [name] = readdirSync(folder)
    const bytes = readFileSync(join(folder, name!))
    expect(await draw()).toBe(first)
    for (const spoilt of [bytes.subarray(0, bytes.length - 1), Buffer.from("no codes"), Buffer.alloc(0)]) {
      writeFileSync(join(folder, name!), spoilt)
      expect(await draw()).toBe(first)
      expect(readFileSync(join(folder, name!)).equals(bytes)).toBe(true)
    }
    rmSync(folder, { recursive: true })
    writeFileSync(folder, "a file where the folder should be")
    expect(await draw()).toBe(first)
    rmSync(cache, { recursive: true })
  })

  test("a compiled layer computes with the rounded numbers, and with patches made anew", async () => {
    const [rowCount, k, o] = [5, 300, 320]
    const [x, w, bias] = [numbers([1, rowCount, k], 4, 3), numbers([o, k], 5, 0.1), numbers([o], 6)]
    const y = input("x", [1, symbol("s"), k]).linear(parameter("w", [o, k]), parameter("bias", [o]))
    const weights = new Map([
      ["w", stored(w)],
      ["bias", stored(bias)],
    ])
    const run = async (patches?: Parameters<typeof compile>[3]["patches"]) => {
      const program = await compile(engine, { outputs: { y } }, weights, {
        device: "cpu",
        int8: true,
        patches,
      })
      const out = value(await program.run({ x: feedOf(x) }), "y").data as Float32Array
      await program.release()
      return out
    }
    const want = (matrix: Arr) => {
      const made = product(steps({ shape: [rowCount, k], data: x.data }), transposed(rows(matrix), [1, 0]))
      return made.data.map((v, i) => v + bias.data[i % o]!)
    }
    expect(worst(await run(), want(w))).toBeLessThan(2e-5)
    const twice = {
      changes: new Map([["w", { key: "twice", apply: (t: Tensor) => t.mul(2) }]]),
      weights: new Map(),
    }
    expect(worst(await run(twice), want(arr(w.shape, (i) => w.data[i]! * 2)))).toBeLessThan(2e-5)
  })
})

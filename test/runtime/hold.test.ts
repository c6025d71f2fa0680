import { afterAll, beforeAll, expect, test } from "vitest"
import { type Graph, input, mulDim, parameter, type StoredTensor, symbol } from "../../src/graph/index.ts"
import { type Engine, f32, value } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { compile } from "../../src/runtime/program.ts"

let engine: Engine
beforeAll(() => {
  engine = nodeEngine()
})
afterAll(() => engine.close())

/** Small whole numbers: exact in half precision, and their convolutions exact in single precision. */
function numbers(n: number, seed: number): Float32Array {
  let x = seed
  return Float32Array.from({ length: n }, () => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    return (x >>> 24) % 9 === 0 ? ((x >>> 16) % 5) - 2 : 0
  })
}

/** A whole number from -2 to 2 as half precision. */
const half = (v: number): number =>
  v === 0 ? 0 : (v < 0 ? 0x8000 : 0) | (Math.abs(v) === 1 ? 0x3c00 : 0x4000)

function stored(data: Float32Array, shape: readonly number[], dtype: "f16" | "f32"): StoredTensor {
  const array = dtype === "f32" ? data : Uint16Array.from(data, half)
  return { dtype, shape, bytes: new Uint8Array(array.buffer) }
}

/** x conv w + bias by its definition (3x3, stride 1, a border of one place). */
function convolved(x: Float32Array, w: Float32Array, bias: Float32Array, s: Sizes): Float32Array {
  const y = new Float32Array(s.b * s.o * s.h * s.w)
  for (let n = 0; n < s.b; n++)
    for (let o = 0; o < s.o; o++)
      for (let p = 0; p < s.h * s.w; p++) y[(n * s.o + o) * s.h * s.w + p] = bias[o]! + at(x, w, s, n, o, p)
  return y
}

function at(x: Float32Array, w: Float32Array, s: Sizes, n: number, o: number, p: number): number {
  let sum = 0
  for (let tap = 0; tap < 9; tap++) {
    const row = Math.floor(p / s.w) + Math.floor(tap / 3) - 1
    const column = (p % s.w) + (tap % 3) - 1
    if (row < 0 || row >= s.h || column < 0 || column >= s.w) continue
    for (let i = 0; i < s.i; i++)
      sum += w[(o * s.i + i) * 9 + tap]! * x[((n * s.i + i) * s.h + row) * s.w + column]!
  }
  return sum
}

interface Sizes {
  b: number
  i: number
  o: number
  h: number
  w: number
}

const graph = (s: Sizes, unit: number): Graph => {
  const sides = ["h", "w"].map((name) => mulDim(unit, symbol(name)))
  const x = input("x", [symbol("b"), s.i, ...sides])
  const w = parameter("w", [s.o, s.i, 3, 3])
  return { outputs: { y: x.conv2d(w, parameter("bias", [s.o]), { pads: [1, 1, 1, 1] }) } }
}

const cases: [Sizes, number, "f16" | "f32"][] = [
  [{ b: 1, i: 128, o: 128, h: 4, w: 4 }, 4, "f16"],
  [{ b: 2, i: 160, o: 128, h: 8, w: 20 }, 4, "f16"],
  [{ b: 3, i: 128, o: 144, h: 16, w: 8 }, 8, "f32"],
  [{ b: 2, i: 320, o: 200, h: 12, w: 12 }, 1, "f16"],
  [{ b: 1, i: 128, o: 128, h: 32, w: 32 }, 32, "f16"],
  [{ b: 1, i: 128, o: 128, h: 24, w: 8 }, 8, "f32"],
  [{ b: 1, i: 8, o: 16, h: 8, w: 4 }, 4, "f16"],
]

test.each(cases)("a convolution of %o in units of %i, stored as %s", async (s, unit, dtype) => {
  const [x, w, bias] = [numbers(s.b * s.i * s.h * s.w, 1), numbers(s.o * s.i * 9, 2), numbers(s.o, 3)]
  const weights = new Map([
    ["w", stored(w, [s.o, s.i, 3, 3], dtype)],
    ["bias", stored(bias, [s.o], dtype)],
  ])
  const net = await compile(engine, graph(s, unit), weights, { device: "cpu" })
  const y = value(await net.run({ x: f32(x, [s.b, s.i, s.h, s.w]) }), "y")
  await net.release()
  expect(y.shape).toEqual([s.b, s.o, s.h, s.w])
  const want = convolved(x, w, bias, s)
  const scale = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
  const off = (y.data as Float32Array).reduce((m, v, n) => Math.max(m, Math.abs(v - want[n]!)), 0)
  expect(scale).toBeGreaterThan(3)
  expect(off / scale).toBeLessThan(1e-5)
})

test.each([
  ["f16", false],
  ["f16", true],
  ["f32", false],
] as const)(
  "a large linear layer stored as %s, and the slices of one (turned: %s)",
  async (dtype, turned) => {
    const [rows, i, o] = [3, 640, 960]
    const [x, w, bias] = [numbers(rows * i, 1), numbers(o * i, 2), numbers(o, 3)]
    const across = turned ? Float32Array.from(w, (_, n) => w[(n % o) * i + Math.floor(n / o)]!) : w
    const weights = new Map<string, StoredTensor>([
      ["w", { ...stored(across, [o, i], dtype), ...(turned ? { transposed: true } : {}) }],
      ["bias", stored(bias, [o], dtype)],
    ])
    const [fed, weight] = [input("x", [symbol("b"), i]), parameter("w", [o, i])]
    const outputs = {
      whole: fed.linear(weight, parameter("bias", [o])),
      ...(turned ? {} : { slice: fed.linear(weight.slice(0, 320, 640)) }),
    }
    const net = await compile(engine, { outputs }, weights, { device: "cpu" })
    const made = await net.run({ x: f32(x, [rows, i]) })
    await net.release()
    const dot = (row: number, out: number) => {
      let sum = 0
      for (let n = 0; n < i; n++) sum += x[row * i + n]! * w[out * i + n]!
      return sum
    }
    const whole = Array.from({ length: rows * o }, (_, n) => dot(Math.floor(n / o), n % o) + bias[n % o]!)
    expect(Array.from(value(made, "whole").data as Float32Array)).toEqual(whole)
    const part = whole.flatMap((v, n) => (n % o >= 320 && n % o < 640 ? [v - bias[n % o]!] : []))
    if (!turned) expect(Array.from(value(made, "slice").data as Float32Array)).toEqual(part)
  },
)

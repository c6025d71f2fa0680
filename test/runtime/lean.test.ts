import { afterAll, beforeAll, expect, test } from "vitest"
import { type Graph, input, mulDim, parameter, type StoredTensor, symbol } from "../../src/graph/index.ts"
import { type Engine, f32, value } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { compile } from "../../src/runtime/program.ts"
import { Random } from "../../src/train/corpus/random.ts"

let engine: Engine
beforeAll(() => {
  engine = nodeEngine()
})
afterAll(() => engine.close())

const random = new Random(5)
const normals = (n: number, mean = 0, spread = 1): Float32Array =>
  Float32Array.from(
    { length: n },
    () => mean + spread * (random.unit() + random.unit() + random.unit() - 1.5),
  )

interface Sizes {
  b: number
  i: number
  o: number
  h: number
  w: number
}

const weightsOf = ({ i, o }: Sizes) =>
  new Map<string, StoredTensor>(
    Object.entries({ w: [o, i, 3, 3], bias: [o], scale: [i], shift: [i] }).map(([name, shape]) => {
      const data = normals(
        shape.reduce((a, b) => a * b, 1),
        0,
        0.2,
      )
      return [name, { dtype: "f32", shape, bytes: new Uint8Array(data.buffer) }]
    }),
  )

const pads = [1, 1, 1, 1]
const filters = ({ i, o }: Sizes) => [parameter("w", [o, i, 3, 3]), parameter("bias", [o])] as const
const sides = (unit: number) => ["h", "w"].map((name) => mulDim(unit, symbol(name)))

/** A residual block's half and an enlargement, as in a decoder; x is read twice. */
const graphs: Record<string, (s: Sizes, unit: number) => Graph> = {
  "a norm before a convolution": (s, unit) => {
    const x = input("x", [symbol("b"), s.i, ...sides(unit)])
    const affine = [parameter("scale", [s.i]), parameter("shift", [s.i])] as const
    const h = x.groupNorm(...affine, { groups: 32, eps: 1e-6 }).silu()
    return { outputs: { y: h.conv2d(...filters(s), { pads }), mean: x.mean([2, 3]) } }
  },
  "an enlargement before a convolution": (s, unit) => {
    const x = input("x", [symbol("b"), s.i, ...sides(unit)])
    const [h, w] = x.shape.slice(2).map((side) => mulDim(2, side)) as [number, number]
    return { outputs: { y: x.resize(h, w).conv2d(...filters(s), { pads }) } }
  },
}

async function compute(
  graph: Graph,
  s: Sizes,
  x: Float32Array,
  weights: Map<string, StoredTensor>,
  lean: boolean,
) {
  const program = await compile(engine, graph, weights, { device: "cpu", fleeting: lean })
  const out = await program.run({ x: f32(x, [s.b, s.i, s.h, s.w]) })
  await program.release()
  return value(out, "y")
}

const cases: [Sizes, unit: number][] = [
  [{ b: 1, i: 128, o: 128, h: 32, w: 48 }, 16],
  [{ b: 2, i: 256, o: 160, h: 16, w: 16 }, 16],
  [{ b: 1, i: 128, o: 256, h: 64, w: 64 }, 64],
]

for (const [what, graph] of Object.entries(graphs))
  test.each(cases)(`${what}, %o in units of %i, is the same strip by strip`, async (s, unit) => {
    const x = normals(s.b * s.i * s.h * s.w, 3, 0.5)
    const weights = weightsOf(s)
    const plain = await compute(graph(s, unit), s, x, weights, false)
    const lean = await compute(graph(s, unit), s, x, weights, true)
    expect(lean.shape).toEqual(plain.shape)
    let [off, all] = [0, 0]
    for (const [n, v] of (plain.data as Float32Array).entries()) {
      off += (v - (lean.data as Float32Array)[n]!) ** 2
      all += v * v
    }
    expect(Math.sqrt(off / all)).toBeLessThan(2e-5)
    expect(all).toBeGreaterThan(1)
  })

test("a flat picture, whose spread is rounding alone, stays finite", async () => {
  const s = { b: 1, i: 128, o: 128, h: 16, w: 16 }
  const x = new Float32Array(s.i * s.h * s.w).fill(1234.5)
  const y = await compute(graphs["a norm before a convolution"]!(s, 8), s, x, weightsOf(s), true)
  expect((y.data as Float32Array).every(Number.isFinite)).toBe(true)
})

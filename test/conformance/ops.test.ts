import { afterAll, describe, expect, test } from "vitest"
import {
  apply,
  constant,
  type DType,
  gradients,
  input,
  type OpName,
  ops,
  type Tensor,
} from "../../src/graph/index.ts"
import type { Value } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { compile } from "../../src/runtime/program.ts"
import { type Case, cases } from "./cases.ts"
import { type Arr, arr, sizeOf } from "./reference.ts"

const engine = nodeEngine()
afterAll(() => engine.close())

/** Numbers in -1.5..1.5 from a hash of their place, the same in every run. */
const noise = (n: number): number => {
  const s = Math.sin(n * 12.9898 + 4.1414) * 43758.5453
  return (s - Math.floor(s)) * 3 - 1.5
}

const operands = (c: Case): Arr[] =>
  c.shapes.map((shape, k) =>
    arr(shape, (i) => {
      const u = Math.fround(noise(1000 * k + i))
      return c.draw ? c.draw(u, k, i) : u
    }),
  )

const typeOf = (c: Case, k: number): DType =>
  c.integers?.includes(k) ? "i64" : c.bools?.includes(k) ? "bool" : "f32"

const feed = (x: Arr, dtype: DType): Value => ({
  shape: x.shape,
  data:
    dtype === "i64"
      ? BigInt64Array.from(Array.from(x.data, BigInt))
      : dtype === "bool"
        ? Uint8Array.from(x.data)
        : Float32Array.from(x.data),
})

async function run(
  c: Case,
  outputs: (leaves: Tensor[]) => Record<string, Tensor>,
): Promise<Record<string, Value>> {
  const values = operands(c)
  const leaves = values.map((x, k) => input(`x${k}`, x.shape, typeOf(c, k)))
  const net = await compile(engine, { outputs: outputs(leaves) }, new Map(), { device: "cpu", threads: 1 })
  try {
    return await net.run(Object.fromEntries(values.map((x, k) => [`x${k}`, feed(x, typeOf(c, k))])))
  } finally {
    await net.release()
  }
}

/** Largest difference relative to the largest wanted value, and at least to 1. */
const worst = (got: ArrayLike<number | bigint>, want: Float64Array): number => {
  expect(got.length).toBe(want.length)
  const scale = want.reduce((m, v) => Math.max(m, Math.abs(v)), 1)
  return want.reduce((m, v, i) => Math.max(m, Math.abs(Number(got[i]) - v)), 0) / scale
}

/** Central differences of sum(weights * want(x)) in double precision. */
function slopes(c: Case, weights: Float64Array, k: number): Float64Array {
  const values = operands(c)
  const loss = () => c.want(...values).data.reduce((s, v, i) => s + v * weights[i]!, 0)
  const step = 1e-5
  return values[k]!.data.map((v, i) => {
    const data = values[k]!.data
    data[i] = v + step
    const up = loss()
    data[i] = v - step
    const down = loss()
    data[i] = v
    return (up - down) / (2 * step)
  })
}

const table = (Object.entries(cases) as [OpName, readonly Case[]][]).filter(([, list]) => list.length > 0)

describe.each(table)("%s", (op, list) => {
  test.each(list.map((c, i) => [i, c] as const))("case %i: values", async (_i, c) => {
    const out = await run(c, (leaves) => ({ y: apply(op, leaves, c.attrs) }))
    const want = c.want(...operands(c))
    expect(out.y!.shape).toEqual(want.shape)
    expect(worst(out.y!.data, want.data)).toBeLessThan(2e-6)
  })

  if (typeof ops[op].grad === "string") return
  test.each(list.map((c, i) => [i, c] as const))("case %i: gradients", async (_i, c) => {
    const want = c.want(...operands(c))
    const weights = want.data.map((_, i) => Math.fround(noise(7000 + i)))
    const smooth = c.shapes.map((_, k) => k).filter((k) => typeOf(c, k) === "f32")
    const out = await run(c, (leaves) => {
      const y = apply(op, leaves, c.attrs)
      const all = y.mul(constant(Float32Array.from(weights), want.shape, "f32"))
      const grads = gradients(
        all.sum([...want.shape.keys()]),
        smooth.map((k) => leaves[k]!),
      )
      return Object.fromEntries(smooth.map((k, n) => [`g${k}`, grads[n]!]))
    })
    for (const k of smooth) {
      expect(sizeOf(out[`g${k}`]!.shape)).toBe(sizeOf(c.shapes[k]!))
      expect(worst(out[`g${k}`]!.data, slopes(c, weights, k)), `operand ${k}`).toBeLessThan(1e-5)
    }
  })
})

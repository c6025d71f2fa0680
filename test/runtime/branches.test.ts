import { afterAll, expect, test } from "vitest"
import { type Graph, input, parameter, type StoredTensor, symbol } from "../../src/graph/index.ts"
import { f32, value } from "../../src/runtime/engine.ts"
import type { Patches } from "../../src/runtime/hold.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { compile } from "../../src/runtime/program.ts"

const engine = nodeEngine()
afterAll(() => engine.close())

/** Numbers between -1 and 1. */
function numbers(n: number, seed: number): Float32Array {
  let x = seed
  return Float32Array.from({ length: n }, () => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    return x / 2 ** 31 - 1
  })
}
const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
const stored = (shape: readonly number[], seed: number): StoredTensor => ({
  dtype: "f32",
  shape,
  bytes: new Uint8Array(numbers(size(shape), seed).buffer),
})

const shapes: Record<string, readonly number[]> = {
  wide: [96, 64],
  rows: [128, 64],
  flat: [48, 64],
  point: [32, 16, 1, 1],
  strided: [24, 32, 3, 3],
  filters: [128, 128, 3, 3],
}
const weights = new Map<string, StoredTensor>([
  ...Object.entries(shapes).map(([name, shape], i) => [name, stored(shape, i)] as const),
  ["bias", stored([96], 9)],
])
const param = (name: string) => parameter(name, shapes[name] as number[])

/** Every way in which a network reads a weight that a low-rank change can stand beside. */
function graph(): Graph {
  const x = input("x", [symbol("b"), symbol("s"), 64])
  const t = input("t", [symbol("b"), 64])
  const map = input("map", [symbol("b"), 16, symbol("h"), symbol("w")])
  const deep = input("deep", [symbol("b"), 128, 8, 8])
  return {
    outputs: {
      y0: x.linear(param("wide"), parameter("bias", [96])),
      y1: x.linear(param("rows").slice(0, 0, 48)).mul(x.linear(param("rows").slice(0, 80, 128))),
      y2: t.linear(param("flat")),
      y3: map.conv2d(param("point"), null).conv2d(param("strided"), null, { stride: 2, pads: [1, 0, 1, 1] }),
      y4: deep.conv2d(param("filters"), null, { pads: [1, 1, 1, 1] }),
    },
  }
}
const feeds = {
  x: f32(numbers(2 * 5 * 64, 11), [2, 5, 64]),
  t: f32(numbers(2 * 64, 12), [2, 64]),
  map: f32(numbers(2 * 16 * 7 * 9, 13), [2, 16, 7, 9]),
  deep: f32(numbers(2 * 128 * 64, 14), [2, 128, 8, 8]),
}

/** Changes of these weights at a rank; `thin`: told as factors too. */
function patchesOf(names: readonly string[], rank: number, thin: boolean, seed = 30): Patches {
  const parts = new Map<string, StoredTensor>()
  const changes = new Map(
    names.map((name, i) => {
      const [out, ...rest] = shapes[name] as [number, ...number[]]
      const [up, down] = [`${name} u${seed}`, `${name} d${seed}`]
      parts.set(up, stored([out, rank], seed + i))
      parts.set(down, stored([rank, size(rest)], seed + 50 + i))
      const [u, d] = [parameter(up, [out, rank]), parameter(down, [rank, size(rest)])]
      const branch = {
        rank,
        down: { key: down, make: () => d.transpose([1, 0]) },
        up: { key: up, make: () => u.transpose([1, 0]) },
      }
      const key = `${up} ${rank}`
      const apply = (w: typeof u) => w.add(u.matmul(d).reshape(w.shape))
      return [name, { key, apply, ...(thin ? { branch } : {}) }] as const
    }),
  )
  return { changes, weights: parts }
}

const all = Object.keys(shapes)
const none: Patches = { changes: new Map(), weights: new Map() }
type Net = Awaited<ReturnType<typeof compile>>
const build = (patches?: Patches, more = {}) =>
  compile(engine, graph(), weights, { device: "cpu", ...(patches ? { patches } : {}), ...more })
async function results(net: Net): Promise<Float32Array[]> {
  const out = await net.run(feeds)
  return Object.keys(graph().outputs).map((name) => (value(out, name).data as Float32Array).slice())
}
async function once(patches?: Patches): Promise<Float32Array[]> {
  const net = await build(patches)
  const out = await results(net)
  await net.release()
  return out
}
/** The largest difference of any output, by the largest number of that output. */
const apart = (got: Float32Array[], want: Float32Array[]) =>
  Math.max(
    ...got.map((g, i) => {
      const scale = want[i]!.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      return g.reduce((m, v, j) => Math.max(m, Math.abs(v - want[i]![j]!)), 0) / scale
    }),
  )

test("factors beside weights give what the sum of weights gives, at every rank", async () => {
  for (const rank of [1, 2, 3]) {
    const [beside, into] = [await once(patchesOf(all, rank, true)), await once(patchesOf(all, rank, false))]
    expect(apart(beside, into)).toBeLessThan(1e-5)
    expect(apart(beside, await once())).toBeGreaterThan(0.01)
  }
})

test("other factors, fewer and none at all need no other session, and leave nothing behind", async () => {
  const [plain, two] = [await once(), await once(patchesOf(all, 2, true, 300))]
  const one = await once(patchesOf(["wide", "strided"], 3, true, 700))
  const net = await build(patchesOf(all, 1, true))
  for (const [patches, want] of [
    [patchesOf(all, 2, true, 300), two],
    [patchesOf(["wide", "strided"], 3, true, 700), one],
    [none, plain],
    [patchesOf(all, 2, true, 300), two],
  ] as const) {
    expect(await net.patch(patches)).toBe(true)
    expect(
      (await results(net)).map((r, i) => Buffer.compare(Buffer.from(r.buffer), Buffer.from(want[i]!.buffer))),
    ).toEqual([0, 0, 0, 0, 0])
  }
  await net.release()
})

test("more places, or changes of another kind, need another session, which inherits what was held", async () => {
  const first = await build(patchesOf(["wide"], 2, true))
  const more = patchesOf(["rows", "point"], 2, true, 90)
  expect(await first.patch(more)).toBe(false)
  expect(await first.patch(patchesOf(["wide"], 2, false))).toBe(false)
  const legacy = await first.handOver()
  expect(Object.keys(legacy.held)).toEqual(["filters at points"])
  const second = await build(more, { legacy })
  expect(apart(await results(second), await once(more))).toBe(0)
  // the places of the first are kept open
  expect(await second.patch(patchesOf(["wide"], 2, true))).toBe(true)
  expect(apart(await results(second), await once(patchesOf(["wide"], 2, true)))).toBe(0)
  await second.release()
})

test("what is too thick to pay goes into the weights", async () => {
  const net = await build(patchesOf(["wide"], 30, true))
  expect(apart(await results(net), await once(patchesOf(["wide"], 30, false)))).toBe(0)
  expect(await net.patch(patchesOf(["wide"], 2, true))).toBe(false)
  await net.release()
})

test("room from the start: the same bits while it is empty, and the first factors need no other session", async () => {
  const room = (name: string) => name !== "flat"
  const net = await build(undefined, { room })
  const bits = async () => (await results(net)).map((r) => Buffer.from(r.buffer).toString("hex"))
  const plain = (await once()).map((r) => Buffer.from(r.buffer).toString("hex"))
  expect(await bits()).toEqual(plain)
  const some = patchesOf(["wide", "rows", "point"], 2, true, 40)
  expect(await net.patch(some)).toBe(true)
  expect(apart(await results(net), await once(some))).toBe(0)
  expect(await net.patch(none)).toBe(true)
  expect(await bits()).toEqual(plain)
  // filters of three by three had none
  expect(await net.patch(patchesOf(["strided"], 2, true))).toBe(false)
  const legacy = net.handOver()
  const next = await build(patchesOf(["strided"], 2, true), { legacy, room })
  expect(await next.patch(some)).toBe(true)
  await next.release()
})

import type { OpName } from "../../src/graph/index.ts"
import * as ref from "./reference.ts"

/** One way to call an op: operand shapes, attributes, and what the result should be. */
export interface Case {
  readonly shapes: readonly (readonly number[])[]
  readonly attrs?: Readonly<Record<string, unknown>>
  /** Values of the operands, where uniform numbers in -1.5..1.5 would meet a jump or a pole. */
  readonly draw?: (u: number, operand: number, i: number) => number
  readonly integers?: readonly number[]
  readonly bools?: readonly number[]
  readonly want: (...inputs: ref.Arr[]) => ref.Arr
}

type Leaf = "input" | "param" | "constant"

const positive = (u: number) => 0.3 + Math.abs(u)
const away = (u: number) => u + Math.sign(u) * 0.1
const unary = (f: (x: number) => number, draw?: Case["draw"]): Case[] => [
  { shapes: [[2, 3, 4]], draw, want: (x) => ref.elementwise(f, x) },
]
const binary = (f: (a: number, b: number) => number, draw?: Case["draw"]): Case[] =>
  [
    [
      [3, 4],
      [3, 4],
    ],
    [[2, 3, 4], [4]],
    [
      [3, 1],
      [2, 1, 4],
    ],
    [[2, 3], []],
    [[1], [2, 3, 1]],
  ].map((shapes) => ({ shapes, draw, want: (a, b) => ref.elementwise(f, a, b) }))

const swish = (alpha: number) => (x: number) => x / (1 + Math.exp(-alpha * x))
const conv = (
  x: number[],
  w: number[],
  attrs: { stride?: number; pads?: number[]; groups?: number } = {},
  bias = true,
): Case => {
  const full = { stride: 1, pads: [0, 0, 0, 0], groups: 1, ...attrs }
  return {
    shapes: bias ? [x, w, [w[0]!]] : [x, w],
    attrs: full,
    want: (a, b, c) => ref.convolved(a, b, c, full),
  }
}
const reduce = (fold: (v: number[]) => number): Case[] =>
  [
    { axes: [1], keep: false },
    { axes: [0, 2], keep: true },
    { axes: [0, 1, 2], keep: false },
  ].map((attrs) => ({
    shapes: [[2, 3, 4]],
    attrs,
    want: (x) => ref.reduced(x, attrs.axes, attrs.keep, fold),
  }))

/** Input gradient of a convolution, as the adjoint of the forward reference: <g, conv(e)> for every unit input e. */
const adjoint =
  (height: number, width: number, full: ref.Conv) =>
  (g: ref.Arr, w: ref.Arr): ref.Arr => {
    const shape = [g.shape[0]!, w.shape[1]! * full.groups, height, width]
    return ref.arr(shape, (i) => {
      const y = ref.convolved(
        ref.arr(shape, (j) => Number(i === j)),
        w,
        undefined,
        full,
      )
      return y.data.reduce((sum, v, j) => sum + v * g.data[j]!, 0)
    })
  }

const convInput = (
  g: number[],
  w: number[],
  height: number,
  width: number,
  attrs: Partial<ref.Conv>,
): Case => {
  const full = { stride: 1, pads: [0, 0, 0, 0], groups: 1, ...attrs }
  return { shapes: [g, w], attrs: { ...full, height, width }, want: adjoint(height, width, full) }
}

const attention = (b: number, s: number, t: number, d: number, heads: number, extra: object = {}): Case[] =>
  [undefined, [1, 1, s, t], [b, heads, s, t]].map((mask) => ({
    shapes: [[b, s, d], [b, t, d], [b, t, d], ...(mask ? [mask] : [])],
    attrs: { heads, ...extra },
    want: (q, k, v, m) => ref.attended(q, k, v, m, { heads, ...extra }),
  }))

const groupNorm = (x: number[], groups: number): Case => ({
  shapes: [x, [x[1]!], [x[1]!]],
  attrs: { groups, eps: 1e-3 },
  want: (a, scale, bias) => {
    const [b, c, ...rest] = a.shape as [number, number]
    const unit = ref.standardised(
      ref.reshaped(a, [b, groups, c / groups, ...rest]),
      [2, 3, 4].slice(0, 1 + rest.length),
      1e-3,
    )
    const per = [c, ...rest.map(() => 1)]
    return ref.elementwise(
      (u, s, t) => u * s + t,
      ref.reshaped(unit, a.shape),
      ref.reshaped(scale, per),
      ref.reshaped(bias, per),
    )
  },
})

/** Factors, then summands, of the channels: found from two points of the line that groupNorm is on each channel. */
const groupAffine = (x: [number, number, number, number], groups: number): Case => ({
  shapes: [x, [x[1]], [x[1]]],
  attrs: { groups, eps: 1e-3 },
  want: (a, scale, bias) => {
    const [b, c, h, w] = x
    const y = groupNorm(x, groups).want(a, scale, bias).data
    const pairs = Array.from({ length: b * c }, (_, n) => {
      const [first, last] = [n * h * w, (n + 1) * h * w - 1]
      const factor = (y[last]! - y[first]!) / (a.data[last]! - a.data[first]!)
      return [factor, y[first]! - factor * a.data[first]!] as const
    })
    const data = Array.from({ length: b }, (_, row) =>
      [0, 1].flatMap((which) => pairs.slice(row * c, (row + 1) * c).map((pair) => pair[which]!)),
    )
    return { shape: [b, 2 * c, 1, 1], data: Float64Array.from(data.flat()) }
  },
})

const slice = (x: number[], axis: number, start: number, end: number, step?: number): Case => ({
  shapes: [x],
  attrs: { axis, start, end, ...(step ? { step } : {}) },
  want: (a) =>
    ref.picked(
      a,
      x.map((d, k) => (k === axis ? Math.ceil((end - start) / (step ?? 1)) : d)),
      (coord) => coord.map((c, k) => (k === axis ? start + c * (step ?? 1) : c)),
    ),
})

const resize = (x: number[], height: number, width: number): Case => ({
  shapes: [x],
  attrs: { height, width },
  want: (a) =>
    ref.picked(a, [x[0]!, x[1]!, height, width], ([b, c, h, w]) => [
      b!,
      c!,
      Math.floor((h! * x[2]!) / height),
      Math.floor((w! * x[3]!) / width),
    ]),
})

const rows = (table: number[], ids: readonly number[], shape: readonly number[]): Case => ({
  shapes: [table, shape],
  integers: [1],
  draw: (u, operand, i) => (operand === 1 ? ids[i]! : u),
  want: (t, n) =>
    ref.picked(t, [...shape, ...table.slice(1)], (coord) => [
      n.data[ref.flat(coord.slice(0, shape.length), shape)]!,
      ...coord.slice(shape.length),
    ]),
})

/** Every op but the leaves: forward values and, where the row has a gradient, that of a random weighted sum. */
export const cases: Record<Exclude<OpName, Leaf>, readonly Case[]> = {
  add: binary((a, b) => a + b),
  sub: binary((a, b) => a - b),
  mul: binary((a, b) => a * b),
  div: binary((a, b) => a / b, away),
  max: binary(Math.max),
  min: binary(Math.min),
  pow: binary((a, b) => a ** b, positive),
  greater: binary((a, b) => Number(a > b)),
  equal: binary(
    (a, b) => Number(a === b),
    (u) => Math.sign(u),
  ),
  where: [
    [
      [2, 3],
      [2, 3],
      [2, 3],
    ],
    [[2, 1], [3], [2, 3]],
    [[2, 3], [], [2, 3]],
  ].map((shapes) => ({
    shapes,
    bools: [0],
    draw: (u, operand) => (operand === 0 ? Number(u > 0) : u),
    want: (c, a, b) => ref.elementwise((p, x, y) => (p ? x : y), c, a, b),
  })),
  neg: unary((x) => -x),
  exp: unary(Math.exp),
  log: unary(Math.log, positive),
  sqrt: unary(Math.sqrt, positive),
  reciprocal: unary((x) => 1 / x, away),
  abs: unary(Math.abs, away),
  sign: unary(Math.sign),
  sin: unary(Math.sin),
  cos: unary(Math.cos),
  tanh: unary(Math.tanh),
  erf: unary(ref.erf),
  relu: unary((x) => Math.max(0, x), away),
  sigmoid: unary((x) => 1 / (1 + Math.exp(-x))),
  silu: unary(swish(1)),
  quickGelu: unary(swish(1.702)),
  gelu: unary((x) => (x * (1 + ref.erf(x * Math.SQRT1_2))) / 2),
  cast: [{ shapes: [[2, 3]], attrs: { dtype: "f32" }, want: (x) => x }],
  reshape: [{ shapes: [[2, 6]], attrs: { shape: [3, 2, 2] }, want: (x) => ref.reshaped(x, [3, 2, 2]) }],
  transpose: [
    [2, 0, 1],
    [1, 0, 2],
  ].map((perm) => ({ shapes: [[2, 3, 4]], attrs: { perm }, want: (x) => ref.transposed(x, perm) })),
  broadcast: [
    {
      shapes: [[3, 1]],
      attrs: { shape: [2, 3, 4] },
      want: (x) =>
        ref.elementwise(
          (a) => a,
          x,
          ref.arr([2, 3, 4], () => 0),
        ),
    },
  ],
  concat: [
    {
      shapes: [
        [2, 1, 3],
        [2, 2, 3],
        [2, 1, 3],
      ],
      attrs: { axis: 1 },
      want: (...x) => ref.joined(x, 1),
    },
    {
      shapes: [
        [2, 3],
        [1, 3],
      ],
      attrs: { axis: 0 },
      want: (...x) => ref.joined(x, 0),
    },
  ],
  slice: [
    slice([4, 5], 1, 1, 3),
    slice([4, 5], 0, 0, 2),
    slice([4, 5], 0, 2, 4),
    slice([4, 7], 1, 1, 6, 2),
    slice([6, 3], 0, 0, 6, 3),
  ],
  unslice: [0, 1].map((start) => ({
    shapes: [[2, 3]],
    attrs: { axis: 1, start, step: 2, size: 7 },
    want: (x) =>
      ref.picked(x, [2, 7], ([r, c]) =>
        (c! - start) % 2 === 0 && c! >= start && (c! - start) / 2 < 3 ? [r!, (c! - start) / 2] : null,
      ),
  })),
  pad: [
    {
      shapes: [[2, 3]],
      attrs: { before: [1, 0], after: [0, 2] },
      want: (x) => ref.picked(x, [3, 5], ([r, c]) => (r! < 1 || c! > 2 ? null : [r! - 1, c!])),
    },
  ],
  resize: [resize([2, 2, 3, 2], 6, 4), resize([1, 2, 2, 3], 6, 3), resize([1, 1, 3, 3], 3, 3)],
  blockSum: [2, 3].map((factor) => ({
    shapes: [[2, 2, 6, 12]],
    attrs: { factor },
    want: (x) =>
      ref.reshaped(
        ref.reduced(
          ref.reshaped(x, [2, 2, 6 / factor, factor, 12 / factor, factor]),
          [3, 5],
          false,
          ref.total,
        ),
        [2, 2, 6 / factor, 12 / factor],
      ),
  })),
  depthToSpace: [2, 3].map((factor) => ({
    shapes: [[2, 2 * factor ** 2, 2, 3]],
    attrs: { factor },
    want: (x) =>
      ref.picked(x, [2, 2, 2 * factor, 3 * factor], ([b, c, h, w]) => [
        b!,
        ((h! % factor) * factor + (w! % factor)) * 2 + c!,
        Math.floor(h! / factor),
        Math.floor(w! / factor),
      ]),
  })),
  gather: [rows([5, 3], [0, 4, 4, 2], [4]), rows([4, 2], [1, 1, 0, 3, 3, 3], [2, 3])],
  scatterRows: [
    {
      shapes: [[4, 3], [4]],
      attrs: { rows: 5 },
      integers: [1],
      draw: (u, operand, i) => (operand === 1 ? [0, 4, 4, 2][i]! : u),
      want: (g, ids) =>
        ref.arr([5, 3], (i) =>
          ref.total(Array.from(ids.data, (r, n) => (r === Math.floor(i / 3) ? g.data[n * 3 + (i % 3)]! : 0))),
        ),
    },
  ],
  largest: [1, 3, 5].map((count) => ({
    shapes: [[2, 5]],
    attrs: { count },
    want: (x) =>
      ref.arr([2, count], (i) => {
        const line = Array.from(x.data.subarray(Math.floor(i / count) * 5).subarray(0, 5))
        return line.map((v, at) => ({ v, at })).sort((a, b) => b.v - a.v)[i % count]!.at
      }),
  })),
  pick: [
    {
      shapes: [
        [2, 3, 4],
        [2, 5],
      ],
      integers: [1],
      draw: (u, operand, i) => (operand === 1 ? [0, 2, 2, 1, 0, 1, 1, 0, 2, 0][i]! : u),
      want: (x, ids) => ref.picked(x, [2, 5, 4], ([b, m, c]) => [b!, ids.data[b! * 5 + m!]!, c!]),
    },
  ],
  addAt: [
    {
      shapes: [
        [2, 3, 2],
        [2, 4],
        [2, 4, 2],
      ],
      integers: [1],
      draw: (u, operand, i) => (operand === 1 ? [0, 2, 2, 2, 1, 1, 0, 2][i]! : u),
      want: (x, ids, rows) =>
        ref.arr([2, 3, 2], (i) => {
          const [b, n, c] = ref.at(i, [2, 3, 2]) as [number, number, number]
          const added = [0, 1, 2, 3].map((m) =>
            ids.data[b * 4 + m] === n ? rows.data[(b * 4 + m) * 2 + c]! : 0,
          )
          return x.data[i]! + ref.total(added)
        }),
    },
  ],
  put: [
    {
      shapes: [
        [2, 4, 2],
        [2, 3],
        [2, 3, 2],
      ],
      integers: [1],
      draw: (u, operand, i) => (operand === 1 ? [3, 0, 2, 1, 3, 0][i]! : u),
      want: (x, ids, rows) =>
        ref.arr([2, 4, 2], (i) => {
          const [b, n, c] = ref.at(i, [2, 4, 2]) as [number, number, number]
          const m = [0, 1, 2].find((m) => ids.data[b * 3 + m] === n)
          return m === undefined ? x.data[i]! : rows.data[(b * 3 + m) * 2 + c]!
        }),
    },
  ],
  matmul: [
    [
      [3, 4],
      [4, 2],
    ],
    [
      [2, 3, 4],
      [4, 2],
    ],
    [
      [2, 1, 3, 4],
      [5, 4, 2],
    ],
    [
      [3, 4],
      [2, 4, 2],
    ],
  ].map((shapes) => ({ shapes, want: ref.product })),
  addmm: [
    {
      shapes: [
        [3, 2],
        [3, 4],
        [4, 2],
      ],
      want: (c, a, b) => ref.elementwise((x, y) => x + y, c!, ref.product(a!, b!)),
    },
  ],
  linear: [
    [[3, 4], [2, 4], [2]],
    [[2, 3, 4], [5, 4], [5]],
    [
      [2, 3, 4],
      [5, 4],
    ],
  ].map((shapes) => ({
    shapes,
    want: (x, w, bias) => {
      const y = ref.product(x, ref.transposed(w, [1, 0]))
      return bias ? ref.elementwise((a, b) => a + b, y, bias) : y
    },
  })),
  conv2d: [
    conv([2, 3, 5, 4], [4, 3, 3, 3], { pads: [1, 1, 1, 1] }),
    conv([1, 2, 5, 5], [3, 2, 1, 1], {}, false),
    conv([2, 2, 6, 6], [3, 2, 3, 3], { stride: 2, pads: [1, 1, 1, 1] }),
    conv([1, 2, 6, 4], [2, 2, 3, 3], { stride: 2, pads: [0, 0, 1, 1] }),
    conv([1, 2, 7, 5], [2, 2, 3, 3], { stride: 2, pads: [0, 0, 1, 1] }),
    conv([1, 2, 6, 6], [2, 2, 2, 2], { stride: 2 }),
    conv([2, 4, 4, 4], [6, 2, 3, 3], { pads: [1, 1, 1, 1], groups: 2 }),
    conv([1, 3, 5, 5], [3, 1, 3, 3], { stride: 2, pads: [1, 1, 1, 1], groups: 3 }),
    conv([1, 2, 6, 5], [2, 2, 4, 3], { stride: 3, pads: [1, 0, 2, 1] }),
    conv([2, 2, 9, 8], [3, 2, 3, 3], { pads: [1, 1, 1, 1] }),
    conv([1, 1, 10, 9], [2, 1, 3, 2], { pads: [0, 1, 1, 0] }),
    conv([2, 2, 9, 8], [2, 2, 1, 1]),
    conv([1, 2, 18, 16], [2, 2, 3, 3], { stride: 2, pads: [1, 1, 1, 1] }),
  ],
  // checked by test/train/step.test.ts, with the block of the machine
  blockedConv: [],
  // checked by test/runtime/int8.test.ts, against the rounded numbers they compute with
  int8Codes: [],
  int8Linear: [],
  int8Conv: [],
  convInput: [
    convInput([1, 3, 4, 4], [3, 2, 3, 3], 4, 4, { pads: [1, 1, 1, 1] }),
    convInput([1, 2, 2, 3], [2, 2, 3, 3], 4, 6, { stride: 2, pads: [1, 1, 1, 1] }),
    convInput([1, 2, 2, 2], [2, 2, 3, 3], 5, 4, { stride: 2, pads: [0, 0, 1, 1] }),
    convInput([1, 4, 3, 3], [4, 1, 3, 3], 3, 3, { pads: [1, 1, 1, 1], groups: 2 }),
  ],
  attention: [...attention(2, 3, 4, 6, 2), ...attention(1, 4, 4, 4, 1, { scale: 0.7 })],
  layerNorm: [
    [[2, 3, 5], [5], [5]],
    [[3, 4], [4], [4]],
  ].map((shapes) => ({
    shapes,
    attrs: { eps: 1e-3 },
    want: (x, scale, bias) =>
      ref.elementwise((u, s, t) => u * s + t, ref.standardised(x, [x.shape.length - 1], 1e-3), scale, bias),
  })),
  groupNorm: [groupNorm([2, 4, 3, 2], 2), groupNorm([2, 6, 2, 2], 1), groupNorm([3, 4, 5], 4)],
  groupAffine: [groupAffine([2, 4, 3, 2], 2), groupAffine([1, 6, 4, 5], 3)],
  softmax: [0, 1, 2].map((axis) => ({
    shapes: [[2, 3, 4]],
    attrs: { axis },
    want: (x) => ref.softmaxed(x, axis),
  })),
  sum: reduce(ref.total),
  mean: reduce(ref.average),
  amax: reduce((v) => Math.max(...v)),
  argmax: [1, 2].map((axis) => ({
    shapes: [[2, 3, 4]],
    attrs: { axis },
    want: (x) => ref.reduced(x, [axis], false, (v) => v.indexOf(Math.max(...v))),
  })),
}

import { addDim, type Dim, exactDiv, mulDim, sameDim } from "../dim.ts"
import { apply, concat, type Tensor } from "../tensor.ts"
import { misfit, row } from "./row.ts"

export const layout = {
  reshape: row<{ shape: readonly Dim[] }>({
    shape: ([x], { shape }) =>
      sameDim(mulDim(...x!.shape), mulDim(...shape))
        ? { shape, dtype: x!.dtype }
        : misfit("reshape", [x!], `does not hold [${shape.join(", ")}]`),
    grad: (g, _y, [x]) => [g.reshape(x!.shape)],
    onnx: (e, [x], { shape }, node) => e.node("Reshape", [x!, reshapeTo(e, shape, node.inputs[0]!.shape)]),
  }),
  transpose: row<{ perm: readonly number[] }>({
    shape: ([x], { perm }) =>
      perm.length === x!.rank
        ? { shape: perm.map((p) => x!.shape[p]!), dtype: x!.dtype }
        : misfit("transpose", [x!], `permutation ${perm}`),
    grad: (g, _y, _in, { perm }) => [g.transpose(perm.map((_, i) => perm.indexOf(i)))],
    onnx: (e, [x], { perm }) => e.node("Transpose", [x!], { perm }),
  }),
  broadcast: row<{ shape: readonly Dim[] }>({
    shape: ([x], { shape }) => {
      const tail = shape.slice(shape.length - x!.rank)
      if (tail.length !== x!.rank || x!.shape.some((d, i) => d !== 1 && !sameDim(d, tail[i]!)))
        misfit("broadcast", [x!], `to [${shape.join(", ")}]`)
      return { shape, dtype: x!.dtype }
    },
    grad: (g) => [g],
    onnx: (e, [x], { shape }) => e.node("Expand", [x!, e.shape(shape)]),
  }),
  concat: row<{ axis: number }>({
    shape: (parts, { axis }) => {
      const first = parts[0]!
      for (const part of parts) {
        if (part.rank !== first.rank || part.shape.some((d, i) => i !== axis && !sameDim(d, first.shape[i]!)))
          misfit("concat", parts, `along axis ${axis}`)
      }
      const size = addDim(...parts.map((p) => p.shape[axis]!))
      return { shape: first.shape.map((d, i) => (i === axis ? size : d)), dtype: first.dtype }
    },
    grad: (g, _y, parts, { axis }) => {
      let at: Dim = 0
      return parts.map((part) => g.slice(axis, at, (at = addDim(at, part.shape[axis]!))))
    },
    onnx: (e, parts, { axis }) => e.node("Concat", parts, { axis }),
  }),
  slice: row<{ axis: number; start: Dim; end: Dim; step?: number }>({
    shape: ([x], { axis, start, end, step = 1 }) => {
      const size = addDim(end, mulDim(-1, start))
      if (step !== 1 && typeof size !== "number") misfit("slice", [x!], "a step needs known sizes")
      return {
        shape: x!.shape.map((d, i) =>
          i !== axis ? d : step === 1 ? size : Math.ceil((size as number) / step),
        ),
        dtype: x!.dtype,
      }
    },
    grad: (g, y, [x], { axis, start, step = 1 }) => {
      if (step !== 1) return [apply("unslice", [g], { axis, start, step, size: x!.shape[axis]! })]
      const before = zeros(g, axis, start)
      const after = zeros(g, axis, addDim(x!.shape[axis]!, mulDim(-1, start), mulDim(-1, y.shape[axis]!)))
      return [
        concat(
          [before, g, after].filter((t) => t !== null),
          axis,
        ),
      ]
    },
    onnx: (e, [x], { axis, start, end, step = 1 }) =>
      e.node("Slice", [x!, e.shape([start]), e.shape([end]), e.ints([axis]), e.ints([step])]),
  }),
  /** Puts rows `start, start + step, ...` of an axis back among zeros: the gradient of a strided slice. */
  unslice: row<{ axis: number; start: number; step: number; size: number }>({
    shape: ([x], { axis, size }) => ({
      shape: x!.shape.map((d, i) => (i === axis ? size : d)),
      dtype: x!.dtype,
    }),
    grad: (g, _y, [x], { axis, start, step }) => [
      apply("slice", [g], { axis, start, end: start + ((x!.shape[axis] as number) - 1) * step + 1, step }),
    ],
    onnx: (e, [x], { axis, start, step, size }, node) => {
      // dilate: [.., n, ..] -> [.., n, step, ..] zero-padded -> [.., n step, ..], then pad or cut to size
      const shape = node.inputs[0]!.shape
      const n = shape[axis] as number
      if (shape.length - axis <= 2 && shape.length > 1) {
        // a product with zeros and ones is faster than padding number by number
        const last = axis === shape.length - 1
        const ones = Float32Array.from({ length: n * size }, (_, k) => {
          const [from, to] = last ? [Math.floor(k / size), k % size] : [k % n, Math.floor(k / n)]
          return Number(to === start + from * step)
        })
        const map = e.floats(Array.from(ones), last ? [n, size] : [size, n])
        return e.node("MatMul", last ? [x!, map] : [map, x!])
      }
      const split = e.node("Unsqueeze", [x!, e.ints([axis + 1])])
      const none = shape.map(() => 0)
      const padded = e.node("Pad", [
        split,
        e.ints([
          ...none,
          0,
          ...shape.slice(0, axis + 1).map(() => 0),
          step - 1,
          ...shape.slice(axis + 1).map(() => 0),
        ]),
      ])
      const flat = e.node("Reshape", [padded, e.shape(shape.map((d, i) => (i === axis ? n * step : d)))])
      const tail = size - start - n * step
      const pads = (at: number) => shape.map((_, i) => (i === axis ? at : 0))
      return e.node("Pad", [flat, e.ints([...pads(start), ...pads(tail)])])
    },
  }),
  pad: row<{ before: readonly number[]; after: readonly number[] }>({
    shape: ([x], { before, after }) => ({
      shape: x!.shape.map((d, i) => addDim(d, before[i]! + after[i]!)),
      dtype: x!.dtype,
    }),
    grad: (g, _y, [x], { before }) => [
      x!.shape.reduce<Tensor>((t, d, i) => t.slice(i, before[i]!, addDim(before[i]!, d)), g),
    ],
    onnx: (e, [x], { before, after }) => e.node("Pad", [x!, e.ints([...before, ...after])]),
  }),
  resize: row<{ height: Dim; width: Dim }>({
    shape: ([x], { height, width }) => ({
      shape: [x!.shape[0]!, x!.shape[1]!, height, width],
      dtype: x!.dtype,
    }),
    grad: (g, y, [x]) => [unresize(g, y, x!)],
    onnx: (e, [x], { height, width }, node) => {
      const source = node.inputs[0]!.shape
      const mode = { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" }
      if (sameDim(height, mulDim(2, source[2]!)) && sameDim(width, mulDim(2, source[3]!)))
        return e.node("Resize", [x!, "", e.floats([1, 1, 2, 2], [4])], mode)
      return e.node("Resize", [x!, "", "", e.shape([source[0]!, source[1]!, height, width])], mode)
    },
  }),
  /** Sums blocks of factor x factor places: the gradient of `resize` by a whole factor. */
  blockSum: row<{ factor: number }>({
    shape: ([x], { factor }) => {
      const [b, c, h, w] = x!.dims("b c h w")
      const part = (d: Dim) => exactDiv(d, factor) ?? misfit("blockSum", [x!], `by ${factor}`)
      return { shape: [b, c, part(h), part(w)], dtype: x!.dtype }
    },
    grad: (g, _y, [x]) => [g.resize(x!.shape[2]!, x!.shape[3]!)],
    onnx: (e, [x], { factor }) => {
      const sides = [factor, factor]
      const mean = e.node("AveragePool", [x!], { kernel_shape: sides, strides: sides })
      return e.node("Mul", [mean, e.float(factor * factor)])
    },
  }),
  /** Channels (r s c) of a place become c channels of factor x factor places. */
  depthToSpace: row<{ factor: number }>({
    shape: ([x], { factor }) => {
      const [b, c, h, w] = x!.dims("b c h w")
      const left = exactDiv(c, factor ** 2) ?? misfit("depthToSpace", [x!], `by ${factor}`)
      return { shape: [b, left, mulDim(factor, h), mulDim(factor, w)], dtype: x!.dtype }
    },
    grad: (g, y, [x], { factor }) => {
      const [b, , h, w] = x!.dims("b c h w")
      const places = g.reshape([b, y.shape[1]!, h, factor, w, factor])
      return [places.transpose([0, 3, 5, 1, 2, 4]).reshape(x!.shape)]
    },
    onnx: (e, [x], { factor }) => e.node("DepthToSpace", [x!], { blocksize: factor, mode: "DCR" }),
  }),
  gather: row({
    shape: ([table, ids]) => ({ shape: [...ids!.shape, ...table!.shape.slice(1)], dtype: table!.dtype }),
    grad: (g, _y, [table, ids]) => [apply("scatterRows", [g, ids!], { rows: table!.shape[0]! }), null],
    onnx: (e, [table, ids]) => e.node("Gather", [table!, ids!], { axis: 0 }),
  }),
  /** Sums rows of the first operand into a table of zeros at the places named by ids: the gradient of gather. */
  scatterRows: row<{ rows: number }>({
    shape: ([g, ids], { rows }) => ({ shape: [rows, ...g!.shape.slice(ids!.rank)], dtype: g!.dtype }),
    grad: (g, _y, [, ids]) => [g.gather(ids!), null],
    onnx: (e, [g, ids], _a, node) => {
      // ScatterND adds from several threads at once and loses sums of equal rows; this one works in order
      const [values, places] = node.inputs
      const zero = e.node("Expand", [e.float(0), e.shape(node.shape)])
      const rest = values!.shape.slice(places!.rank)
      const count = mulDim(...places!.shape)
      const column = e.node("Reshape", [ids!, e.shape([count, ...rest.map(() => 1)])])
      const at = e.node("Expand", [column, e.shape([count, ...rest])])
      const rows = e.node("Reshape", [g!, e.shape([count, ...rest])])
      return e.node("ScatterElements", [zero, at, rows], { axis: 0, reduction: "add" })
    },
  }),
} as const

function zeros(like: Tensor, axis: number, size: Dim): Tensor | null {
  if (size === 0) return null
  const one = like.slice(axis, 0, 1).mul(0)
  return one.broadcastTo(like.shape.map((d, i) => (i === axis ? size : d)))
}

/** Sums each block of copies; only whole factors have a gradient here. */
function unresize(g: Tensor, y: Tensor, x: Tensor): Tensor {
  const [b, c, h, w] = x.dims("b c h w")
  const [fh, fw] = [y.shape[2]!, y.shape[3]!].map(
    (d, i) => exactDiv(d, [h, w][i]!) ?? misfit("resize gradient", [y, x], "not a whole factor"),
  ) as [Dim, Dim]
  if (typeof fh === "number" && fh === fw) return fh === 1 ? g : apply("blockSum", [g], { factor: fh })
  return g.reshape([b, c, h, fh, w, fw]).sum([3, 5])
}

/** A reshape's target: 0 keeps the axis at that place, -1 is found; so most need no arithmetic at run time. */
function reshapeTo(
  e: { ints(v: readonly number[]): string; shape(d: readonly Dim[]): string },
  to: readonly Dim[],
  from: readonly Dim[],
): string {
  const short = to.map((d, i) =>
    typeof d === "number" ? d : i < from.length && sameDim(d, from[i]!) ? 0 : -1,
  )
  return short.filter((d) => d === -1).length <= 1 && !to.includes(0) ? e.ints(short) : e.shape(to)
}

import type { ConvAttrs } from "./attrs.ts"
import { addDim, type Dim, exactDiv, mulDim, sameDim } from "./dim.ts"
import { apply, concat, constant, type Tensor } from "./tensor.ts"

/** Outputs of one tile per axis, and the inputs it is made from. */
const outputs = 4
const inputs = outputs + 2
const points = inputs * inputs

/** Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(4x4, 3x3): B^T, G and A^T. */
const fromInput = [
  [4, 0, -5, 0, 1, 0],
  [0, -4, -4, 1, 1, 0],
  [0, 4, -4, -1, 1, 0],
  [0, -2, -1, 2, 1, 0],
  [0, 2, -1, -2, 1, 0],
  [0, 4, 0, -5, 0, 1],
]
const fromFilter = [
  [1 / 4, 0, 0],
  [-1 / 6, -1 / 6, -1 / 6],
  [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6],
  [1 / 24, -1 / 12, 1 / 6],
  [0, 0, 1],
]
const toOutput = [
  [1, 1, 1, 1, 1, 0],
  [0, 1, -1, 2, -2, 0],
  [0, 1, 1, 4, 4, 0],
  [0, 1, -1, 8, -8, 1],
]

/**
 * Over a picture enlarged twofold by repetition, the taps that meet each place of the small one, for the even and for the
 * odd places of the result: of the three taps two meet the same place.
 */
const phases = [
  [
    [1, 0, 0],
    [0, 1, 1],
    [0, 0, 0],
  ],
  [
    [0, 0, 0],
    [1, 1, 0],
    [0, 0, 1],
  ],
]

type Matrix = readonly (readonly number[])[]

const times = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((sum, x, k) => sum + x * b[k]![j]!, 0)))

/** A transform of both axes at once: the Kronecker product. */
const kronecker = (a: Matrix, b: Matrix): Matrix =>
  a.flatMap((p) => b.map((q) => p.flatMap((x) => q.map((y) => x * y))))

const constantOf = (rows: Matrix, shape: readonly number[]): Tensor =>
  constant(Float32Array.from(rows.flat()), shape, "f32")

const constants = new Map<string, Tensor>()

/** A constant that is made once: a U-Net asks for each hundreds of times. */
function known(name: string, make: () => Tensor): Tensor {
  const found = constants.get(name) ?? make()
  constants.set(name, found)
  return found
}

const inputPoints = () =>
  known("input", () => constantOf(kronecker(fromInput, fromInput), [points, 1, inputs, inputs]))
const outputPlaces = () =>
  known("output", () => constantOf(kronecker(toOutput, toOutput), [outputs ** 2, points]))
const filterTaps = () => kronecker(fromFilter, fromFilter)

/** Filters [o,i,3,3] at the points of the transform, [1,36,o,i]. */
export function filterPoints(w: Tensor): Tensor {
  const [o, i] = w.shape as [number, number]
  const taps = w
    .reshape([o * i, 9])
    .transpose([1, 0])
    .reshape([1, 9, o, i])
  // as a convolution, since a product would need a reshape, which copies what leaves a session
  return taps.conv2d(
    known("filter", () => constantOf(filterTaps(), [points, 9, 1, 1])),
    null,
  )
}

/** The same inside a session that reads them at once; `doubled`: of the four phases, [1,36,4 o,i]. */
export function passingPoints(w: Tensor, doubled = false): Tensor {
  const [o, i] = w.shape as [number, number]
  const taps = w.reshape([o * i, 9])
  if (!doubled)
    return known("passing filter", () => constantOf(filterTaps(), [points, 9]))
      .linear(taps)
      .reshape([1, points, o, i])
  return known("phases", fromPhases)
    .linear(taps)
    .reshape([1, points, 4 * o, i])
}

/** From nine taps to the points of the four phases, a point's phases side by side. */
function fromPhases(): Tensor {
  const [even, odd] = phases.map((phase) => times(fromFilter, phase)) as [Matrix, Matrix]
  const all = [even, odd].flatMap((p) => [even, odd].map((q) => kronecker(p, q)))
  const rows = Array.from({ length: points }, (_, point) => all.map((phase) => phase[point]!))
  return constantOf(rows.flat(), [4 * points, 9])
}

/** From products at the points of four phases to 8 x 8 places. */
function toDoubled(): Tensor {
  const one = kronecker(toOutput, toOutput)
  const rows = Array.from({ length: 4 * outputs ** 2 }, (_, place) => {
    const [y, x] = [Math.floor(place / (2 * outputs)), place % (2 * outputs)]
    const from = one[(y >> 1) * outputs + (x >> 1)]!
    return from.flatMap((factor) =>
      [0, 1, 2, 3].map((phase) => (phase === (y % 2) * 2 + (x % 2) ? factor : 0)),
    )
  })
  return constantOf(rows, [4 * outputs ** 2, 4 * points])
}

/** How a convolution by `winograd` differs from a plain one. */
export interface WinogradWays {
  /** What x goes through first, strip by strip, so that no whole picture is made of it. */
  readonly before?: (part: Tensor) => Tensor
  /** x stands for itself enlarged twofold by repetition; u is of the four phases. */
  readonly doubled?: boolean
}

/**
 * A 3x3 convolution with a border of one place, of x [b,i,h,w] with sides that divide by 4, as 36 matrix products over
 * tiles: a quarter of the multiplications, 1.6 to 3 times as fast from 128 channels on, in 5e-6 of the result.
 * Pictures whose height is known to divide further go strip by strip, which bounds memory and keeps a strip in the cache.
 * @param u the filters as `filterPoints` gives them
 */
export function winograd(
  x: Tensor,
  u: Tensor,
  bias: Tensor | undefined,
  { before = (part) => part, doubled = false }: WinogradWays = {},
): Tensor {
  const height = x.shape[2]!
  const count = stripsOf(height)
  const rows = exactDiv(height, count)!
  const parts = Array.from({ length: count }, (_, n) => {
    const [first, last] = [n === 0, n === count - 1]
    const from = addDim(mulDim(n, rows), first ? 0 : -1)
    const to = addDim(mulDim(n + 1, rows), last ? 0 : 1)
    const part = before(count === 1 ? x : x.slice(2, from, to))
    return strip(part, u, [Number(first), 1, Number(last), 1], rows, doubled)
  })
  const y = count === 1 ? parts[0]! : concat(parts, 2)
  return bias ? y.add(bias.reshape([bias.shape[0]!, 1, 1])) : y
}

/** Numbers of strips, the largest first. */
const most = [8, 4, 2, 1] as const

/** How many strips a picture of this height goes in. */
export const stripsOf = (height: Dim): number => most.find((n) => exactDiv(height, outputs * n) !== null)!

/** `height` rows of the result, from as many rows of x and those beside them. */
function strip(x: Tensor, u: Tensor, pads: readonly number[], height: Dim, doubled: boolean): Tensor {
  const [b, i, h, w] = x.dims("b i h w")
  const [rows, columns] = [tiles(height), tiles(w)]
  const places = mulDim(rows, columns)
  const phases = doubled ? 4 : 1
  const o = (u.shape[2] as number) / phases
  const planes = x.reshape([mulDim(b, i), 1, h, w])
  // all tiles of a channel by one strided convolution
  const seen = planes.conv2d(inputPoints(), null, { stride: outputs, pads })
  const v = seen.reshape([b, i, points, places]).transpose([0, 2, 1, 3])
  const products = u.matmul(v).reshape([b, points * phases, mulDim(o, places)])
  const back = doubled ? known("doubled", toDoubled) : outputPlaces()
  const made = back.matmul(products).reshape([b, outputs ** 2 * phases * o, rows, columns])
  return apply("depthToSpace", [made], { factor: doubled ? 2 * outputs : outputs })
}

const tiles = (side: Dim): Dim => {
  const n = exactDiv(side, outputs)
  if (n === null) throw new TypeError(`a side of ${side} does not divide by ${outputs}`)
  return n
}

/** From here on the products outweigh the transforms. */
const channels = 128
/** Filters beyond this take more memory at the points, 180 MB, than their speed is worth. */
const filters = 1.25e6

/** Numbers in filters of four phases beyond which they take more memory than the enlarged picture. */
const doubledFilters = 3e5

/** Whether a convolution of an enlarged picture has a form by `winograd` over the small one that is faster. */
export function suitsDoubled(node: Tensor): boolean {
  const from = node.inputs[0]!
  const small = from.inputs[0]
  if (from.op !== "resize" || !small || !suitsWinograd(node)) return false
  const [o, i] = node.inputs[1]!.shape as [number, number]
  const twofold = [2, 3].every((axis) => sameDim(from.shape[axis]!, mulDim(2, small.shape[axis]!)))
  const fits = small.shape.slice(2).every((side) => exactDiv(side, outputs) !== null)
  return twofold && fits && 4 * o * i <= doubledFilters
}

/** Whether a convolution has a form by `winograd` that is faster. */
export function suitsWinograd(node: Tensor): boolean {
  const { stride, pads, groups } = node.attrs as unknown as ConvAttrs
  const [o, i, kh, kw] = node.inputs[1]!.shape as [number, number, number, number]
  const fits = kh === 3 && kw === 3 && stride === 1 && groups === 1 && pads.every((p) => p === 1)
  const sides = node.inputs[0]!.shape.slice(2).every((side) => exactDiv(side, outputs) !== null)
  return fits && sides && Math.min(o, i) >= channels && o * i <= filters
}

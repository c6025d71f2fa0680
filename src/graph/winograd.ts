import type { ConvAttrs } from "./attrs.ts"
import { addDim, type Dim, exactDiv, mulDim } from "./dim.ts"
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

type Transform = readonly (readonly number[])[]

const constants = new Map<Transform, Tensor>()

/**
 * A transform of both axes at once, as a constant of the shape that all its readers want: the Kronecker product with
 * itself. Made once, since a U-Net asks for it hundreds of times.
 */
function both(transform: Transform, shape: readonly number[]): Tensor {
  const known = constants.get(transform)
  if (known) return known
  const rows = transform.flatMap((a) => transform.flatMap((b) => a.flatMap((x) => b.map((y) => x * y))))
  const made = constant(Float32Array.from(rows), shape, "f32")
  constants.set(transform, made)
  return made
}

/** Filters [o,i,3,3] at the points of the transform, [1,36,o,i]. */
export function filterPoints(w: Tensor): Tensor {
  const [o, i] = w.shape as [number, number]
  const taps = w
    .reshape([o * i, 9])
    .transpose([1, 0])
    .reshape([1, 9, o, i])
  // as a convolution, since a product would need a reshape, which copies
  return taps.conv2d(both(fromFilter, [points, 9, 1, 1]), null)
}

/**
 * A 3x3 convolution with a border of one place, of x [b,i,h,w] with sides that divide by 4, as 36 matrix products over
 * tiles: a quarter of the multiplications, 1.6 to 3 times as fast from 128 channels on, in 5e-6 of the result.
 * Pictures whose height is known to divide further go strip by strip, which bounds memory and keeps a strip in the cache.
 * @param u the filters as `filterPoints` gives them
 */
export function winograd(x: Tensor, u: Tensor, bias: Tensor | undefined): Tensor {
  const height = x.shape[2]!
  const count = most.find((n) => exactDiv(height, outputs * n) !== null)!
  const rows = exactDiv(height, count)!
  const parts = Array.from({ length: count }, (_, n) => {
    const [first, last] = [n === 0, n === count - 1]
    const from = addDim(mulDim(n, rows), first ? 0 : -1)
    const to = addDim(mulDim(n + 1, rows), last ? 0 : 1)
    return strip(count === 1 ? x : x.slice(2, from, to), u, [Number(first), 1, Number(last), 1], rows)
  })
  const y = count === 1 ? parts[0]! : concat(parts, 2)
  return bias ? y.add(bias.reshape([u.shape[2]!, 1, 1])) : y
}

/** Numbers of strips, the largest first. */
const most = [8, 4, 2, 1] as const

/** `height` rows of the result, from as many rows of x and those beside them. */
function strip(x: Tensor, u: Tensor, pads: readonly number[], height: Dim): Tensor {
  const [b, i, h, w] = x.dims("b i h w")
  const [rows, columns] = [tiles(height), tiles(w)]
  const places = mulDim(rows, columns)
  const o = u.shape[2]!
  const planes = x.reshape([mulDim(b, i), 1, h, w])
  // all tiles of a channel by one strided convolution
  const seen = planes.conv2d(both(fromInput, [points, 1, inputs, inputs]), null, { stride: outputs, pads })
  const v = seen.reshape([b, i, points, places]).transpose([0, 2, 1, 3])
  const products = u.matmul(v).reshape([b, points, mulDim(o, places)])
  const made = both(toOutput, [outputs ** 2, points]).matmul(products)
  return apply("depthToSpace", [made.reshape([b, mulDim(outputs ** 2, o), rows, columns])], {
    factor: outputs,
  })
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

/** Whether a convolution has a form by `winograd` that is faster. */
export function suitsWinograd(node: Tensor): boolean {
  const { stride, pads, groups } = node.attrs as unknown as ConvAttrs
  const [o, i, kh, kw] = node.inputs[1]!.shape as [number, number, number, number]
  const fits = kh === 3 && kw === 3 && stride === 1 && groups === 1 && pads.every((p) => p === 1)
  const sides = node.inputs[0]!.shape.slice(2).every((side) => exactDiv(side, outputs) !== null)
  return fits && sides && Math.min(o, i) >= channels && o * i <= filters
}

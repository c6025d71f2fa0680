import type { ConvAttrs } from "../attrs.ts"
import type { Dim } from "../dim.ts"
import { constant, type Tensor } from "../tensor.ts"

/** Up to this many pairs of a place of the result and one of the operand. */
const mostPairs = 64

/**
 * On maps of few places a convolution is written as one matrix over all channels and places: the engines' own forms
 * mostly move data there.
 */
export function hasFewPlaces(result: Tensor, operand: Tensor, { groups }: ConvAttrs): boolean {
  const sizes = [...result.shape.slice(2), ...operand.shape.slice(2)]
  if (groups !== 1 || !sizes.every((d) => typeof d === "number")) return false
  return (sizes as number[]).reduce((a, b) => a * b, 1) <= mostPairs
}

/** Convolution of `x`; `size` is the result's height and width. */
export function fewForward(x: Tensor, w: Tensor, attrs: ConvAttrs, size: readonly number[]): Tensor {
  const matrix = connections(w, attrs, size, sizeOf(x))
  return pictures(placesFirst(x).matmul(matrix.transpose([1, 0])), w.shape[0] as number, size)
}

/** Its gradient with respect to the operand of the given height and width. */
export function fewBackward(g: Tensor, w: Tensor, attrs: ConvAttrs, size: readonly number[]): Tensor {
  return pictures(placesFirst(g).matmul(connections(w, attrs, sizeOf(g), size)), w.shape[1] as number, size)
}

/** Its gradient with respect to the weights. */
export function fewWeightGrad(g: Tensor, x: Tensor, w: Tensor, attrs: ConvAttrs): Tensor {
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const [to, from] = [sizeOf(g), sizeOf(x)]
  const pairs = placesFirst(g)
    .transpose([1, 0])
    .matmul(placesFirst(x))
    .reshape([places(to), o, places(from), i])
    .transpose([0, 2, 1, 3])
    .reshape([places(to) * places(from), o * i])
  return tapOfPair(w, attrs, to, from)
    .transpose([1, 0])
    .matmul(pairs)
    .reshape([kh * kw, o * i])
    .transpose([1, 0])
    .reshape(w.shape)
}

const sizeOf = (t: Tensor) => t.shape.slice(2) as number[]
const places = ([h, w]: readonly number[]): number => h! * w!

/** One row per picture, its channels in one piece at each place. */
function placesFirst(t: Tensor): Tensor {
  const [b, c] = t.shape as [Dim, number]
  const count = places(sizeOf(t))
  return t
    .reshape([b, c, count])
    .transpose([0, 2, 1])
    .reshape([b, count * c])
}

const pictures = (rows: Tensor, c: number, size: readonly number[]): Tensor =>
  rows
    .reshape([rows.shape[0]!, places(size), c])
    .transpose([0, 2, 1])
    .reshape([rows.shape[0]!, c, ...size])

/** Weights between every place and channel of the result (rows) and of the operand. */
function connections(w: Tensor, attrs: ConvAttrs, to: readonly number[], from: readonly number[]): Tensor {
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const byTap = w.reshape([o * i, kh * kw]).transpose([1, 0])
  return tapOfPair(w, attrs, to, from)
    .matmul(byTap)
    .reshape([places(to), places(from), o, i])
    .transpose([0, 2, 1, 3])
    .reshape([places(to) * o, places(from) * i])
}

/** One where a pair of a place of the result and one of the operand (row) is joined by a tap (column). */
function tapOfPair(
  w: Tensor,
  { stride, pads }: ConvAttrs,
  [oh, ow]: readonly number[],
  [h, wide]: readonly number[],
): Tensor {
  const [kh, kw] = w.shape.slice(2) as [number, number]
  const pairs = oh! * ow! * h! * wide!
  const ones = new Float32Array(kh * kw * pairs)
  for (let pair = 0; pair < pairs; pair++) {
    const [to, from] = [Math.floor(pair / (h! * wide!)), pair % (h! * wide!)]
    const down = Math.floor(from / wide!) + pads[0]! - stride * Math.floor(to / ow!)
    const across = (from % wide!) + pads[1]! - stride * (to % ow!)
    if (down >= 0 && down < kh && across >= 0 && across < kw) ones[pair * kh * kw + down * kw + across] = 1
  }
  return constant(ones, [pairs, kh * kw], "f32")
}

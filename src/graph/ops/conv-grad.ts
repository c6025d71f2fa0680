import type { ConvAttrs } from "../attrs.ts"
import { addDim, type Dim, mulDim } from "../dim.ts"
import { apply, concat, constant, type Tensor } from "../tensor.ts"
import { fewWeightGrad, hasFewPlaces } from "./few-places.ts"

/** Up to this many places a picture's columns are too short for a product of their own. */
const few = 64

/**
 * Weight gradient of conv2d from that of its result. A convolution by kernels as large as the picture is slow on
 * every engine, so it is written as matrix products over shifted copies, in the form that is fastest for the sizes.
 */
export function convWeightGrad(g: Tensor, x: Tensor, w: Tensor, attrs: ConvAttrs): Tensor {
  const { stride, pads, groups } = attrs
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  if (groups > 1) return perGroup(g, x, w, attrs)
  if (kh * kw > 1 && hasFewPlaces(g, x, attrs)) return fewWeightGrad(g, x, w, attrs)
  const places = mulDim(g.shape[2]!, g.shape[3]!)
  const short = typeof places === "number" && places <= few
  const known = [g, x].every((t) => t.shape.slice(2).every((d) => typeof d === "number"))
  if (stride === 1 && kh > 1 && known) return bySharedCopies(g, x, w, pads)
  const seen = taps(x, w, attrs, g.shape.slice(2)) // kh*kw times b i oh ow
  if (short) {
    const flat = seen.map((t) => t.rearrange("b i h w -> i 1 (b h w)"))
    const columns = concat(flat, 1).reshape([i * kh * kw, -1])
    return channels(g)
      .matmul(columns.transpose([1, 0]))
      .reshape([o, i, kh, kw])
  }
  const rows = g.rearrange("b o h w -> b o (h w)")
  const right = concat(
    seen.map((t) => t.rearrange("b i h w -> b i (h w)")),
    1,
  ).transpose([0, 2, 1]) // b (h w) (k i)
  return rows.matmul(right).sum([0]).reshape([o, kh, kw, i]).transpose([0, 3, 1, 2])
}

/** The input as each tap of the kernel sees it. */
function taps(x: Tensor, w: Tensor, { stride, pads }: ConvAttrs, [oh, ow]: readonly Dim[]): Tensor[] {
  const [, , kh, kw] = w.shape as [number, number, number, number]
  const padded = x.pad([0, 0, pads[0]!, pads[1]!], [0, 0, pads[2]!, pads[3]!])
  const cut = (t: Tensor, axis: number, start: number, size: Dim): Tensor => {
    const end = addDim(start, mulDim(stride, addDim(size, -1)), 1)
    return stride === 1 ? t.slice(axis, start, end) : apply("slice", [t], { axis, start, end, step: stride })
  }
  return Array.from({ length: kh * kw }, (_, n) =>
    cut(cut(padded, 2, Math.floor(n / kw), oh!), 3, n % kw, ow!),
  )
}

/**
 * Pictures are laid one after the other on a grid with zeros between rows, so that a tap is the whole row of numbers
 * moved by a constant. Moves in y are laid on the gradient, moves in x on the input: one product of kh + kw copies
 * holds all taps.
 */
function bySharedCopies(g: Tensor, x: Tensor, w: Tensor, pads: readonly number[]): Tensor {
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const [top, left, bottom, right] = pads as [number, number, number, number]
  const [b, , oh, ow] = g.shape as [Dim, Dim, number, number]
  const [h, wide] = x.shape.slice(2) as [number, number]
  // a place left of a row is the gap at the end of the row before it
  const width = Math.max(wide + Math.max(left, right), ow)
  const height = Math.max(h + Math.max(top, bottom), oh)
  const size = mulDim(b, height, width)
  const ahead = Math.max(0, kw - 1 - top * width - left)
  const most = Math.max((kh - 1) * width + ahead, top * width + left + ahead)
  const length = addDim(size, most)
  const onGrid = (t: Tensor): Tensor =>
    widened(t.transpose([1, 0, 2, 3]), height, width).reshape([t.shape[1]!, size])
  const gradient = moved(onGrid(g), kh, most, ahead, width)
  const input = moved(onGrid(x), kw, most, top * width + left + ahead, -1)
  const all = gradient.reshape([o * kh, length]).matmul(input.reshape([i * kw, length]).transpose([1, 0]))
  return all.reshape([o, kh, i, kw]).transpose([0, 2, 1, 3])
}

/** `count` copies of each row with zeros around: rows longer by `most`, copy n starting at `start + n * step`. */
function moved(rows: Tensor, count: number, most: number, start: number, step: number): Tensor {
  const gap = (size: number) => (size > 0 ? [zeros([rows.shape[0]!, size])] : [])
  const last = most - start - (count - 1) * step
  const copies = Array.from({ length: count }, (_, n) => (n === 0 ? [rows] : [...gap(most + step), rows]))
  return concat([...gap(start), ...copies.flat(), ...gap(last)], 1)
}

/** Up to this width a product with ones and zeros is faster than onnxruntime's padding. */
const widest = 128

/** Zeros below and to the right of pictures. */
function widened(t: Tensor, height: number, width: number): Tensor {
  const [, , h, w] = t.shape as [Dim, Dim, number, number]
  if (w > widest) return t.pad([0, 0, 0, 0], [0, 0, height - h, width - w])
  const whole = h * w <= few
  const [from, to] = whole ? [h * w, height * width] : [w, width]
  const ones = new Float32Array(from * to)
  for (let place = 0; place < from; place++)
    ones[place * to + (whole ? Math.floor(place / w) * width + (place % w) : place)] = 1
  const selected = t.reshape([-1, from]).matmul(constant(ones, [from, to], "f32"))
  const [a, b] = t.shape as [Dim, Dim]
  const rows = selected.reshape([a, b, whole ? height : h, width])
  return whole || h === height ? rows : concat([rows, zeros([a, b, height - h, width])], 2)
}

const zeros = (shape: readonly Dim[]): Tensor => constant(Float32Array.of(0), [1], "f32").broadcastTo(shape)

/** All pictures' places side by side, one row per channel. */
const channels = (t: Tensor): Tensor => t.transpose([1, 0, 2, 3]).reshape([t.shape[1]!, -1])

function perGroup(g: Tensor, x: Tensor, w: Tensor, attrs: ConvAttrs): Tensor {
  const { groups } = attrs
  const [o, i] = w.shape as [number, number]
  const part = (t: Tensor, axis: number, size: number, n: number) => t.slice(axis, n * size, (n + 1) * size)
  return concat(
    Array.from({ length: groups }, (_, n) =>
      convWeightGrad(part(g, 1, o / groups, n), part(x, 1, i, n), part(w, 0, o / groups, n), {
        ...attrs,
        groups: 1,
      }),
    ),
    0,
  )
}

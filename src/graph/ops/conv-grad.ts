import type { ConvAttrs } from "../attrs.ts"
import { addDim, type Dim, mulDim } from "../dim.ts"
import { apply, concat, constant, type Tensor } from "../tensor.ts"

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
  const places = mulDim(g.shape[2]!, g.shape[3]!)
  const short = typeof places === "number" && places <= few
  if (stride === 1 && kh > 1 && !(short && (places as number) <= 16))
    return threeByThree(g, x, w, pads, short)
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
export function taps(x: Tensor, w: Tensor, { stride, pads }: ConvAttrs, [oh, ow]: readonly Dim[]): Tensor[] {
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
 * Shifts in y are laid on the gradient and shifts in x on the input, so that one product of 3 + 3 copies holds all
 * nine taps: dw[y, x] = sum over p of g[p - y] x[p + x].
 */
function threeByThree(g: Tensor, x: Tensor, w: Tensor, pads: readonly number[], short: boolean): Tensor {
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const [top, left, bottom, right] = pads as [number, number, number, number]
  const across = Array.from({ length: kw }, (_, k) =>
    x.pad([0, 0, top, left - k], [0, 0, bottom, right - (kw - 1 - k)]),
  )
  // the gradient moved down by 0, 1, .. rows among zeros: one row of copies with gaps between
  const [b, , oh, ow] = g.dims("b o h w")
  const gap = zeros([b, o, kh, ow])
  const copies = Array.from({ length: 2 * kh - 1 }, (_, n) => (n % 2 === 0 ? g : gap))
  const rows = concat(copies, 2).reshape([b, o, kh, addDim(oh, kh - 1), ow])
  if (short) {
    const columns = concat(
      across.map((t) => t.transpose([1, 0, 2, 3])),
      0,
    ).reshape([kw * i, -1])
    const left = rows.transpose([1, 2, 0, 3, 4]).reshape([o * kh, -1])
    const all = left.matmul(columns.transpose([1, 0]))
    return all.reshape([o, kh, kw, i]).transpose([0, 3, 1, 2])
  }
  const columns = concat(across, 1)
    .reshape([b, kw * i, -1])
    .transpose([0, 2, 1])
  const all = rows
    .reshape([b, o * kh, -1])
    .matmul(columns)
    .sum([0])
  return all.reshape([o, kh, kw, i]).transpose([0, 3, 1, 2])
}

const zeros = (shape: readonly Dim[]): Tensor =>
  constant(Float32Array.of(0), [1, 1, 1, 1], "f32").broadcastTo(shape)

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

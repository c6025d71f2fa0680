import type { ConvAttrs } from "./attrs.ts"
import { type Dim, mulDim } from "./dim.ts"
import { taps } from "./ops/conv-grad.ts"
import { rewrite } from "./rewrite.ts"
import { apply, concat, type Graph, type Tensor } from "./tensor.ts"

/** Up to this many places a blocked convolution mostly multiplies its padding. */
const tiny = 4

/**
 * Chooses faster forms for convolutions whose weights change at every run: blocked channels where whole blocks of
 * `block` channels fit, one matrix product on the smallest maps. The values stay the same up to rounding.
 */
export function lowerConvolutions(graph: Graph, block: number | null): Graph {
  return rewrite(graph, (node) => {
    const weight = node.inputs[1]
    if ((node.op !== "conv2d" && node.op !== "convInput") || weight?.op === "param") return node
    const attrs = node.attrs as unknown as ConvAttrs
    const places = mulDim(node.shape[2]!, node.shape[3]!)
    if (attrs.groups !== 1 || typeof places !== "number") return node
    return node.op === "conv2d" ? forward(node, attrs, places, block) : backward(node, attrs, places, block)
  })
}

function forward(node: Tensor, attrs: ConvAttrs, places: number, block: number | null): Tensor {
  const [o, i, kh] = node.inputs[1]!.shape as [number, number, number]
  if (kh === 1) return node
  if (places <= tiny) return product(node, attrs)
  return whole(block, o, i) ? blocked(node.inputs, attrs, block, false) : node
}

function backward(node: Tensor, attrs: ConvAttrs, places: number, block: number | null): Tensor {
  const [g, w] = node.inputs as [Tensor, Tensor]
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  if (attrs.stride === 1) {
    if (kh * kw === 1 && attrs.pads.every((p) => p === 0)) return g.conv2d(w.transpose([1, 0, 2, 3]), null)
    if (places <= tiny) return spread(node, attrs)
    if (whole(block, o, i)) return blocked(node.inputs, attrs, block, true)
    // a transposed convolution to or from few channels is several times slower than one by turned filters
    const pads = [kh, kw, kh, kw].map((k, n) => k - 1 - attrs.pads[n]!)
    return g.conv2d(turned(w), null, { pads })
  }
  if (places <= tiny || !whole(block, o, i)) return node
  // between the places of a strided result lie zeros
  const [height, width] = node.shape.slice(2) as [number, number]
  const { pads, stride: step } = attrs
  const sizes = [height - kh + 1 + pads[0]! + pads[2]!, width - kw + 1 + pads[1]! + pads[3]!]
  const wide = sizes.reduce((t, size, n) => apply("unslice", [t], { axis: 2 + n, start: 0, step, size }), g)
  return blocked([wide, w], { ...attrs, stride: 1 }, block, true)
}

/** Filters with operand and result exchanged and the taps in reverse order. */
function turned(w: Tensor): Tensor {
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const flat = w.reshape([o, i, kh * kw])
  const taps = Array.from({ length: kh * kw }, (_, t) => flat.slice(2, kh * kw - 1 - t, kh * kw - t))
  return concat(taps, 2).transpose([1, 0, 2]).reshape([i, o, kh, kw])
}

const whole = (block: number | null, o: number, i: number): block is number =>
  block !== null && o % block === 0 && i % block === 0

const blocked = (inputs: readonly Tensor[], attrs: ConvAttrs, block: number, back: boolean): Tensor =>
  apply("blockedConv", inputs, { stride: attrs.stride, pads: attrs.pads, groups: 1, block, back })

/** Columns of the input under every tap, times the weights as they are stored. */
function product(node: Tensor, attrs: ConvAttrs): Tensor {
  const [x, w, bias] = node.inputs as [Tensor, Tensor, Tensor?]
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const seen = taps(x, w, attrs, node.shape.slice(2)).map((t) => t.rearrange("b i h w -> i 1 (b h w)"))
  const columns = concat(seen, 1).reshape([i * kh * kw, -1])
  const [b, , h, wide] = node.shape as [Dim, Dim, Dim, Dim]
  const y = w
    .reshape([o, i * kh * kw])
    .matmul(columns)
    .rearrange("o (b h w) -> b o h w", { b, h, w: wide })
  return bias ? y.add(bias.reshape([o, 1, 1])) : y
}

/** The way back through `product`: every tap's share, laid where it came from. */
function spread(node: Tensor, { pads }: ConvAttrs): Tensor {
  const [g, w] = node.inputs as [Tensor, Tensor]
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const [b, , oh, ow] = g.shape as [Dim, number, number, number]
  const [h, wide] = node.shape.slice(2) as [number, number]
  const flat = g.transpose([1, 0, 2, 3]).reshape([o, -1])
  const shares = w
    .reshape([o, i * kh * kw])
    .transpose([1, 0])
    .matmul(flat)
    .reshape([i, kh * kw, b, oh, ow])
  const laid = Array.from({ length: kh * kw }, (_, t) => {
    const [down, across] = [Math.floor(t / kw) - pads[0]!, (t % kw) - pads[1]!]
    const share = shares.slice(1, t, t + 1).reshape([i, b, oh, ow])
    return share.pad([0, 0, down, across], [0, 0, h - oh - down, wide - ow - across])
  })
  return laid.reduce((sum, t) => sum.add(t)).transpose([1, 0, 2, 3])
}

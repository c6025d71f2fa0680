import type { ConvAttrs } from "./attrs.ts"
import { fewBackward, fewForward, hasFewPlaces } from "./ops/few-places.ts"
import { rewrite } from "./rewrite.ts"
import { apply, concat, type Graph, type Tensor } from "./tensor.ts"

/**
 * Chooses faster forms for convolutions whose weights change at every run: blocked channels where whole blocks of
 * `block` channels fit, one matrix product on the smallest maps. The values stay the same up to rounding.
 */
export function lowerConvolutions(graph: Graph, block: number | null): Graph {
  return rewrite(graph, (node) => {
    const weight = node.inputs[1]
    if ((node.op !== "conv2d" && node.op !== "convInput") || weight?.op === "param") return node
    const attrs = node.attrs as unknown as ConvAttrs
    if (attrs.groups !== 1 || node.shape.slice(2).some((d) => typeof d !== "number")) return node
    return node.op === "conv2d" ? forward(node, attrs, block) : backward(node, attrs, block)
  })
}

function forward(node: Tensor, attrs: ConvAttrs, block: number | null): Tensor {
  const [o, i, kh] = node.inputs[1]!.shape as [number, number, number]
  if (kh === 1) return node
  const [x, w, bias] = node.inputs as [Tensor, Tensor, Tensor?]
  if (hasFewPlaces(node, x, attrs)) {
    const y = fewForward(x, w, attrs, node.shape.slice(2) as number[])
    return bias ? y.add(bias.reshape([o, 1, 1])) : y
  }
  return whole(block, o, i) ? blocked(node.inputs, attrs, block, false) : node
}

function backward(node: Tensor, attrs: ConvAttrs, block: number | null): Tensor {
  const [g, w] = node.inputs as [Tensor, Tensor]
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  if (kh * kw > 1 && hasFewPlaces(g, node, attrs))
    return fewBackward(g, w, attrs, node.shape.slice(2) as number[])
  if (attrs.stride === 1) {
    if (kh * kw === 1 && attrs.pads.every((p) => p === 0)) return g.conv2d(w.transpose([1, 0, 2, 3]), null)
    if (whole(block, o, i)) return blocked(node.inputs, attrs, block, true)
    // a transposed convolution to or from few channels is several times slower than one by turned filters
    const pads = [kh, kw, kh, kw].map((k, n) => k - 1 - attrs.pads[n]!)
    if (pads.some((p) => p < 0)) return node
    return g.conv2d(turned(w), null, { pads })
  }
  if (!whole(block, o, i)) return node
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

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
    const back = node.op === "convInput"
    const [o, i, kh] = weight!.shape as [number, number, number]
    const places = mulDim(node.shape[2]!, node.shape[3]!)
    if (kh === 1 || attrs.groups !== 1 || (back && attrs.stride !== 1) || typeof places !== "number")
      return node
    if (places <= tiny) return product(node, attrs, back)
    if (block === null || o % block !== 0 || i % block !== 0) return node
    return apply("blockedConv", node.inputs, {
      stride: attrs.stride,
      pads: attrs.pads,
      groups: 1,
      block,
      back,
    })
  })
}

/** Columns of the input under every tap, times the weights as they are stored. */
function product(node: Tensor, attrs: ConvAttrs, back: boolean): Tensor {
  const [x, w, bias] = node.inputs as [Tensor, Tensor, Tensor?]
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const sides = back ? [kh, kw, kh, kw].map((k, n) => k - 1 - attrs.pads[n]!) : attrs.pads
  const seen = taps(x, w, { ...attrs, pads: sides }, node.shape.slice(2))
  const columns = concat(
    (back ? seen.reverse() : seen).map((t) => t.rearrange("b c h w -> c 1 (b h w)")),
    1,
  ).rearrange("c k p -> (c k) p")
  const weights = back ? w.transpose([1, 0, 2, 3]).reshape([i, o * kh * kw]) : w.reshape([o, i * kh * kw])
  const [b, , h, wide] = node.shape as [Dim, Dim, Dim, Dim]
  const y = weights.matmul(columns).rearrange("c (b h w) -> b c h w", { b, h, w: wide })
  return bias ? y.add(bias.reshape([o, 1, 1])) : y
}

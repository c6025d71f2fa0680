import {
  type AttentionAttrs,
  type ConvAttrs,
  concat,
  constant,
  type Graph,
  rewrite,
  type Tensor,
} from "../graph/index.ts"

/** Other forms of what some engines compute wrongly; found by test/runtime and by trying the device (trial.ts). */

/** Attention by its parts, for engines whose own kernel is wrong: softmax(q kᵀ / √d + mask) v (Vaswani et al. 2017, eq. 1). */
export function unfuseAttention(graph: Graph): Graph {
  return rewrite(graph, (node) => {
    if (node.op !== "attention") return node
    const [q, k, v, mask] = node.inputs as [Tensor, Tensor, Tensor, Tensor?]
    const { heads, scale } = node.attrs as unknown as AttentionAttrs
    const split = (t: Tensor) => t.rearrange("b s (heads d) -> b heads s d", { heads })
    const factor = scale ?? 1 / Math.sqrt((q.shape[2] as number) / heads)
    const logits = split(q)
      .mul(factor)
      .matmul(split(k).transpose([0, 1, 3, 2])) // b heads s t
    const weights = (mask ? logits.add(mask) : logits).softmax(-1)
    return weights.matmul(split(v)).rearrange("b heads s d -> b s (heads d)")
  })
}

/**
 * Convolutions with input channels padded to fours: onnxruntime-web and -node 1.30 on WebGPU give wrong numbers for 6,
 * 9 or 15 input channels (the 9 of inpainting models among them) and output channels in fours.
 */
export function padConvolutions(graph: Graph): Graph {
  return rewrite(graph, (node) => {
    if (node.op !== "conv2d") return node
    const [x, w, bias] = node.inputs as [Tensor, Tensor, Tensor?]
    const [out, channels, kh, kw] = w.shape as [number, number, number, number]
    const attrs = node.attrs as unknown as ConvAttrs
    const wrong = channels > 3 && channels % 3 === 0 && channels % 4 !== 0 && out % 4 === 0
    if (!wrong || attrs.groups !== 1) return node
    const more = 4 - (channels % 4)
    const zeros = constant(new Float32Array(out * more * kh * kw), [out, more, kh, kw], "f32")
    const wide = concat([x, x.slice(1, 0, more).mul(0)], 1)
    return wide.conv2d(concat([w, zeros], 1), bias ?? null, attrs)
  })
}

import {
  addDim,
  concat,
  constant,
  type Dim,
  exactDiv,
  floorDiv,
  mulDim,
  type Tensor,
} from "../graph/index.ts"

/** How the tokens of a map become fewer, and the way back. */
export interface Merging {
  /** b (h w) c to b m c */
  merge(x: Tensor): Tensor
  /** b m d to b (h w) d: every place gets what its token became. */
  restore(y: Tensor): Tensor
}

/** Shares are counted in these parts, since sizes are whole numbers. */
const exactly = 1e6

/** Shares of tokens that can be merged: one in four is where the others go. */
export const mostMerged = 0.75

/**
 * Merges the share of tokens that are most alike with a token near them: of every 2x2 places the first receives, the
 * others are matched to the most similar receiver (by cosine) and the best matches are averaged into theirs
 * (Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion"; receivers are fixed, not drawn at random, as A1111
 * has it).
 * @param like what similarity is measured on, b (h w) c
 * @returns null where the map has an odd side
 */
export function mergeTokens(like: Tensor, height: Dim, width: Dim, share: number): Merging | null {
  const [h, w] = [exactDiv(height, 2), exactDiv(width, 2)]
  if (h === null || w === null) return null
  const b = like.shape[0]!
  const receivers = mulDim(h, w)
  const others = mulDim(3, receivers)
  const gone = floorDiv(mulDim(Math.round(share * exactly), 4, receivers), exactly)
  const parts = (x: Tensor): [into: Tensor, from: Tensor] => {
    const apart = x.rearrange("b (h p w q) c -> b (p q) (h w) c", { h, p: 2, w, q: 2 })
    const size = x.shape[2]!
    return [
      apart.slice(1, 0, 1).reshape([b, receivers, size]),
      apart.slice(1, 1, 4).reshape([b, others, size]),
    ]
  }
  const [into, from] = parts(like).map(direction) as [Tensor, Tensor]
  const alike = from.matmul(into.transpose([0, 2, 1])) // b others receivers
  const order = alike.amax([2]).largest(others)
  const [merged, kept] = [order.slice(1, 0, gone), order.slice(1, gone, others)]
  const target = alike.argmax(2).reshape([b, others, 1])
  const chosen = target.pick(merged).reshape([b, gone])
  return {
    merge(x) {
      const [into, from] = parts(x)
      const ones = (t: Tensor) => t.slice(2, 0, 1).mul(0).add(1)
      const counts = ones(into).addAt(chosen, ones(from).pick(merged))
      const means = into.addAt(chosen, from.pick(merged)).div(counts)
      return concat([from.pick(kept), means], 1)
    },
    restore(y) {
      const size = y.shape[2]!
      const left = kept.shape[1]!
      const received = y.slice(1, left, addDim(left, receivers))
      const nothing = constant(Float32Array.of(0), [1, 1, 1], "f32").broadcastTo([b, others, size])
      const back = nothing.put(kept, y.slice(1, 0, left)).put(merged, received.pick(chosen))
      return concat([received, back], 1)
        .reshape([b, 4, receivers, size])
        .rearrange("b (p q) (h w) c -> b (h p w q) c", { h, p: 2, w, q: 2 })
    },
  }
}

/** Rows of length one. */
const direction = (x: Tensor): Tensor => x.div(x.square().sum([2], true).add(1e-12).sqrt())

import { nameOf, parameter, type Tensor } from "../graph/index.ts"
import { LayerNorm, Linear } from "./layers.ts"
import { Module } from "./module.ts"
import type { Merging } from "./token-merging.ts"

/** A picture that speaks beside the prompt (IP-Adapter, Ye et al. 2023): its tokens have keys and values of their own. */
export interface ImagePrompt {
  /** Before the names of its weights. */
  readonly id: string
  /** b n d */
  readonly tokens: Tensor
  /** 1 1 1 */
  readonly scale: Tensor
}

/** Name of an image prompt's weight for an attention to the prompt, which is named by its `to_k`. */
export const imageKey = (id: string, toK: string, part: "k" | "v"): string =>
  `${id} ${toK.replace(/to_k\.weight$/, "")}to_${part}_ip`

/** Multi-head attention as diffusers lays out its keys; `context` is what keys and values are made of. */
export class Attention extends Module<{
  size: number
  context: number
  heads: number
  head: number
  bias?: boolean
  out?: number
}> {
  private inner = this.c.heads * this.c.head
  toQ = new Linear({ in: this.c.size, out: this.inner, bias: this.c.bias ?? false })
  toK = new Linear({ in: this.c.context, out: this.inner, bias: this.c.bias ?? false })
  toV = new Linear({ in: this.c.context, out: this.inner, bias: this.c.bias ?? false })
  toOut = [new Linear({ in: this.inner, out: this.c.out ?? this.c.size })]

  forward(x: Tensor, context = x, images: readonly ImagePrompt[] = []): Tensor {
    // b s d   b t context
    const { heads } = this.c
    const q = this.toQ.forward(x)
    const k = this.toK.forward(context) // b t inner
    const v = this.toV.forward(context)
    const toK = images.length > 0 ? nameOf(this.toK.weight.tensor) : ""
    const heard = images.map(({ id, tokens, scale }) => {
      const [kIp, vIp] = (["k", "v"] as const).map((part) =>
        tokens.linear(parameter(imageKey(id, toK, part), [this.inner, tokens.shape[2] as number])),
      ) as [Tensor, Tensor]
      // attention is linear in its values
      return q.attention(kIp, vIp.mul(scale), { heads })
    })
    return this.toOut[0]!.forward(heard.reduce((h, y) => h.add(y), q.attention(k, v, { heads })))
  }
}

/** Gated linear unit with GELU, Shazeer 2020; as two products, because a Split copies. */
class Geglu extends Module<{ size: number; inner: number }> {
  proj = new Linear({ in: this.c.size, out: 2 * this.c.inner })

  forward(x: Tensor): Tensor {
    const { inner } = this.c
    return this.proj.rows(x, 0, inner).mul(this.proj.rows(x, inner, 2 * inner).gelu())
  }
}

class FeedForward extends Module<{ size: number }> {
  net = {
    0: new Geglu({ size: this.c.size, inner: 4 * this.c.size }),
    2: new Linear({ in: 4 * this.c.size, out: this.c.size }),
  }

  forward(x: Tensor): Tensor {
    return this.net[2].forward(this.net[0].forward(x))
  }
}

export interface BlockConfig {
  size: number
  context: number
  heads: number
  head: number
  /** The first attention reads the context too. */
  onlyCross?: boolean
}

/** Self-attention, attention to the prompt, feed-forward; each after a norm and added to its input (Rombach et al. 2022, sec. 3.3). */
export class TransformerBlock extends Module<BlockConfig> {
  norm1 = new LayerNorm({ size: this.c.size })
  attn1 = new Attention({ ...this.c, context: this.c.onlyCross ? this.c.context : this.c.size })
  norm2 = new LayerNorm({ size: this.c.size })
  attn2 = new Attention(this.c)
  norm3 = new LayerNorm({ size: this.c.size })
  ff = new FeedForward(this.c)

  /** @param merge makes fewer tokens of the places for the first attention, null where that is not possible */
  forward(
    x: Tensor,
    context: Tensor,
    images: readonly ImagePrompt[] = [],
    merge?: (x: Tensor) => Merging | null,
  ): Tensor {
    // b s d   b t context
    const normed = this.norm1.forward(x)
    const fewer = this.c.onlyCross ? null : (merge?.(x) ?? null)
    const seen = fewer?.merge(normed) ?? normed
    const heard = this.attn1.forward(seen, this.c.onlyCross ? context : seen)
    const h = x.add(fewer ? fewer.restore(heard) : heard)
    const g = h.add(this.attn2.forward(this.norm2.forward(h), context, images))
    return g.add(this.ff.forward(this.norm3.forward(g)))
  }
}

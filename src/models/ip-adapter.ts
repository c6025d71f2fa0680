import { fail } from "../errors.ts"
import { concat, type Graph, input, type Tensor } from "../graph/index.ts"
import { bind, LayerNorm, Linear, Module, Param } from "../nn/index.ts"

/** What an IP-Adapter's projection is, told from its file. */
export type IpProjection =
  /** The picture's embedding to a few tokens (Ye et al. 2023, sec. 3.2.1). */
  | { kind: "linear"; from: number; tokens: number; context: number }
  /** "Plus": queries that read the encoder's hidden states (a Perceiver resampler, Jaegle et al. 2021). */
  | {
      kind: "resampler"
      from: number
      tokens: number
      context: number
      width: number
      heads: number
      depth: number
      inner: number
    }
  /** "Full": every hidden state becomes a token. */
  | { kind: "full"; from: number; tokens: number; context: number }

/** Width of one head of the resampler, in all files. */
const head = 64

const refuse = (why: string): never =>
  fail("IP_ADAPTER_KIND", `this IP-Adapter ${why}`, {
    hint: "the adapters of h94/IP-Adapter for SD 1.5 and SDXL are read; FaceID ones are not",
  })

/** Tells a projection from its tensors (names with `image_proj.`). @throws IP_ADAPTER_KIND */
export function ipProjection(shapes: ReadonlyMap<string, readonly number[]>): IpProjection {
  const of = (name: string) => shapes.get(`image_proj.${name}`)
  const [linear, norm] = [of("proj.weight"), of("norm.weight")]
  if (linear && norm)
    return { kind: "linear", from: linear[1]!, tokens: linear[0]! / norm[0]!, context: norm[0]! }
  const [into, last] = [of("proj.0.weight"), of("proj.3.weight")]
  if (into && last) return { kind: "full", from: into[1]!, tokens: 0, context: last[0]! }
  const [latents, first, out] = [of("latents"), of("proj_in.weight"), of("proj_out.weight")]
  const [q, inner] = [of("layers.0.0.to_q.weight"), of("layers.0.1.1.weight")]
  if (!latents || !first || !out || !q || !inner) return refuse("has a projection of another kind")
  const depth =
    1 + Math.max(...[...shapes.keys()].map((n) => Number(/^image_proj\.layers\.(\d+)\./.exec(n)?.[1] ?? 0)))
  if (depth > 64) refuse(`has ${depth} layers`)
  return {
    kind: "resampler",
    from: first[1]!,
    tokens: latents[1]!,
    context: out[0]!,
    width: latents[2]!,
    heads: q[0]! / head,
    depth,
    inner: inner[0]!,
  }
}

type Of<K extends IpProjection["kind"]> = Extract<IpProjection, { kind: K }>

class LinearProjection extends Module<Of<"linear">> {
  proj = new Linear({ in: this.c.from, out: this.c.tokens * this.c.context })
  norm = new LayerNorm({ size: this.c.context })

  forward(embeds: Tensor): Tensor {
    // 1 p -> 1 n d
    return this.norm.forward(this.proj.forward(embeds).reshape([1, this.c.tokens, this.c.context]))
  }
}

class PerceiverAttention extends Module<Of<"resampler">> {
  norm1 = new LayerNorm({ size: this.c.width })
  norm2 = new LayerNorm({ size: this.c.width })
  toQ = new Linear({ in: this.c.width, out: head * this.c.heads, bias: false })
  toKv = new Linear({ in: this.c.width, out: 2 * head * this.c.heads, bias: false })
  toOut = new Linear({ in: head * this.c.heads, out: this.c.width, bias: false })

  forward(x: Tensor, latents: Tensor): Tensor {
    const inner = head * this.c.heads
    const asked = this.norm2.forward(latents)
    const seen = concat([this.norm1.forward(x), asked], 1)
    const [k, v] = [this.toKv.rows(seen, 0, inner), this.toKv.rows(seen, inner, 2 * inner)]
    return this.toOut.forward(this.toQ.forward(asked).attention(k, v, { heads: this.c.heads }))
  }
}

class ResamplerLayer extends Module<Of<"resampler">> {
  0 = new PerceiverAttention(this.c)
  1 = {
    0: new LayerNorm({ size: this.c.width }),
    1: new Linear({ in: this.c.width, out: this.c.inner, bias: false }),
    3: new Linear({ in: this.c.inner, out: this.c.width, bias: false }),
  }

  forward(x: Tensor, latents: Tensor): Tensor {
    const h = latents.add(this[0].forward(x, latents))
    return h.add(this[1][3].forward(this[1][1].forward(this[1][0].forward(h)).gelu()))
  }
}

class Resampler extends Module<Of<"resampler">> {
  latents = new Param(1, this.c.tokens, this.c.width)
  projIn = new Linear({ in: this.c.from, out: this.c.width })
  projOut = new Linear({ in: this.c.width, out: this.c.context })
  normOut = new LayerNorm({ size: this.c.context })
  layers = Array.from({ length: this.c.depth }, () => new ResamplerLayer(this.c))

  forward(hidden: Tensor): Tensor {
    // 1 t d -> 1 n context
    const x = this.projIn.forward(hidden)
    const read = this.layers.reduce((y, layer) => layer.forward(x, y), this.latents.tensor)
    return this.normOut.forward(this.projOut.forward(read))
  }
}

class FullProjection extends Module<Of<"full">> {
  proj = {
    0: new Linear({ in: this.c.from, out: this.c.from }),
    2: new Linear({ in: this.c.from, out: this.c.context }),
    3: new LayerNorm({ size: this.c.context }),
  }

  forward(hidden: Tensor): Tensor {
    return this.proj[3].forward(this.proj[2].forward(this.proj[0].forward(hidden).gelu()))
  }
}

/** The projection under an IP-Adapter file's own keys (`image_proj.`). */
export class IpImageProjection extends Module<IpProjection> {
  imageProj = projection(this.c)
}

function projection(c: IpProjection): LinearProjection | Resampler | FullProjection {
  if (c.kind === "linear") return new LinearProjection(c)
  return c.kind === "resampler" ? new Resampler(c) : new FullProjection(c)
}

/** Input `seen`: 1 p embeddings for the linear kind, else 1 t d hidden states; output `tokens` 1 n context. */
export function ipProjectionGraph(c: IpProjection, count: number): { net: IpImageProjection; graph: Graph } {
  const net = bind(new IpImageProjection(c))
  const seen = input("seen", c.kind === "linear" ? [1, c.from] : [1, count, c.from])
  return { net, graph: { outputs: { tokens: net.imageProj.forward(seen) } } }
}

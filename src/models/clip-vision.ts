import { z } from "zod"
import { concat, type Graph, input, type Tensor } from "../graph/index.ts"
import { activation, bind, Conv2d, LayerNorm, Linear, Module, Param } from "../nn/index.ts"
import { amount, refuse, size } from "./config.ts"

const schema = z.object({
  hidden_size: size.default(768),
  intermediate_size: size.default(3072),
  num_hidden_layers: amount.default(12),
  num_attention_heads: size.default(12),
  image_size: size.max(1024).default(224),
  patch_size: size.default(32),
  num_channels: z.literal(3).default(3),
  projection_dim: size.default(512),
  hidden_act: z.enum(["quick_gelu", "gelu"]).default("quick_gelu"),
  layer_norm_eps: z.number().positive().default(1e-5),
})

export type ClipVisionConfig = z.infer<typeof schema>

/** Reads the config.json of transformers' CLIPVisionModelWithProjection. */
export function clipVisionConfig(json: unknown): ClipVisionConfig {
  const what = "image encoder config"
  const done = schema.safeParse(json)
  if (!done.success) {
    const issue = done.error.issues[0]!
    return refuse(what, issue.path.join("."), issue.message)
  }
  const c = done.data
  if (c.hidden_size % c.num_attention_heads !== 0)
    refuse(what, "num_attention_heads", `${c.num_attention_heads} does not divide ${c.hidden_size}`)
  if (c.image_size % c.patch_size !== 0)
    refuse(what, "patch_size", `${c.patch_size} does not divide ${c.image_size}`)
  return c
}

/** Patches in a picture, and the one token for the whole. */
export const visionTokens = (c: ClipVisionConfig): number => (c.image_size / c.patch_size) ** 2 + 1

class SelfAttention extends Module<ClipVisionConfig> {
  kProj = new Linear({ in: this.c.hidden_size, out: this.c.hidden_size })
  vProj = new Linear({ in: this.c.hidden_size, out: this.c.hidden_size })
  qProj = new Linear({ in: this.c.hidden_size, out: this.c.hidden_size })
  outProj = new Linear({ in: this.c.hidden_size, out: this.c.hidden_size })

  forward(x: Tensor): Tensor {
    const [k, v] = [this.kProj.forward(x), this.vProj.forward(x)]
    return this.outProj.forward(this.qProj.forward(x).attention(k, v, { heads: this.c.num_attention_heads }))
  }
}

class Mlp extends Module<ClipVisionConfig> {
  fc1 = new Linear({ in: this.c.hidden_size, out: this.c.intermediate_size })
  fc2 = new Linear({ in: this.c.intermediate_size, out: this.c.hidden_size })

  forward(x: Tensor): Tensor {
    return this.fc2.forward(activation[this.c.hidden_act](this.fc1.forward(x)))
  }
}

const norm = (c: ClipVisionConfig) => new LayerNorm({ size: c.hidden_size, eps: c.layer_norm_eps })

class Layer extends Module<ClipVisionConfig> {
  selfAttn = new SelfAttention(this.c)
  layerNorm1 = norm(this.c)
  mlp = new Mlp(this.c)
  layerNorm2 = norm(this.c)

  forward(x: Tensor): Tensor {
    const h = x.add(this.selfAttn.forward(this.layerNorm1.forward(x)))
    return h.add(this.mlp.forward(this.layerNorm2.forward(h)))
  }
}

class Embeddings extends Module<ClipVisionConfig> {
  classEmbedding = new Param(this.c.hidden_size)
  patchEmbedding = new Conv2d({
    in: 3,
    out: this.c.hidden_size,
    k: this.c.patch_size,
    stride: this.c.patch_size,
    pad: 0,
    bias: false,
  })
  positionEmbedding = { weight: new Param(visionTokens(this.c), this.c.hidden_size) }

  forward(pixels: Tensor): Tensor {
    // 1 3 s s -> 1 t d
    const patches = this.patchEmbedding.forward(pixels).rearrange("b c h w -> b (h w) c")
    const whole = this.classEmbedding.tensor.reshape([1, 1, this.c.hidden_size])
    return concat([whole, patches], 1).add(this.positionEmbedding.weight.tensor)
  }
}

class VisionModel extends Module<ClipVisionConfig> {
  embeddings = new Embeddings(this.c)
  // spelt as in the reference, whose files have it so
  preLayrnorm = norm(this.c)
  encoder = { layers: Array.from({ length: this.c.num_hidden_layers }, () => new Layer(this.c)) }
  postLayernorm = norm(this.c)
}

/** CLIP's picture transformer: Radford et al. 2021, sec. 2.4; Dosovitskiy et al. 2021. Key layout: transformers. */
export class ClipVision extends Module<ClipVisionConfig> {
  visionModel = new VisionModel(this.c)
  visualProjection = new Linear({ in: this.c.hidden_size, out: this.c.projection_dim, bias: false })

  /** Hidden states: after the first norm, then the output of each layer; 1 t d. */
  hidden(pixels: Tensor): Tensor[] {
    const { embeddings, preLayrnorm, encoder } = this.visionModel
    const states = [preLayrnorm.forward(embeddings.forward(pixels))]
    for (const layer of encoder.layers) states.push(layer.forward(states.at(-1)!))
    return states
  }

  /** The picture's place in the space shared with texts: 1 p. */
  embed(last: Tensor): Tensor {
    const first = last.slice(1, 0, 1).reshape([1, this.c.hidden_size])
    return this.visualProjection.forward(this.visionModel.postLayernorm.forward(first))
  }
}

/** Input `pixels` 1 3 s s, normalised; outputs `embeds` 1 p, `hidden` 1 t d: the last layer but one. */
export function clipVisionGraph(c: ClipVisionConfig): { net: ClipVision; graph: Graph } {
  const net = bind(new ClipVision(c))
  const states = net.hidden(input("pixels", [1, 3, c.image_size, c.image_size]))
  return { net, graph: { outputs: { embeds: net.embed(states.at(-1)!), hidden: states.at(-2)! } } }
}

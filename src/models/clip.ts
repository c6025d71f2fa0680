import { z } from "zod"
import { fail } from "../errors.ts"
import { constant, type Dim, type Graph, input, symbol, type Tensor } from "../graph/index.ts"
import { activation, bind, Embedding, LayerNorm, Linear, Module } from "../nn/index.ts"
import { amount, refuse, size } from "./config.ts"

const schema = z.object({
  hidden_size: size.default(512),
  intermediate_size: size.default(2048),
  num_hidden_layers: amount.default(12),
  num_attention_heads: size.default(8),
  max_position_embeddings: size.max(1024).default(77),
  vocab_size: size.default(49408),
  projection_dim: z.number().int().nullable().default(512),
  hidden_act: z.enum(["quick_gelu", "gelu"]).default("quick_gelu"),
  layer_norm_eps: z.number().positive().default(1e-5),
  eos_token_id: z
    .union([z.number().int(), z.array(z.number().int())])
    .nullable()
    .default(49407),
  use_attention_mask: z.boolean().nullish(),
})

export type ClipConfig = z.infer<typeof schema> & { projection: boolean }

/** Reads a text encoder's config.json (transformers' CLIPTextModel and CLIPTextModelWithProjection). */
export function clipConfig(json: unknown): ClipConfig {
  const what = "text encoder config"
  const done = schema.safeParse(json)
  if (!done.success) {
    const issue = done.error.issues[0]!
    return refuse(what, issue.path.join("."), issue.message)
  }
  const c = done.data
  const kind = (json as { architectures?: unknown }).architectures
  const name = Array.isArray(kind) ? String(kind[0]) : "CLIPTextModel"
  if (!["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"].includes(name))
    refuse(what, "architectures", `${name} is not a CLIP text encoder`)
  if (c.hidden_size % c.num_attention_heads !== 0)
    refuse(
      what,
      "num_attention_heads",
      `${c.num_attention_heads} does not divide hidden_size ${c.hidden_size}`,
    )
  if (c.use_attention_mask) refuse(what, "use_attention_mask", "true is not supported")
  return { ...c, projection: name === "CLIPTextModelWithProjection" }
}

/** Textual inversion (Gal et al. 2022): vectors in the place of ids that the vocabulary does not have. */
interface Words {
  table: Tensor
  places: Tensor
  ordinary: Tensor
}

function wordInputs(c: ClipConfig, b: Dim): Words {
  const t = c.max_position_embeddings
  return {
    table: input("words", [symbol("words"), c.hidden_size]),
    places: input("places", [b, t], "i64"),
    ordinary: input("ordinary", [b, t, 1]),
  }
}

class Embeddings extends Module<ClipConfig> {
  tokenEmbedding = new Embedding({ count: this.c.vocab_size, size: this.c.hidden_size })
  positionEmbedding = new Embedding({ count: this.c.max_position_embeddings, size: this.c.hidden_size })

  forward(ids: Tensor, words: Words | null = null): Tensor {
    // b t -> b t d
    const known = this.tokenEmbedding.forward(ids)
    return (words ? known.mul(words.ordinary).add(words.table.gather(words.places)) : known).add(
      this.positionEmbedding.weight.tensor.slice(0, 0, ids.shape[1]!),
    )
  }
}

class SelfAttention extends Module<ClipConfig> {
  kProj = new Linear({ in: this.c.hidden_size, out: this.c.hidden_size })
  vProj = new Linear({ in: this.c.hidden_size, out: this.c.hidden_size })
  qProj = new Linear({ in: this.c.hidden_size, out: this.c.hidden_size })
  outProj = new Linear({ in: this.c.hidden_size, out: this.c.hidden_size })

  forward(x: Tensor, mask: Tensor): Tensor {
    // b t d   1 1 t t
    const [q, k, v] = [this.qProj, this.kProj, this.vProj].map((p) => p.forward(x)) as [
      Tensor,
      Tensor,
      Tensor,
    ]
    return this.outProj.forward(q.attention(k, v, { heads: this.c.num_attention_heads }, mask))
  }
}

class Mlp extends Module<ClipConfig> {
  fc1 = new Linear({ in: this.c.hidden_size, out: this.c.intermediate_size })
  fc2 = new Linear({ in: this.c.intermediate_size, out: this.c.hidden_size })

  forward(x: Tensor): Tensor {
    return this.fc2.forward(activation[this.c.hidden_act](this.fc1.forward(x)))
  }
}

class Layer extends Module<ClipConfig> {
  selfAttn = new SelfAttention(this.c)
  layerNorm1 = new LayerNorm({ size: this.c.hidden_size, eps: this.c.layer_norm_eps })
  mlp = new Mlp(this.c)
  layerNorm2 = new LayerNorm({ size: this.c.hidden_size, eps: this.c.layer_norm_eps })

  forward(x: Tensor, mask: Tensor): Tensor {
    const h = x.add(this.selfAttn.forward(this.layerNorm1.forward(x), mask))
    return h.add(this.mlp.forward(this.layerNorm2.forward(h)))
  }
}

class TextModel extends Module<ClipConfig> {
  embeddings = new Embeddings(this.c)
  encoder = { layers: Array.from({ length: this.c.num_hidden_layers }, () => new Layer(this.c)) }
  finalLayerNorm = new LayerNorm({ size: this.c.hidden_size, eps: this.c.layer_norm_eps })
}

/** CLIP's text transformer: Radford et al. 2021, sec. 2.4. Key layout: transformers. */
export class ClipText extends Module<ClipConfig> {
  textModel = new TextModel(this.c)
  textProjection = this.c.projection
    ? new Linear({ in: this.c.hidden_size, out: this.c.projection_dim ?? this.c.hidden_size, bias: false })
    : null

  /** Hidden states: the embeddings, then the output of each layer. */
  hidden(embedded: Tensor): Tensor[] {
    const mask = causal(embedded.shape[1] as number)
    const states = [embedded]
    for (const layer of this.textModel.encoder.layers) states.push(layer.forward(states.at(-1)!, mask))
    return states
  }
}

/** Zero where a token may look (itself and before), a large negative number elsewhere; 1 1 t t. */
function causal(t: number): Tensor {
  const data = Float32Array.from({ length: t * t }, (_, i) => (i % t > Math.floor(i / t) ? -1e9 : 0))
  return constant(data, [1, 1, t, t], "f32")
}

export interface ClipOutputs {
  /** Which layer's output: 1 is the last, 2 the one before (A1111's clip skip). */
  skip: number
  /** Whether the final norm is applied to it (SD 1.x, 2.x) or not (SDXL). */
  norm: boolean
  /** Whether textual-inversion words can stand among the ids: inputs `places`, `ordinary` and `words`. */
  words?: boolean
}

/**
 * The encoder as a graph. Inputs: `ids` b t (int64) and, for models with a projection, `ends` b: the flat position
 * of each row's end token. With words also `words` n d (row 0 is zero), `places` b t: the row of each place, 0 for ids
 * of the vocabulary, and `ordinary` b t 1: 1 for those, 0 for words. Outputs: `hidden` b t d, with a projection also `pooled` b p (of the last layer).
 * @throws CLIP_SKIP when there are fewer layers.
 */
export function clipGraph(
  c: ClipConfig,
  { skip, norm, words }: ClipOutputs,
): { net: ClipText; graph: Graph } {
  if (!(Number.isInteger(skip) && skip >= 1 && skip <= c.num_hidden_layers)) {
    fail("CLIP_SKIP", `clip skip ${skip} of a text encoder with ${c.num_hidden_layers} layers`, {
      hint: `use 1 to ${c.num_hidden_layers}`,
    })
  }
  const net = bind(new ClipText(c))
  const b = symbol("b")
  const ids = input("ids", [b, c.max_position_embeddings], "i64")
  const added = words ? wordInputs(c, b) : null
  const states = net.hidden(net.textModel.embeddings.forward(ids, added))
  const chosen = states.at(-skip)!
  const final = (x: Tensor) => net.textModel.finalLayerNorm.forward(x)
  const hidden = norm ? final(chosen) : chosen
  if (!net.textProjection) return { net, graph: { outputs: { hidden } } }
  const ends = input("ends", [b], "i64")
  const last = final(states.at(-1)!).rearrange("b t d -> (b t) d")
  return { net, graph: { outputs: { hidden, pooled: net.textProjection.forward(last.gather(ends)) } } }
}

/** Position of the token that stands for the whole text: transformers' rule, with its exception for old configs. */
export function endPosition(ids: ArrayLike<number>, c: ClipConfig): number {
  const list = Array.from(ids)
  const eos = Array.isArray(c.eos_token_id) ? c.eos_token_id[0] : c.eos_token_id
  if (eos === 2 || eos === null || eos === undefined) return list.indexOf(Math.max(...list))
  return Math.max(0, list.indexOf(eos))
}

import { type Dim, type Graph, input, type Tensor } from "../graph/index.ts"
import { bind } from "../nn/index.ts"
import { type Extras, UNet } from "./unet.ts"
import type { UNetConfig } from "./unet-config.ts"

/** What is added to a U-Net beside its own inputs. */
export interface UNetParts extends Pick<Extras, "controls" | "features" | "merge"> {
  /** Image prompts, by the name before their weights' names and the number of their tokens: inputs `image0`, `image0.scale` ... */
  images?: readonly { id: string; tokens: number }[]
  /** What comes up to the last layer: told as the output `deep`, or given as the input `deep`; all before falls away then. */
  deep?: "told" | "given"
}

/**
 * The U-Net as a graph. Inputs: `latents` b c h w, `timestep` 1, `context` b t d, and as configured `text_embeds`,
 * `time_ids`, `guidance`. Output: `out` b c h w, in the model's own parametrisation.
 */
export function unetGraph(
  c: UNetConfig,
  sizes: { b: Dim; h: Dim; w: Dim; tokens: Dim },
  { controls = 0, features = [], images = [], merge = 0, deep }: UNetParts = {},
): { net: UNet; graph: Graph } {
  const net = bind(new UNet(c))
  const { context, extras } = conditionInputs(c, sizes)
  const prompts = images.map(({ id, tokens }, i) => ({
    id,
    tokens: input(`image${i}`, [sizes.b, tokens, context.shape[2]!]),
    scale: input(`image${i}.scale`, [1, 1, 1]),
  }))
  const told: Record<string, Tensor> = {}
  const pass = (h: Tensor): Tensor => {
    if (deep === "told") told.deep = h
    return deep === "given" ? input("deep", h.shape) : h
  }
  const out = net.forward(
    input("latents", [sizes.b, c.in_channels, sizes.h, sizes.w]),
    input("timestep", [1]),
    context,
    { ...extras, controls, features, images: prompts, merge, deep: pass },
  )
  return { net, graph: { outputs: { out, ...told } } }
}

/** The inputs beside latents and time that a configuration asks for. */
export function conditionInputs(
  c: UNetConfig,
  { b, tokens }: { b: Dim; tokens: Dim },
): { context: Tensor; extras: Extras } {
  const context = input("context", [
    b,
    tokens,
    c.down.find((l) => l.attention)?.context ?? c.mid?.context ?? 1,
  ])
  const extras: Extras = {
    ...(c.addition_embed_type
      ? {
          textEmbeds: input("text_embeds", [
            b,
            c.projection_class_embeddings_input_dim! - c.sizeIds * c.addition_time_embed_dim!,
          ]),
          timeIds: input("time_ids", [b, c.sizeIds]),
        }
      : {}),
    ...(c.time_cond_proj_dim ? { guidance: input("guidance", [b, c.time_cond_proj_dim]) } : {}),
  }
  return { context, extras }
}

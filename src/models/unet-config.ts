import { z } from "zod"
import { amount, levels, perLevel, readConfig, refuse, size } from "./config.ts"

const downTypes = ["DownBlock2D", "CrossAttnDownBlock2D"] as const
const upTypes = ["UpBlock2D", "CrossAttnUpBlock2D"] as const

const schema = z.object({
  in_channels: size.default(4),
  out_channels: size.default(4),
  center_input_sample: z.boolean().default(false),
  flip_sin_to_cos: z.boolean().default(true),
  freq_shift: z.number().default(0),
  down_block_types: z
    .array(z.enum(downTypes))
    .min(1)
    .default(["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]),
  mid_block_type: z
    .enum(["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"])
    .nullable()
    .default("UNetMidBlock2DCrossAttn"),
  up_block_types: z
    .array(z.enum(upTypes))
    .min(1)
    .default(["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]),
  only_cross_attention: perLevel(z.boolean()).default(false),
  mid_block_only_cross_attention: z.boolean().nullish(),
  block_out_channels: z.array(size).min(1).max(16).default([320, 640, 1280, 1280]),
  layers_per_block: perLevel(amount).default(2),
  downsample_padding: z.union([z.literal(0), z.literal(1)]).default(1),
  mid_block_scale_factor: z.number().default(1),
  dropout: z.number().default(0),
  act_fn: z.enum(["silu", "swish", "gelu", "relu"]).default("silu"),
  norm_num_groups: size.default(32),
  norm_eps: z.number().positive().default(1e-5),
  cross_attention_dim: perLevel(size).default(1280),
  transformer_layers_per_block: z.union([amount, z.array(z.union([amount, z.array(amount)]))]).default(1),
  reverse_transformer_layers_per_block: z.array(z.union([amount, z.array(amount)])).nullish(),
  attention_head_dim: perLevel(size).default(8),
  use_linear_projection: z.boolean().default(false),
  upcast_attention: z.boolean().nullish(),
  addition_embed_type: z.literal("text_time").nullish(),
  addition_time_embed_dim: size.nullish(),
  projection_class_embeddings_input_dim: size.nullish(),
  resnet_time_scale_shift: z.enum(["default", "scale_shift"]).default("default"),
  // diffusers hands it to no block type of this list
  resnet_out_scale_factor: z.number().default(1),
  time_embedding_type: z.literal("positional").default("positional"),
  time_embedding_dim: size.nullish(),
  time_embedding_act_fn: z.enum(["silu", "swish", "gelu", "relu"]).nullish(),
  timestep_post_act: z.enum(["silu", "swish", "gelu", "relu"]).nullish(),
  time_cond_proj_dim: size.nullish(),
  conv_in_kernel: size.default(3),
  conv_out_kernel: size.default(3),
  attention_type: z.literal("default").default("default"),
  addition_embed_type_num_heads: z.number().default(64),
  // kept by every saver; anything but these values is another kind of network
  num_attention_heads: z.null().optional(),
  dual_cross_attention: z.literal(false).optional(),
  encoder_hid_dim: z.null().optional(),
  encoder_hid_dim_type: z.null().optional(),
  class_embed_type: z.null().optional(),
  num_class_embeds: z.null().optional(),
  resnet_skip_time_act: z.literal(false).optional(),
  class_embeddings_concat: z.literal(false).optional(),
  cross_attention_norm: z.null().optional(),
})

type Raw = z.infer<typeof schema>
/** Transformer blocks per attention of a level: one number, or one per layer. */
type Depth = number | readonly number[]

/** One level of the U-Net, on the way down or up. */
export interface Level {
  channels: number
  layers: number
  attention: boolean
  onlyCross: boolean
  heads: number
  context: number
  /** Transformer blocks per attention, one number per layer. */
  depth: readonly number[]
}

export interface UNetConfig extends Raw {
  down: readonly Level[]
  up: readonly Level[]
  mid: { attention: boolean; heads: number; context: number; depth: number; onlyCross: boolean } | null
  timeSize: number
  /** Numbers beside SDXL's pooled text: sizes and crops; the refiner's five end with an aesthetic score. */
  sizeIds: 5 | 6
}

/** Reads the config.json of diffusers' UNet2DConditionModel, spread to one entry per level. */
export function unetConfig(json: unknown): UNetConfig {
  const what = "U-Net config"
  const name = (json as { _class_name?: unknown })._class_name
  if (name !== undefined && name !== "UNet2DConditionModel")
    refuse(what, "_class_name", `${String(name)} is not UNet2DConditionModel`)
  const c = readConfig(schema, json, what)
  check(what, c)
  const count = c.block_out_channels.length
  const heads = levels(what, "attention_head_dim", c.attention_head_dim, count)
  const context = levels(what, "cross_attention_dim", c.cross_attention_dim, count)
  const layers = levels(what, "layers_per_block", c.layers_per_block, count)
  const onlyCross = levels(what, "only_cross_attention", c.only_cross_attention, count)
  const depth = levels<Depth>(what, "transformer_layers_per_block", c.transformer_layers_per_block, count)
  const reversed = c.reverse_transformer_layers_per_block ?? [...depth].reverse()
  const upDepth = levels<Depth>(what, "reverse_transformer_layers_per_block", reversed, count)
  const spread = (d: Depth, n: number) => levels(what, "transformer_layers_per_block", d as number, n)
  const level = (i: number, attention: boolean, n: number, d: Depth): Level => ({
    channels: c.block_out_channels[i]!,
    layers: n,
    attention,
    onlyCross: onlyCross[i]!,
    heads: heads[i]!,
    context: context[i]!,
    depth: spread(d, n),
  })
  return {
    ...c,
    down: c.down_block_types.map((type, i) => level(i, type.startsWith("CrossAttn"), layers[i]!, depth[i]!)),
    up: c.up_block_types.map((type, i) =>
      level(count - 1 - i, type.startsWith("CrossAttn"), layers[count - 1 - i]! + 1, upDepth[i]!),
    ),
    mid: middle(c, heads.at(-1)!, context.at(-1)!, depth.at(-1)!),
    sizeIds: 6,
    timeSize: c.time_embedding_dim ?? 4 * c.block_out_channels[0]!,
  }
}

function middle(c: Raw, heads: number, context: number, depth: Depth): UNetConfig["mid"] {
  if (c.mid_block_type === null) return null
  const attention = c.mid_block_type === "UNetMidBlock2DCrossAttn"
  return { attention, heads, context, depth: typeof depth === "number" ? depth : depth[0]!, onlyCross: false }
}

function check(what: string, c: Raw): void {
  const count = c.block_out_channels.length
  levels(what, "down_block_types", c.down_block_types, count)
  levels(what, "up_block_types", c.up_block_types, count)
  const uneven = c.block_out_channels.find((channels) => channels % c.norm_num_groups !== 0)
  if (uneven) refuse(what, "norm_num_groups", `${c.norm_num_groups} does not divide ${uneven} channels`)
  if (c.addition_embed_type && !(c.addition_time_embed_dim && c.projection_class_embeddings_input_dim)) {
    refuse(
      what,
      "addition_embed_type",
      "text_time needs addition_time_embed_dim and projection_class_embeddings_input_dim",
    )
  }
  if (
    Array.isArray(c.transformer_layers_per_block) &&
    c.transformer_layers_per_block.some(Array.isArray) &&
    !c.reverse_transformer_layers_per_block
  ) {
    refuse(
      what,
      "reverse_transformer_layers_per_block",
      "must be given when transformer_layers_per_block is nested",
    )
  }
}

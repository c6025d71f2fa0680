import { fail } from "../errors.ts"
import type { UnetLayout } from "./ldm-unet.ts"
import type { Config, Family } from "./model-files.ts"
import type { TensorView } from "./view.ts"

type Tensors = ReadonlyMap<string, TensorView>

/** One axis of a tensor that a network of this kind always has. Error: CHECKPOINT_INCOMPLETE. */
function size(tensors: Tensors, key: string, axis: number, what: string): number {
  const view = tensors.get(key)
  const found = view?.shape[axis]
  if (found !== undefined) return found
  const file = view?.file ?? tensors.values().next().value?.file
  return fail(
    "CHECKPOINT_INCOMPLETE",
    `${what} has no usable ${key}${file === undefined ? "" : ` in ${file}`}`,
    {
      ...(file === undefined ? {} : { file }),
      hint: "the file holds only a part of a model, or another kind of model",
    },
  )
}

/** The one value of a list whose entries are all equal, else the list: diffusers' short form. */
export function oneOrList<T>(list: T[]): T | T[] {
  return list.length > 0 && list.every((v) => JSON.stringify(v) === JSON.stringify(list[0])) ? list[0]! : list
}

/** Facts about a U-Net that its shapes do not tell. */
export interface UnetFacts {
  family: Family
  /** From a config beside the file: so many heads everywhere, or heads so wide. */
  heads?: { count?: number | undefined; width?: number | undefined }
  /** Latents' side at the native size. */
  sampleSize: number
  /** Channels out, for networks that have no `out` (ControlNet). */
  outChannels?: number
  /** Width of the text encoder, for U-Nets that attend to nothing; diffusers' default 1280 otherwise. */
  textWidth?: number | undefined
  /** Width of the pooled text embedding, where there is one. */
  pooled?: number | undefined
}

/** UNet2DConditionModel's config from a U-Net's LDM keys and shapes. Heads: 8 in SD 1.x, else 64 wide. */
export function unetConfig(tensors: Tensors, layout: UnetLayout, facts: UnetFacts): Config {
  const what = "the U-Net"
  const widths = layout.down.map((level) => size(tensors, `${level.lastResnet}.out_layers.3.weight`, 0, what))
  const attention = layout.attention
  const context = attention === undefined ? undefined : `${attention}.transformer_blocks.0.attn2.to_k.weight`
  const projection = attention === undefined ? undefined : tensors.get(`${attention}.proj_in.weight`)
  const types = (levels: UnetLayout["down"], side: string) =>
    levels.map((level) => (level.depths.some((d) => d > 0) ? `CrossAttn${side}Block2D` : `${side}Block2D`))
  return {
    _class_name: "UNet2DConditionModel",
    act_fn: "silu",
    sample_size: facts.sampleSize,
    in_channels: size(tensors, "input_blocks.0.0.weight", 1, what),
    out_channels: facts.outChannels ?? size(tensors, "out.2.weight", 0, what),
    block_out_channels: widths,
    down_block_types: types(layout.down, "Down"),
    mid_block_type: ["UNetMidBlock2DCrossAttn", "UNetMidBlock2D", null][
      layout.midDepth > 0 ? 0 : layout.midResnets > 0 ? 1 : 2
    ],
    up_block_types: types(layout.up, "Up"),
    layers_per_block: oneOrList(layout.down.map((level) => level.depths.length)),
    cross_attention_dim: context === undefined ? (facts.textWidth ?? 1280) : size(tensors, context, 1, what),
    attention_head_dim: headsOf(widths, facts),
    use_linear_projection: projection?.shape.length === 2,
    ...depths(layout),
    ...embeddings(tensors, facts),
    norm_num_groups: 32,
    norm_eps: 1e-5,
    flip_sin_to_cos: true,
    freq_shift: 0,
    center_input_sample: false,
    downsample_padding: 1,
    mid_block_scale_factor: 1,
  }
}

/** diffusers' attention_head_dim, which means the number of heads. */
function headsOf(widths: number[], { family, heads }: UnetFacts): number | number[] {
  if (heads?.count !== undefined) return heads.count
  if (heads?.width === undefined && family === "sd1") return 8
  return widths.map((width) => Math.max(1, Math.floor(width / (heads?.width ?? 64))))
}

/** transformer_layers_per_block, and its reverse where the way up is no mirror of the way down. */
function depths(layout: UnetLayout): Config {
  const last = layout.down.length - 1
  const plain = (i: number) => (i === last && layout.midDepth > 0 ? layout.midDepth : 1)
  const down = layout.down.map(({ depths }, i) => (depths.some((d) => d > 0) ? oneOrList(depths) : plain(i)))
  const with_ = layout.down.flatMap(({ depths }, i) => (depths.some((d) => d > 0) ? [down[i]!] : []))
  if (layout.midDepth > 0) with_.push(layout.midDepth)
  const same = oneOrList(with_)
  const all = with_.length === 0 ? 1 : Array.isArray(same) ? down : same
  const mirror = [...down].reverse()
  const up = layout.up.map(({ depths }, i) =>
    depths.some((d) => d > 0) ? oneOrList(depths) : (mirror[i] ?? 1),
  )
  const mirrored = JSON.stringify(up) === JSON.stringify(mirror) && !down.some(Array.isArray)
  return {
    transformer_layers_per_block: all,
    ...(mirrored ? {} : { reverse_transformer_layers_per_block: up }),
  }
}

/** What is added to the time embedding: SDXL's text and sizes, an image's embedding, a noise level, LCM's guidance. */
function embeddings(tensors: Tensors, { family, pooled }: UnetFacts): Config {
  const out: Config = {}
  const cond = tensors.get("time_embed.cond_proj.weight") ?? tensors.get("time_embedding.cond_proj.weight")
  if (cond) out.time_cond_proj_dim = cond.shape[1]
  const classes = tensors.get("label_emb.weight")
  if (classes) out.num_class_embeds = classes.shape[0]
  const input = tensors.get("label_emb.0.0.weight")?.shape[1]
  if (input === undefined) return out
  out.projection_class_embeddings_input_dim = input
  if (!family.startsWith("sdxl")) return { ...out, class_embed_type: "projection" }
  const ids = family === "sdxl" ? 6 : 5
  const each = pooled === undefined ? 256 : (input - pooled) / ids
  return {
    ...out,
    addition_embed_type: "text_time",
    addition_time_embed_dim: each > 0 && Number.isInteger(each) ? each : 256,
  }
}

/** AutoencoderKL's config from diffusers' keys and shapes, as ldm-vae.ts names them. */
export function vaeConfig(
  tensors: Tensors,
  facts: { scale: number; family: Family; sampleSize: number },
): Config {
  const what = "the VAE"
  const encoder = tensors.has("encoder.conv_in.weight")
  const side = encoder ? "encoder.down_blocks" : "decoder.up_blocks"
  const blocks: number[] = []
  const count = (at: string, part: string) => {
    let n = 0
    while (tensors.has(`${at}.${n}.${part}`)) n++
    return n
  }
  const levels = Math.max(1, count(side, "resnets.0.conv1.weight"))
  for (let i = 0; i < levels; i++) blocks.push(count(`${side}.${i}.resnets`, "conv1.weight"))
  const widths = blocks.map((_, i) => size(tensors, `${side}.${i}.resnets.0.conv2.weight`, 0, what))
  const outputs = size(tensors, "decoder.conv_out.weight", 0, what)
  return {
    _class_name: "AutoencoderKL",
    act_fn: "silu",
    sample_size: facts.sampleSize,
    in_channels: tensors.get("encoder.conv_in.weight")?.shape[1] ?? outputs,
    out_channels: outputs,
    block_out_channels: encoder ? widths : widths.reverse(),
    down_block_types: widths.map(() => "DownEncoderBlock2D"),
    up_block_types: widths.map(() => "UpDecoderBlock2D"),
    layers_per_block: encoder ? blocks[0] : blocks[0]! - 1,
    latent_channels: size(tensors, "decoder.conv_in.weight", 1, what),
    norm_num_groups: 32,
    scaling_factor: facts.scale,
    use_quant_conv: tensors.has("quant_conv.weight"),
    use_post_quant_conv: tensors.has("post_quant_conv.weight"),
    mid_block_add_attention: tensors.has("decoder.mid_block.attentions.0.to_q.weight"),
    force_upcast: facts.family.startsWith("sdxl"),
  }
}

/** CLIPTextModel's config from today's names: `text_model.` keys. Heads are 64 wide. */
export function textConfig(
  tensors: Tensors,
  facts: { act: "quick_gelu" | "gelu"; projection: boolean },
): Config {
  const what = "the text encoder"
  const hidden = size(tensors, "text_model.embeddings.token_embedding.weight", 1, what)
  let layers = 0
  while (tensors.has(`text_model.encoder.layers.${layers}.self_attn.q_proj.weight`)) layers++
  const projected = tensors.get("text_projection.weight")?.shape[0]
  return {
    architectures: [facts.projection ? "CLIPTextModelWithProjection" : "CLIPTextModel"],
    model_type: "clip_text_model",
    hidden_size: hidden,
    intermediate_size: size(tensors, "text_model.encoder.layers.0.mlp.fc1.weight", 0, what),
    num_hidden_layers: layers,
    num_attention_heads: Math.max(1, Math.floor(hidden / 64)),
    max_position_embeddings: size(tensors, "text_model.embeddings.position_embedding.weight", 0, what),
    vocab_size: size(tensors, "text_model.embeddings.token_embedding.weight", 0, what),
    projection_dim: projected ?? hidden,
    hidden_act: facts.act,
    layer_norm_eps: 1e-5,
    // as the published folders say; 2 means: the end is where the largest id stands
    bos_token_id: 0,
    eos_token_id: 2,
    pad_token_id: 1,
  }
}

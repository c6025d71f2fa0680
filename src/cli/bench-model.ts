import type { ModelLayout } from "../index.ts"

const unet = (channels: readonly number[], size: number) => ({
  _class_name: "UNet2DConditionModel",
  act_fn: "silu",
  attention_head_dim: 8,
  block_out_channels: channels,
  cross_attention_dim: size,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  in_channels: 4,
  layers_per_block: 2,
  norm_num_groups: 32,
  out_channels: 4,
  sample_size: 64,
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
})

const vae = (channels: readonly number[]) => ({
  _class_name: "AutoencoderKL",
  act_fn: "silu",
  block_out_channels: channels,
  down_block_types: Array(4).fill("DownEncoderBlock2D"),
  in_channels: 3,
  latent_channels: 4,
  layers_per_block: 2,
  norm_num_groups: 32,
  out_channels: 3,
  sample_size: 512,
  up_block_types: Array(4).fill("UpDecoderBlock2D"),
})

const textEncoder = (size: number) => ({
  architectures: ["CLIPTextModel"],
  bos_token_id: 0,
  eos_token_id: 2,
  pad_token_id: 1,
  hidden_act: "quick_gelu",
  hidden_size: size,
  intermediate_size: 4 * size,
  layer_norm_eps: 1e-5,
  max_position_embeddings: 77,
  model_type: "clip_text_model",
  num_attention_heads: size / 64,
  num_hidden_layers: size / 64,
  projection_dim: size,
  vocab_size: 49408,
})

const scheduler = {
  _class_name: "DDIMScheduler",
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  beta_start: 0.00085,
  clip_sample: false,
  num_train_timesteps: 1000,
  set_alpha_to_one: false,
  steps_offset: 1,
}

/** Stable Diffusion 1.5's shapes (860 M parameters in the U-Net), and a small model of the same build. */
export const layouts: Record<"sd15" | "quick", ModelLayout> = {
  sd15: {
    unet: unet([320, 640, 1280, 1280], 768),
    vae: vae([128, 256, 512, 512]),
    text_encoder: textEncoder(768),
    scheduler,
  },
  quick: {
    unet: unet([32, 64, 64, 64], 128),
    vae: vae([32, 32, 64, 64]),
    text_encoder: textEncoder(128),
    scheduler,
  },
}

/**
 * The tables between the original (LDM, CompVis) key layout and diffusers'. Block numbers are not here:
 * ldm-unet.ts reads them off the keys that are present.
 */

/** U-Net and ControlNet parts outside the blocks: LDM stem -> diffusers stem. */
export const UNET_FIXED: Record<string, string> = {
  "time_embed.0": "time_embedding.linear_1",
  "time_embed.2": "time_embedding.linear_2",
  "time_embed.cond_proj": "time_embedding.cond_proj",
  "time_embedding.cond_proj": "time_embedding.cond_proj",
  "input_blocks.0.0": "conv_in",
  "out.0": "conv_norm_out",
  "out.2": "conv_out",
}

/** `label_emb` is diffusers' add_embedding for SDXL, class_embedding for the SD 2.x models that take an image's embedding. */
export const LABEL_EMBEDDING: Record<string, string> = {
  "label_emb.0.0": "linear_1",
  "label_emb.0.2": "linear_2",
}

/** Parts of a U-Net's residual block. */
export const RESNET: Record<string, string> = {
  "in_layers.0": "norm1",
  "in_layers.2": "conv1",
  "emb_layers.1": "time_emb_proj",
  "out_layers.0": "norm2",
  "out_layers.3": "conv2",
  skip_connection: "conv_shortcut",
}

/** ControlNet's hint encoder: its convolutions stand at every second place of a Sequential. */
export const HINT: Record<string, string> = {
  "input_hint_block.0": "controlnet_cond_embedding.conv_in",
  "input_hint_block.2": "controlnet_cond_embedding.blocks.0",
  "input_hint_block.4": "controlnet_cond_embedding.blocks.1",
  "input_hint_block.6": "controlnet_cond_embedding.blocks.2",
  "input_hint_block.8": "controlnet_cond_embedding.blocks.3",
  "input_hint_block.10": "controlnet_cond_embedding.blocks.4",
  "input_hint_block.12": "controlnet_cond_embedding.blocks.5",
  "input_hint_block.14": "controlnet_cond_embedding.conv_out",
}

/** The VAE's attention parts; in LDM files the four matrices are 1x1 convolutions. */
export const VAE_ATTENTION: Record<string, string> = {
  norm: "group_norm",
  q: "to_q",
  k: "to_k",
  v: "to_v",
  proj_out: "to_out.0",
}

/** OpenCLIP's text tower outside its layers: name -> transformers' CLIP name. */
export const OPENCLIP_FIXED: Record<string, string> = {
  "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
  positional_embedding: "text_model.embeddings.position_embedding.weight",
  "ln_final.weight": "text_model.final_layer_norm.weight",
  "ln_final.bias": "text_model.final_layer_norm.bias",
}

/** Parts of one OpenCLIP layer; `attn.in_proj` holds q, k and v on top of each other. */
export const OPENCLIP_LAYER: Record<string, string> = {
  ln_1: "layer_norm1",
  ln_2: "layer_norm2",
  "attn.out_proj": "self_attn.out_proj",
  "mlp.c_fc": "mlp.fc1",
  "mlp.c_proj": "mlp.fc2",
}

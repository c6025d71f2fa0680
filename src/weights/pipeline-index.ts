/** `model_index.json` of a Stable Diffusion folder, as diffusers reads it. @param more keys with a leading underscore, which diffusers passes over */
export const pipelineIndex = (scheduler: unknown, more: Readonly<Record<`_${string}`, unknown>> = {}) => ({
  _class_name: "StableDiffusionPipeline",
  ...more,
  feature_extractor: [null, null],
  requires_safety_checker: false,
  safety_checker: [null, null],
  scheduler: ["diffusers", scheduler],
  text_encoder: ["transformers", "CLIPTextModel"],
  tokenizer: ["transformers", "CLIPTokenizer"],
  unet: ["diffusers", "UNet2DConditionModel"],
  vae: ["diffusers", "AutoencoderKL"],
})

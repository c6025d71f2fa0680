import type { Component, Config, Family, Prediction, Variant } from "./model-files.ts"

interface Parts {
  components: Map<string, Component>
  scheduler: Config
  index: Config
}

/**
 * Family of a diffusers folder, from its configs. SDXL adds text and size embeddings to the time embedding;
 * its refiner has no first text encoder. SD 2.x has OpenCLIP's text encoder, whose activation is GELU,
 * and linear projections around its attention; either alone is a small model's freedom.
 */
export function folderFamily({ components, index }: Parts): Family {
  const unet = components.get("unet")?.config ?? {}
  if (unet.addition_embed_type === "text_time" || /XL/.test(String(index._class_name ?? "")))
    return components.has("text_encoder") ? "sdxl" : "sdxl-refiner"
  const text = components.get("text_encoder")?.config
  const openClip = text === undefined || text.hidden_act === "gelu"
  return openClip && unet.use_linear_projection === true ? "sd2" : "sd1"
}

/** Variant of a diffusers folder: what its U-Net takes besides the latents. */
export function folderVariant({ components, scheduler, index }: Parts): Variant {
  const unet = components.get("unet")?.config ?? {}
  if (typeof unet.time_cond_proj_dim === "number" || scheduler._class_name === "LCMScheduler") return "lcm"
  if (/Upscale/.test(String(index._class_name ?? ""))) return "upscale"
  if (unet.class_embed_type === "projection") return "unclip"
  return inputVariant(Number(unet.in_channels ?? 4), Number(unet.out_channels ?? 4))
}

/** Variant told from the channels a U-Net takes: 9 with mask and picture, 8 with a picture, 5 with a depth map. */
export function inputVariant(inChannels: number, outChannels: number): Variant {
  if (inChannels === 2 * outChannels + 1) return "inpaint"
  if (inChannels === 2 * outChannels) return "instruct"
  if (inChannels === outChannels + 1) return "depth"
  return inChannels === outChannels + 3 ? "upscale" : "base"
}

/** diffusers' name of a prediction type as metadata and LDM configs spell it; undefined for other words. */
export function predictionName(word: string | undefined): Prediction | undefined {
  const names: Record<string, Prediction> = {
    eps: "epsilon",
    epsilon: "epsilon",
    v: "v_prediction",
    v_prediction: "v_prediction",
    "v-prediction": "v_prediction",
    vpred: "v_prediction",
    x0: "sample",
    sample: "sample",
  }
  return word === undefined ? undefined : names[word.toLowerCase()]
}

import { fail } from "../errors.ts"
import type { TensorView, Weights } from "./view.ts"

/** A config as diffusers and transformers write it to config.json. */
export type Config = { [key: string]: unknown }

/** One network of a model: its class, its config in diffusers' or transformers' form, and its tensors by their keys. */
export interface Component {
  className: string
  config: Config
  /** Keys as diffusers and transformers (`text_model.` first) name them, plus any it does not know. */
  weights: Weights
  /** Files the tensors lie in, real paths. */
  files: string[]
}

export type Family = "sd1" | "sd2" | "sdxl" | "sdxl-refiner" | "unknown"
export type Prediction = "epsilon" | "v_prediction" | "sample"
export type Variant = "base" | "inpaint" | "instruct" | "lcm" | "depth" | "upscale" | "unclip"

/** A whole model, from a diffusers folder or a single file: one road for everything behind it. */
export interface ModelFiles {
  format: "single-file" | "diffusers"
  /** As the caller named it. */
  path: string
  family: Family
  variant: Variant
  prediction: Prediction
  /** What told the prediction type, for reports. */
  predictionFrom: string
  /** `unet`, `vae`, `text_encoder`, `text_encoder_2`: those that are there. */
  components: Map<string, Component>
  /** scheduler_config.json, or the default of single files. */
  scheduler: Config
  /** model_index.json, or what it would say. */
  index: Config
  /** Folders of `tokenizer` and `tokenizer_2`; empty for single files. */
  tokenizers: Map<string, string>
  /** Tensors that are known and not needed: averages, tables of the schedule, unused layers. */
  ignored: TensorView[]
  metadata: Map<string, string>
}

/** Keys of every checkpoint that say nothing a model needs. */
const LEFTOVERS = [
  /(^|\.)position_ids$/,
  /(^|\.)(logit_scale|attn_mask)$/,
  /^model_ema\./,
  /^(sqrt_)?(one_minus_)?(recip_|recipm1_)?alphas_cumprod(_prev)?$/,
  /^sqrt_(one_minus_|recip_|recipm1_)alphas_cumprod$/,
  /^log_one_minus_alphas_cumprod$/,
  /^posterior_(variance|log_variance_clipped|mean_coef[12])$/,
  /^(betas|logvar|lvlb_weights|scale_factor|global_step|denoiser\.(sigmas|log_sigmas)|v_pred|ztsnr|edm_mean|edm_std)$/,
  /^embedding_manager\./,
  /^(first_stage_model\.)?(loss|model_ema|quantize)\./,
  /^(first_stage_model\.)?(discriminator)\./,
]

/** Whether a key is a training leftover that no network reads. */
export function isLeftover(key: string): boolean {
  return LEFTOVERS.some((pattern) => pattern.test(key))
}

/**
 * The components a run needs, or one MODEL_INCOMPLETE that names what is missing and what is there:
 * single files of a U-Net alone have no text encoder and no VAE.
 */
export function requireComponents(model: ModelFiles, names: readonly string[]): Component[] {
  const missing = names.filter((name) => !model.components.has(name))
  if (missing.length > 0)
    fail(
      "MODEL_INCOMPLETE",
      `${model.path} has no ${missing.join(", no ")}; it has ${[...model.components.keys()].join(", ")}`,
      {
        file: model.path,
        hint: "use a complete checkpoint, or name the missing part (--vae)",
        details: { missing },
      },
    )
  return names.map((name) => model.components.get(name)!)
}

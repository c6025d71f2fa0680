import { fail } from "../errors.ts"
import { readFloats } from "./decode.ts"
import { inputVariant, predictionName } from "./family.ts"
import { kindName, kindOf } from "./kinds.ts"
import { textConfig, type UnetFacts, unetConfig, vaeConfig } from "./ldm-config.ts"
import { openClipLayers, renameOpenClip } from "./ldm-text.ts"
import { renameUnet, type UnetLayout, unetLayout } from "./ldm-unet.ts"
import { renameVae, vaeLevels } from "./ldm-vae.ts"
import type { LdmFacts } from "./ldm-yaml.ts"
import {
  type Component,
  type Config,
  type Family,
  isLeftover,
  type ModelFiles,
  type Prediction,
  type Variant,
} from "./model-files.ts"
import { fullTextKeys } from "./old-keys.ts"
import { readSafetensorsHeader } from "./safetensors.ts"
import type { ByteSource } from "./source.ts"
import { elements, type TensorView, type Weights } from "./view.ts"

const UNET = "model.diffusion_model."
const VAE = "first_stage_model."

/** What a checkpoint is split with: the config beside it, and a way to read the few small tensors that tell something. */
export interface CheckpointContext {
  /** As the caller named the file. */
  path: string
  metadata?: Map<string, string>
  ldm?: LdmFacts | undefined
  /** Values of a small tensor; without it, rules that look at values are left out. */
  readSmall?: (view: TensorView) => Promise<Float32Array>
}

/**
 * Opens a checkpoint from its header, wherever its bytes are: a file, a Blob, an array.
 * Errors: SAFETENSORS_* and those of `splitCheckpoint`.
 */
export async function openCheckpoint(
  source: ByteSource,
  context: { path?: string; ldm?: LdmFacts | undefined } = {},
): Promise<ModelFiles> {
  const { tensors, metadata } = await readSafetensorsHeader(source)
  const readSmall = (view: TensorView) => readFloats(source, view)
  return splitCheckpoint(tensors, {
    path: context.path ?? source.name,
    ldm: context.ldm,
    metadata,
    readSmall,
  })
}

/** Tensors under a prefix, which is cut off. */
function under(tensors: ReadonlyMap<string, TensorView>, prefix: string): Map<string, TensorView> {
  const out = new Map<string, TensorView>()
  for (const [key, view] of tensors) if (key.startsWith(prefix)) out.set(key.slice(prefix.length), view)
  return out
}

/** First prefix that some key has. */
function present(tensors: ReadonlyMap<string, TensorView>, ...prefixes: string[]): string | undefined {
  const keys = [...tensors.keys()]
  return prefixes.find((prefix) => keys.some((key) => key.startsWith(prefix)))
}

/**
 * Family of a checkpoint in LDM keys, by key names alone: SDXL keeps its text encoders under `conditioner`,
 * the refiner only OpenCLIP's; SD 2.x has OpenCLIP under `cond_stage_model.model`, SD 1.x CLIP under
 * `cond_stage_model.transformer`. A bare U-Net is told by `label_emb`, by where its attention stands, and
 * by whether its projections are matrices or convolutions.
 */
export function checkpointFamily(
  tensors: ReadonlyMap<string, TensorView>,
  layout: UnetLayout,
  unet: ReadonlyMap<string, TensorView>,
): Family {
  if (present(tensors, "conditioner.embedders.1.")) return "sdxl"
  if (present(tensors, "conditioner.embedders.0.model.")) return "sdxl-refiner"
  if (present(tensors, "conditioner.embedders.0.")) return "sdxl"
  if (present(tensors, "cond_stage_model.model.")) return "sd2"
  if (present(tensors, "cond_stage_model.")) return "sd1"
  if (unet.has("label_emb.0.0.weight")) {
    const deepest = layout.down.at(-1)?.depths.some((depth) => depth > 0) ?? false
    return deepest || layout.midDepth === 0 ? "sdxl" : "sdxl-refiner"
  }
  return unet.get(`${layout.attention}.proj_in.weight`)?.shape.length === 2 ? "sd2" : "sd1"
}

/**
 * Splits a checkpoint in LDM keys into components with diffusers' names and configs. Nothing is read but
 * the views given (and two small tensors of SD 2.x files, where `readSmall` is given).
 * Errors: CHECKPOINT_NOT_A_MODEL, CHECKPOINT_INCOMPLETE, CHECKPOINT_SHAPE.
 */
export async function splitCheckpoint(
  tensors: ReadonlyMap<string, TensorView>,
  context: CheckpointContext,
): Promise<ModelFiles> {
  const bare = present(tensors, UNET) === undefined && tensors.has("input_blocks.0.0.weight")
  const unet = bare ? new Map(tensors) : under(tensors, UNET)
  if (unet.size === 0) notAModel(tensors, context.path)
  const layout = unetLayout(unet.keys())
  const family = checkpointFamily(tensors, layout, unet)
  const text = textEncoders(tensors, family)
  const vae = bare ? new Map<string, TensorView>() : under(tensors, VAE)
  const { prediction, from: predictionFrom } = await predictionOf(tensors, unet, family, context)
  const ldm = context.ldm ?? {}
  const pixels = nativeSize(family, prediction)
  const latents = Math.round(pixels / 2 ** ((vaeLevels(vae.keys()) || 4) - 1))
  const pooled = width(text.parts.get("text_encoder_2")?.config.projection_dim)
  const textWidth = width(text.parts.get("text_encoder")?.config.hidden_size)
  const facts = {
    family,
    heads: { count: ldm.heads, width: ldm.headWidth },
    sampleSize: ldm.imageSize ?? latents,
  }
  const components = new Map<string, Component>()
  components.set("unet", unetComponent(unet, layout, { ...facts, pooled, textWidth }))
  if (vae.size > 0) components.set("vae", vaeComponent(vae, family, pixels, ldm.scaleFactor))
  for (const [name, component] of text.parts) components.set(name, component)
  const variant = checkpointVariant(components.get("unet")!.config)
  const scheduler = defaultScheduler(prediction, ldm, tensors.has("ztsnr"))
  const used = (key: string) => bare || [UNET, VAE, ...text.prefixes].some((prefix) => key.startsWith(prefix))
  return {
    format: "single-file",
    path: context.path,
    family,
    variant,
    prediction,
    predictionFrom,
    components,
    scheduler: variant === "lcm" ? { ...scheduler, ...consistency } : scheduler,
    index: indexOf(family, components),
    tokenizers: new Map(),
    ignored: [...tensors.values()].filter(({ name }) => !used(name) || isLeftover(name)).concat(text.unused),
    metadata: context.metadata ?? new Map(),
  }
}

const width = (value: unknown) => (typeof value === "number" ? value : undefined)

function unetComponent(tensors: Map<string, TensorView>, layout: UnetLayout, facts: UnetFacts): Component {
  const labels = facts.family.startsWith("sdxl") ? "add_embedding" : "class_embedding"
  return {
    className: "UNet2DConditionModel",
    config: unetConfig(tensors, layout, facts),
    weights: renameUnet(withoutLeftovers(tensors), layout, labels),
    files: filesOf(tensors.values()),
  }
}

function notAModel(tensors: ReadonlyMap<string, TensorView>, path: string): never {
  const kind = kindOf(tensors)
  fail("CHECKPOINT_NOT_A_MODEL", `${path} holds no Stable Diffusion model: no tensor under ${UNET}`, {
    file: path,
    hint:
      kind === undefined
        ? "aquatint reads SD 1.x, SD 2.x and SDXL checkpoints"
        : `it looks like ${kindName(kind)}`,
    details: { kind: kind ?? null, first: [...tensors.keys()].slice(0, 5) },
  })
}

function* withoutLeftovers(tensors: Iterable<[string, TensorView]>): Iterable<[string, TensorView]> {
  for (const entry of tensors) if (!isLeftover(entry[0])) yield entry
}

const filesOf = (views: Iterable<TensorView>) => [...new Set([...views].map((view) => view.file))]

/** Pixels of the side a family was trained at; SD 2.x with v prediction at 768. */
function nativeSize(family: Family, prediction: Prediction): number {
  if (family.startsWith("sdxl")) return 1024
  return family === "sd2" && prediction === "v_prediction" ? 768 : 512
}

/** An AutoencoderKL component from LDM or diffusers keys without prefix. VAE scale 0.18215, SDXL 0.13025. */
export function vaeComponent(
  tensors: ReadonlyMap<string, TensorView>,
  family: Family,
  pixels: number,
  scale?: number,
): Component {
  const weights = renameVae(withoutLeftovers(tensors))
  return {
    className: "AutoencoderKL",
    config: vaeConfig(weights, {
      scale: scale ?? (family.startsWith("sdxl") ? 0.13025 : 0.18215),
      family,
      sampleSize: pixels,
    }),
    weights,
    files: filesOf(weights.values()),
  }
}

interface TextParts {
  parts: Map<string, Component>
  prefixes: string[]
  unused: TensorView[]
}

function textEncoders(tensors: ReadonlyMap<string, TensorView>, family: Family): TextParts {
  const out: TextParts = { parts: new Map(), prefixes: [], unused: [] }
  const add = (
    name: string,
    prefix: string,
    make: (t: Map<string, TensorView>, out: TextParts) => Component,
  ) => {
    const found = under(tensors, prefix)
    if (found.size === 0) return
    out.prefixes.push(prefix)
    out.parts.set(name, make(found, out))
  }
  if (family === "sd1") add("text_encoder", "cond_stage_model.transformer.", clip)
  if (family === "sd2") add("text_encoder", "cond_stage_model.model.", openClipSd2)
  if (family === "sdxl") {
    add("text_encoder", "conditioner.embedders.0.transformer.", clip)
    add("text_encoder_2", "conditioner.embedders.1.model.", openClip)
  }
  if (family === "sdxl-refiner") add("text_encoder_2", "conditioner.embedders.0.model.", openClip)
  return out
}

function component(weights: Weights, act: "quick_gelu" | "gelu", projection: boolean): Component {
  const className = projection ? "CLIPTextModelWithProjection" : "CLIPTextModel"
  return {
    className,
    config: textConfig(weights, { act, projection }),
    weights,
    files: filesOf(weights.values()),
  }
}

const clip = (tensors: Map<string, TensorView>) => component(fullTextKeys(tensors), "quick_gelu", false)
const openClip = (tensors: Map<string, TensorView>) =>
  component(renameOpenClip(withoutLeftovers(tensors)), "gelu", true)

/**
 * SD 2.x uses the last layer but one of OpenCLIP, and not its projection: both are left out. Files that
 * diffusers' own script wrote from a folder lack them already; they are told by ViT-H's 24 layers being 23.
 */
function openClipSd2(tensors: Map<string, TensorView>, out: TextParts): Component {
  const layers = openClipLayers(tensors.keys())
  const cut = layers === 23 && !tensors.has("text_projection")
  const last = `transformer.resblocks.${layers - 1}.`
  const kept = new Map<string, TensorView>()
  for (const [key, view] of withoutLeftovers(tensors)) {
    const unused = key === "text_projection" || (!cut && layers > 1 && key.startsWith(last))
    if (unused) out.unused.push(view)
    else kept.set(key, view)
  }
  return component(renameOpenClip(kept), "gelu", false)
}

function checkpointVariant(unet: Config): Variant {
  if (unet.time_cond_proj_dim !== undefined) return "lcm"
  if (unet.num_class_embeds !== undefined) return "upscale"
  if (unet.class_embed_type === "projection") return "unclip"
  return inputVariant(Number(unet.in_channels), Number(unet.out_channels))
}

/**
 * The prediction type of a single file, by the first rule that says something:
 * 1. the LDM config beside it; 2. metadata `modelspec.prediction_type`; 3. a `v_pred` marker tensor;
 * 4. SD 2.x in its published layout: 875000 training steps mean epsilon (diffusers' rule), a spread over 0.09
 *    of one norm's bias means v (ComfyUI's rule, which holds for the published 768 models);
 * 5. epsilon.
 */
async function predictionOf(
  tensors: ReadonlyMap<string, TensorView>,
  unet: ReadonlyMap<string, TensorView>,
  family: Family,
  { ldm, metadata, readSmall }: CheckpointContext,
): Promise<{ prediction: Prediction; from: string }> {
  if (ldm?.prediction !== undefined) return { prediction: ldm.prediction, from: "the config beside the file" }
  const said = predictionName(metadata?.get("modelspec.prediction_type"))
  if (said !== undefined) return { prediction: said, from: "modelspec.prediction_type" }
  if (tensors.has("v_pred")) return { prediction: "v_prediction", from: "the v_pred tensor" }
  const bias = unet.get("output_blocks.11.1.transformer_blocks.0.norm1.bias")
  if (family === "sd2" && readSmall && bias && elements(bias.shape) === 320) {
    const step = tensors.get("global_step")
    if (step?.dtype === "F32" && elements(step.shape) === 1 && (await readSmall(step))[0] === 875000)
      return { prediction: "epsilon", from: "its 875000 training steps" }
    if (deviation(await readSmall(bias)) > 0.09)
      return { prediction: "v_prediction", from: "the spread of its norms" }
  }
  return { prediction: "epsilon", from: "nothing says otherwise" }
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length
  return Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, values.length - 1))
}

/** What a latent consistency model's folder says beside DDIM's keys (Luo et al. 2023). */
const consistency = {
  _class_name: "LCMScheduler",
  original_inference_steps: 50,
  set_alpha_to_one: true,
  timestep_scaling: 10,
}

/** What a single file is sampled with when nothing is asked: DDIM as Stable Diffusion was released with. */
export function defaultScheduler(prediction: Prediction, ldm: LdmFacts = {}, zeroSnr = false): Config {
  return {
    _class_name: "DDIMScheduler",
    beta_start: ldm.betaStart ?? 0.00085,
    beta_end: ldm.betaEnd ?? 0.012,
    beta_schedule: "scaled_linear",
    num_train_timesteps: ldm.timesteps ?? 1000,
    prediction_type: prediction,
    timestep_spacing: "leading",
    steps_offset: 1,
    clip_sample: false,
    set_alpha_to_one: false,
    rescale_betas_zero_snr: zeroSnr,
  }
}

function indexOf(family: Family, components: ReadonlyMap<string, Component>): Config {
  const parts = [...components].map(([name, { className }]) => [
    name,
    [className.startsWith("CLIP") ? "transformers" : "diffusers", className],
  ])
  const pipeline = { sdxl: "StableDiffusionXLPipeline", "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline" }
  const _class_name =
    family === "sdxl" || family === "sdxl-refiner" ? pipeline[family] : "StableDiffusionPipeline"
  const xl = family.startsWith("sdxl") ? { force_zeros_for_empty_prompt: family === "sdxl" } : {}
  return { _class_name, ...Object.fromEntries(parts), scheduler: ["diffusers", "DDIMScheduler"], ...xl }
}

import { inputVariant } from "./family.ts"
import { type Kind, kindOf } from "./kinds.ts"
import { type Component, type Family, isLeftover, type Variant } from "./model-files.ts"
import { elements, type TensorView } from "./view.ts"

/** One part of a model, counted. */
export interface PartSummary {
  class: string
  tensors: number
  parameters: number
  /** safetensors names, most used first. */
  dtypes: string[]
}

/** What a file that is no whole model is. */
export interface Description {
  kind: Exclude<Kind, "single-file">
  family: Family
  variant: Variant
  components: Record<string, PartSummary>
}

/** Counts a network's tensors; training leftovers do not count. */
export function summarise(className: string, views: Iterable<TensorView>): PartSummary {
  const kept = [...views].filter(({ name }) => !isLeftover(name))
  const counts = new Map<string, number>()
  for (const { dtype } of kept) counts.set(dtype, (counts.get(dtype) ?? 0) + 1)
  const dtypes = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([dtype]) => dtype)
  const parameters = kept.reduce((sum, { shape }) => sum + elements(shape), 0)
  return { class: className, tensors: kept.length, parameters, dtypes }
}

export function summariseComponents(components: ReadonlyMap<string, Component>): Record<string, PartSummary> {
  const parts = [...components].map(
    ([name, c]) => [name, summarise(c.className, c.weights.values())] as const,
  )
  return Object.fromEntries(parts)
}

type Tensors = ReadonlyMap<string, TensorView>

const some = (tensors: Tensors, pattern: RegExp) => [...tensors.keys()].some((key) => pattern.test(key))
const find = (tensors: Tensors, pattern: RegExp) => [...tensors].find(([key]) => pattern.test(key))?.[1]

/** Family of an adapter by the width of the text it attends to; names alone do not tell SD 1.x from 2.x there. */
function familyByContext(width: number | undefined): Family {
  const known: Record<number, Family> = { 768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner" }
  return known[width ?? 0] ?? "unknown"
}

/** Describes a file that is not a whole checkpoint; undefined where nothing is recognised, or it is one. */
export function describe(
  tensors: Tensors,
  metadata: ReadonlyMap<string, string> = new Map(),
): Description | undefined {
  const kind = kindOf(tensors)
  if (kind === undefined || kind === "single-file") return undefined
  return { kind, ...TELL[kind](tensors, metadata) }
}

type Told = Omit<Description, "kind">
const one = (name: string, className: string, tensors: Tensors) => ({
  [name]: summarise(className, tensors.values()),
})

const TELL: Record<Description["kind"], (tensors: Tensors, metadata: ReadonlyMap<string, string>) => Told> = {
  lora: tellLora,
  embedding: tellEmbedding,
  controlnet: (tensors) => ({
    family: netFamily(tensors),
    variant: "base",
    components: one("controlnet", "ControlNetModel", tensors),
  }),
  unet: (tensors) => ({
    family: netFamily(tensors),
    variant: unetVariant(tensors),
    components: one("unet", "UNet2DConditionModel", tensors),
  }),
  vae: (tensors) => ({
    family: "unknown",
    variant: "base",
    components: one(
      "vae",
      some(tensors, /coder\.(layers\.)?\d+\./) ? "AutoencoderTiny" : "AutoencoderKL",
      tensors,
    ),
  }),
  upscaler: (tensors) => ({
    family: "unknown",
    variant: "base",
    components: one("upscaler", some(tensors, /rdb|RDB|RRDB/) ? "RRDBNet" : "SRVGGNetCompact", tensors),
  }),
  "t2i-adapter": (tensors) => ({
    family: "unknown",
    variant: "base",
    components: one("adapter", "T2IAdapter", tensors),
  }),
  "ip-adapter": (tensors) => ({
    family: "unknown",
    variant: "base",
    components: one("adapter", "IPAdapter", tensors),
  }),
  "text-encoder": (tensors) => ({
    family: "unknown",
    variant: "base",
    components: one(
      "text_encoder",
      tensors.has("text_projection.weight") ? "CLIPTextModelWithProjection" : "CLIPTextModel",
      tensors,
    ),
  }),
}

/** U-Net or ControlNet: a label or added embedding is SDXL's, linear projections are SD 2.x's. */
function netFamily(tensors: Tensors): Family {
  if (some(tensors, /(^|\.)(label_emb\.0|add_embedding)\./)) return "sdxl"
  const projection = find(tensors, /(^|\.)proj_in\.weight$/)
  return projection === undefined ? "unknown" : projection.shape.length === 2 ? "sd2" : "sd1"
}

function unetVariant(tensors: Tensors): Variant {
  if (some(tensors, /time_embed(ding)?\.cond_proj\./)) return "lcm"
  const input = tensors.get("input_blocks.0.0.weight") ?? tensors.get("conv_in.weight")
  const output = tensors.get("out.2.weight") ?? tensors.get("conv_out.weight")
  return inputVariant(input?.shape[1] ?? 4, output?.shape[0] ?? 4)
}

const LORA_CLASSES: [RegExp, string][] = [
  [/hada_w/, "LoHa"],
  [/lokr_w/, "LoKr"],
  [/oft_(blocks|diag)/, "OFT"],
  [/dora_scale|lora_magnitude_vector/, "DoRA"],
]

/** kohya's `lora_unet_`, `lora_te_`, diffusers' and PEFT's `unet.`, `text_encoder.`, `base_model.model.` */
function tellLora(tensors: Tensors, metadata: ReadonlyMap<string, string>): Told {
  const className = LORA_CLASSES.find(([pattern]) => some(tensors, pattern))?.[1] ?? "LoRA"
  const parts = new Map<string, TensorView[]>()
  for (const [key, view] of tensors) {
    const second = /^(lora_te2_|text_encoder_2\.)/.test(key)
    const first = /^(lora_te1?_|text_encoder\.|lora_prior_te_)/.test(key)
    const part = second ? "text_encoder_2" : first ? "text_encoder" : "unet"
    parts.set(part, [...(parts.get(part) ?? []), view])
  }
  const components = Object.fromEntries(
    [...parts].map(([name, views]) => [name, summarise(className, views)]),
  )
  return { family: loraFamily(tensors, metadata), variant: "base", components }
}

function loraFamily(tensors: Tensors, metadata: ReadonlyMap<string, string>): Family {
  const xl =
    /^(lora_te2_|text_encoder_2\.|lora_te1_)|down_blocks[._]1[._]attentions[._]0[._]transformer_blocks[._]1[._]|input_blocks_4_1_transformer_blocks_1_/
  if (some(tensors, xl)) return "sdxl"
  const base = metadata.get("ss_base_model_version") ?? metadata.get("modelspec.architecture") ?? ""
  if (/xl/i.test(base)) return "sdxl"
  if (/v2|sd_v?2/i.test(base)) return "sd2"
  if (/v1|sd_v?1/i.test(base)) return "sd1"
  return familyByContext(
    find(
      tensors,
      /attn2[._](?:processor[._])?to_k[._].*(lora_down|lora\.down|lora_A|down\.weight|hada_w1_b)/,
    )?.shape.at(-1),
  )
}

function tellEmbedding(tensors: Tensors): Told {
  const width = [...tensors.values()][0]?.shape.at(-1)
  const family = some(tensors, /^clip_[lg]$/) ? "sdxl" : familyByContext(width)
  return { family, variant: "base", components: one("embedding", "TextualInversion", tensors) }
}

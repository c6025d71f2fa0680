import { mkdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { castOf, TARGETS } from "../../weights/convert-cast.ts"
import { type TensorToWrite, writeSafetensors } from "../../weights/write.ts"
import { downName, factorShapes, type LoraPart, upName } from "./lora.ts"

export type Values = ReadonlyMap<string, Float32Array>
export type SavedType = keyof typeof TARGETS

/** Numbers as a tensor of a file. */
export function tensorOf(
  name: string,
  shape: readonly number[],
  data: Float32Array,
  dtype: SavedType,
): TensorToWrite {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  const target = TARGETS[dtype]
  const cast = castOf("F32", target)
  if (!cast) return { name, dtype: "F32", shape, bytes }
  const out = new Uint8Array(data.length * cast.to)
  cast.run(bytes, out)
  return { name, dtype: target, shape, bytes: out }
}

/** kohya's prefixes by ours; SDXL's two text encoders are counted. */
function kohyaName(layer: string, double: boolean): string {
  const [part, ...rest] = layer.split(".")
  const prefix = {
    unet: "lora_unet",
    text_encoder: double ? "lora_te1" : "lora_te",
    text_encoder_2: "lora_te2",
  }[part!]!
  return `${prefix}_${rest.join("_")}`
}

/**
 * A LoRA's tensors. `kohya`: `lora_unet_..._to_q.lora_down.weight`, `.lora_up.weight` and `.alpha`, as A1111, ComfyUI
 * and kohya's scripts name them. `diffusers`: PEFT's `unet....to_q.lora_A.weight` and `lora_B.weight`, with alpha / rank
 * multiplied into B, since these files keep no alpha.
 * @param values factors by `downName` and `upName`
 */
export function loraTensors(
  parts: readonly LoraPart[],
  values: Values,
  format: "kohya" | "diffusers",
  dtype: SavedType,
): TensorToWrite[] {
  const double = parts.some((p) => p.layer.startsWith("text_encoder_2."))
  return parts.flatMap((part) => {
    const { down, up } = factorShapes(part)
    const [a, b] = [values.get(downName(part.layer))!, values.get(upName(part.layer))!]
    if (format === "kohya") {
      const name = kohyaName(part.layer, double)
      return [
        tensorOf(`${name}.alpha`, [], Float32Array.of(part.alpha), dtype),
        tensorOf(`${name}.lora_down.weight`, down, a, dtype),
        tensorOf(`${name}.lora_up.weight`, up, b, dtype),
      ]
    }
    const scaled = part.alpha === part.rank ? b : b.map((v) => (v * part.alpha) / part.rank)
    return [
      tensorOf(`${part.layer}.lora_A.weight`, down, a, dtype),
      tensorOf(`${part.layer}.lora_B.weight`, up, scaled, dtype),
    ]
  })
}

export interface LoraFacts {
  readonly baseModel: string
  readonly family: string
  readonly steps: number
  readonly images: number
  readonly prompt?: string | undefined
}

/** Writes a LoRA, with what kohya's readers and model managers look for among its metadata. */
export async function saveLora(
  path: string,
  parts: readonly LoraPart[],
  values: Values,
  { format, dtype, facts }: { format: "kohya" | "diffusers"; dtype: SavedType; facts: LoraFacts },
): Promise<void> {
  const ranks = [...new Set(parts.map((p) => p.rank))]
  const alphas = [...new Set(parts.map((p) => p.alpha))]
  const one = (list: readonly number[]) => (list.length === 1 ? String(list[0]) : "Dynamic")
  const base = { sd1: "sd_v1", sd2: "sd_v2", sdxl: "sdxl_base_v1-0" }[facts.family] ?? facts.family
  const metadata: [string, string][] = [
    ["format", "pt"],
    ["modelspec.sai_model_spec", "1.0.0"],
    ["modelspec.implementation", "https://github.com/Stability-AI/generative-models"],
    [
      "modelspec.architecture",
      `${facts.family === "sdxl" ? "stable-diffusion-xl-v1-base" : "stable-diffusion-v1"}/lora`,
    ],
    ["ss_network_module", "networks.lora"],
    ["ss_network_dim", one(ranks)],
    ["ss_network_alpha", one(alphas)],
    ["ss_base_model_version", base],
    ["ss_sd_model_name", facts.baseModel],
    ["ss_steps", String(facts.steps)],
    ["ss_num_train_images", String(facts.images)],
    ...(facts.prompt === undefined ? [] : [["modelspec.trigger_phrase", facts.prompt] as [string, string]]),
  ]
  await mkdir(dirname(path), { recursive: true })
  await writeSafetensors(
    path,
    loraTensors(parts, values, format, dtype),
    format === "kohya" ? metadata : [["format", "pt"]],
  )
}

const stems: Record<string, string> = {
  unet: "diffusion_pytorch_model",
  vae: "diffusion_pytorch_model",
  text_encoder: "model",
  text_encoder_2: "model",
}

/** Writes learned weights over a component's in a diffusers folder. @param values by name behind `COMPONENT.` */
export async function saveComponent(
  folder: string,
  component: string,
  values: Values,
  shapes: ReadonlyMap<string, readonly number[]>,
  dtype: SavedType,
): Promise<string> {
  const prefix = `${component}.`
  const tensors = [...values]
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, data]) => tensorOf(name.slice(prefix.length), shapes.get(name)!, data, dtype))
  const path = join(folder, component, `${stems[component]!}.safetensors`)
  await mkdir(dirname(path), { recursive: true })
  await writeSafetensors(
    path,
    tensors.sort((a, b) => (a.name < b.name ? -1 : 1)),
    [["format", "pt"]],
  )
  return path
}

import { parseInfotext } from "../../image/infotext.ts"
import type { ImageMetadata } from "../../image/metadata.ts"
import type { Strength } from "../../text/networks.ts"
import type { GenerateRequest } from "../request.ts"
import { comfyRecipe } from "./comfy.ts"
import { infotextRecipe } from "./infotext.ts"
import { invokeRecipe } from "./invoke.ts"

/** Which program made a picture. */
export type Program = "aquatint" | "a1111" | "comfyui" | "invokeai" | "sd.cpp"

/** How a start picture was drawn anew. */
export interface StartRecipe extends Pick<GenerateRequest, "sdUpscale" | "upscaler"> {
  readonly strength: number
  /** What goes with a mask. */
  readonly mask?: Pick<GenerateRequest, "maskBlur" | "maskPadding" | "inpaintArea" | "fill">
}

/** How a picture was made, as far as its metadata say, in this program's terms. */
export interface Recipe {
  readonly program: Program
  readonly version: string | null
  /** Which behaviour of ours drew it (see `version.ts`); of other programs null. */
  readonly behaviour?: number | null
  /** How it was computed, where that was not single precision. */
  readonly dtype?: "int8"
  /** What `generate` takes. */
  readonly request: Partial<Omit<GenerateRequest, "init" | "mask">>
  /** The picture began from another, which is not in its metadata: what goes with it. */
  readonly start?: StartRecipe
  readonly model: { readonly name: string | null; readonly hash: string | null }
  /** An autoencoder that was not the model's own. */
  readonly vae?: { readonly name: string; readonly hash?: string }
  /** The model that drew the last steps. */
  readonly refiner?: { readonly name: string; readonly hash?: string; readonly at?: number }
  /** LoRA files that were used beside those named in the prompt. */
  readonly loras: readonly { readonly name: string; readonly weight: Strength; readonly text?: Strength }[]
  /** The first digits of their files' hashes by name, LoRAs' and textual inversions' (A1111, aquatint). */
  readonly hashes?: {
    readonly loras?: Readonly<Record<string, string>>
    readonly embeddings?: Readonly<Record<string, string>>
  }
  /** What the metadata ask for that is not repeated, in words. */
  readonly unmet: readonly string[]
}

/**
 * The recipe in a picture's metadata: AUTOMATIC1111 and its forks, stable-diffusion.cpp, ComfyUI, InvokeAI and our
 * own. Null where there is none that is understood; foreign text never throws.
 */
export function readRecipe(metadata: ImageMetadata): Recipe | null {
  const { parameters, prompt, texts } = metadata
  if (parameters !== undefined) {
    const found = infotextRecipe(parseInfotext(parameters))
    if (found) return found
  }
  const invoke = json(texts?.invokeai_metadata)
  if (invoke) return invokeRecipe(invoke)
  const graph = json(prompt)
  return graph ? comfyRecipe(graph) : null
}

export type Json = Readonly<Record<string, unknown>>

/** An object of JSON text, or null. */
export function json(text: string | undefined): Json | null {
  if (text === undefined) return null
  try {
    // Python writes NaN where JSON has none
    const value: unknown = JSON.parse(text.replace(/(?<=[:[,]\s*)NaN(?=\s*[,\]}])/g, "null"))
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : null
  } catch {
    return null
  }
}

export const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined)
export const amount = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isFinite(value) ? value : undefined

/** The fields that are there. */
export const present = <T extends object>(fields: T): Partial<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined)) as Partial<T>

/** Seeds beyond 32 bits, as ComfyUI and Forge write them, cannot be repeated here. */
export const seedOf = (value: number | undefined): { seed?: number; unmet: string[] } => {
  if (value === undefined) return { unmet: [] }
  if (Number.isInteger(value) && value >= 0 && value < 2 ** 32) return { seed: value, unmet: [] }
  return { unmet: [`seed ${value} is not one of 32 bits`] }
}

import { stat } from "node:fs/promises"
import { join } from "node:path"
import { UNet, unetConfig, vaeConfig, vaeFactor } from "../models/index.ts"
import { bundledVocabulary } from "../text/bundled.ts"
import { type PromptSyntax, tokenCount } from "../text/prompt.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import { readIfThere } from "./files.ts"
import { checkRequest, checkSize, type GenerateRequest } from "./request.ts"
import { samplerChoice } from "./samplers.ts"
import { nativeSize } from "./settings.ts"
import { openModel } from "./stable-diffusion.ts"
import { openTokenizers } from "./tokenizers.ts"

/** What can be said of a model from its headers, before anything is loaded. */
export interface ModelCard {
  family: ModelFiles["family"]
  variant: ModelFiles["variant"]
  /** Side of its pictures where none is asked for, a multiple of `step`. */
  size: number
  /** Sides are multiples of this. */
  step: number
  /** Length of its weight files. */
  bytes: number
}

/** Reads a model's headers. @throws MODEL_*, FOLDER_*, SAFETENSORS_* */
export async function modelCard(name: string): Promise<ModelCard> {
  const files = await openModel(name)
  const parts = [...files.components.values()]
  const paths = new Set(parts.flatMap((part) => part.files))
  const sizes = await Promise.all([...paths].map(async (path) => (await stat(path)).size))
  const factor = vaeFactor(vaeConfig(files.components.get("vae")?.config ?? {}))
  // a config that no network can be built from is found here, not by the first picture
  new UNet(unetConfig(files.components.get("unet")?.config ?? {}))
  const step = Math.max(8, factor)
  return {
    family: files.family,
    variant: files.variant,
    size: Math.max(step, Math.floor(nativeSize(files, factor) / step) * step),
    step,
    bytes: sizes.reduce((sum, size) => sum + size, 0),
  }
}

/** Refuses what this model could not draw, without loading it. @throws REQUEST_*, SAMPLER, SCHEDULE */
export function checkAsk(ask: GenerateRequest, card: ModelCard): void {
  checkRequest(ask)
  if (ask.width !== undefined && ask.height !== undefined) checkSize(ask.width, ask.height, card.step)
  if (ask.sampler !== undefined || ask.schedule !== undefined)
    samplerChoice(ask.sampler ?? "euler", ask.schedule)
}

/** Length of a prompt as A1111's counter shows it, with a model's own tokenizer or, without a model, CLIP's. */
export async function countTokens(
  text: string,
  syntax: PromptSyntax = "a1111",
  model?: string,
): Promise<{ tokens: number; room: number; chunks: number }> {
  const [tokenizer] =
    model === undefined
      ? [await bundledVocabulary()]
      : await openTokenizers(await openModel(model), (folder, file) => readIfThere(join(folder, file)))
  return tokenCount(text, { tokenizer: tokenizer!, syntax, steps: 20 })
}

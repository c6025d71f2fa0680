import { stat } from "node:fs/promises"
import { basename, join } from "node:path"
import { UNet, unetConfig, vaeConfig, vaeFactor } from "../models/index.ts"
import { bundledVocabulary } from "../text/bundled.ts"
import { embeddingCounts } from "../weights/embedding.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import { withFile } from "../weights/open-file.ts"
import { readSafetensorsHeader } from "../weights/safetensors.ts"
import { readIfThere } from "./files.ts"
import { presetOf } from "./presets.ts"
import { type PromptReader, promptTokens } from "./prompt-tokens.ts"
import { checkRequest, checkSize, type GenerateRequest } from "./request.ts"
import { samplerChoice } from "./samplers.ts"
import { ownSide, ownSteps } from "./settings.ts"
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
  /** Pixels per latent along a side. */
  factor: number
  /** Steps and guidance scale where none are asked for. */
  steps: number
  cfg: number
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
    size: ownSide(files, factor, step),
    ...ownSteps(files, presetOf(files, basename(files.path).replace(/\.safetensors$/, ""))),
    step,
    factor,
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

/** How many tokens each word of a textual inversion takes, from the file's header. @throws SAFETENSORS_*, EMBEDDING_NOT_ONE */
export const embeddingWords = (path: string, name: string): Promise<Map<string, number>> =>
  withFile(path, async (source) => embeddingCounts((await readSafetensorsHeader(source)).tensors, name, path))

/** What reads prompts as a model does, opened without its weights; without a model, as OpenAI's CLIP does. @throws MODEL_*, FOLDER_*, TOKENIZER-* */
export async function promptReader(model?: string): Promise<PromptReader> {
  const [tokenizer] =
    model === undefined
      ? [await bundledVocabulary()]
      : await openTokenizers(await openModel(model), (folder, file) => readIfThere(join(folder, file)))
  return promptTokens(tokenizer!)
}

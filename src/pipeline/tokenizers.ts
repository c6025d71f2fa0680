import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { fail } from "../errors.ts"
import { ClipTokenizer } from "../text/bpe.ts"
import { bundledVocabulary } from "../text/bundled.ts"
import type { ModelFiles } from "../weights/model-files.ts"

async function textOf(folder: string, name: string): Promise<string | undefined> {
  try {
    return await readFile(join(folder, name), "utf8")
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined
    return fail("TOKENIZER-FILE", `${join(folder, name)} cannot be read`, { cause, file: join(folder, name) })
  }
}

/** The tokenizers of a model: from its folder, or CLIP's own for single files. */
export async function openTokenizers(files: ModelFiles): Promise<ClipTokenizer[]> {
  if (files.format === "single-file")
    return Promise.all(bundledPads(files).map((pad) => bundledVocabulary(pad)))
  return Promise.all(
    ["tokenizer", "tokenizer_2"].flatMap((name) => {
      const folder = files.tokenizers.get(name)
      return folder === undefined ? [] : [fromFolder(folder)]
    }),
  )
}

const bundledPads = (files: ModelFiles): ("<|endoftext|>" | "!")[] => {
  if (files.family === "sd2" || files.family === "sdxl-refiner") return ["!"]
  return files.components.has("text_encoder_2") ? ["<|endoftext|>", "!"] : ["<|endoftext|>"]
}

async function fromFolder(folder: string): Promise<ClipTokenizer> {
  const names = [
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
  ]
  const [vocab, merges, whole, config, specialTokens, addedTokens] = await Promise.all(
    names.map((name) => textOf(folder, name)),
  )
  if (vocab === undefined && whole === undefined)
    fail("TOKENIZER-VOCAB", `${folder} has no vocab.json`, {
      file: folder,
      hint: "fetch the whole model folder again",
    })
  return ClipTokenizer.fromFiles({ vocab, merges, tokenizer: whole, config, specialTokens, addedTokens })
}

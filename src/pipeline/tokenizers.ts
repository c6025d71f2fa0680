import { fail } from "../errors.ts"
import { ClipTokenizer } from "../text/bpe.ts"
import { bundledVocabulary } from "../text/bundled.ts"
import type { ModelFiles } from "../weights/model-files.ts"

/** The text of a file in a tokenizer's folder, or undefined where there is none. */
export type ReadText = (folder: string, file: string) => Promise<string | undefined>

/** A tokenizer for each text encoder: from the model's folder, or CLIP's own for single files. @throws FOLDER_*, TOKENIZER-* */
export async function openTokenizers(files: ModelFiles, read: ReadText): Promise<ClipTokenizer[]> {
  if (files.format === "single-file")
    return Promise.all(bundledPads(files).map((pad) => bundledVocabulary(pad)))
  const suffixes = ["", "_2"].filter((suffix) => files.components.has(`text_encoder${suffix}`))
  return Promise.all(
    suffixes.map((suffix) => {
      const folder =
        files.tokenizers.get(`tokenizer${suffix}`) ??
        fail("FOLDER_NO_COMPONENT", `${files.path} has no tokenizer${suffix}`, {
          file: files.path,
          hint: "fetch the whole model folder again",
        })
      return fromFolder(folder, read)
    }),
  )
}

const bundledPads = (files: ModelFiles): ("<|endoftext|>" | "!")[] => {
  if (files.family === "sd2" || files.family === "sdxl-refiner") return ["!"]
  return files.components.has("text_encoder_2") ? ["<|endoftext|>", "!"] : ["<|endoftext|>"]
}

async function fromFolder(folder: string, read: ReadText): Promise<ClipTokenizer> {
  const names = [
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
  ]
  const [vocab, merges, whole, config, specialTokens, addedTokens] = await Promise.all(
    names.map((name) => read(folder, name)),
  )
  if (vocab === undefined && whole === undefined)
    fail("TOKENIZER-VOCAB", `${folder} has no vocab.json`, {
      file: folder,
      hint: "fetch the whole model folder again",
    })
  return ClipTokenizer.fromFiles({ vocab, merges, tokenizer: whole, config, specialTokens, addedTokens })
}

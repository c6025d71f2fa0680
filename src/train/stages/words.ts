import { mkdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { ClipTokenizer } from "../../text/bpe.ts"
import { writeWhole } from "../checkpoint.ts"
import { corpus, trainVocabulary } from "../corpus/index.ts"

export interface WordsConfig {
  /** Tokens in all. */
  readonly size: number
  /** Tokens of a prompt, begin and end included. */
  readonly context: number
  /** Captions to learn from. */
  readonly captions: number
  readonly seed: number
}

const files = {
  vocab: "vocab.json",
  merges: "merges.txt",
  config: "tokenizer_config.json",
  specialTokens: "special_tokens_map.json",
} as const

/** Learns the tokenizer of the corpus and writes its folder; the same settings give the same bytes. */
export async function writeWords(folder: string, c: WordsConfig): Promise<void> {
  const scenes = corpus({ seed: c.seed, size: 256, split: "train" })
  const captions = Array.from({ length: c.captions }, (_, i) => scenes.entry(i).caption)
  const made = trainVocabulary(captions, { size: c.size, contextLength: c.context })
  await mkdir(folder, { recursive: true })
  for (const [name, text] of Object.entries(made)) await writeWhole(join(folder, name), text)
}

export async function readWords(folder: string): Promise<ClipTokenizer> {
  const text = (name: string) => readFile(join(folder, name), "utf8")
  return ClipTokenizer.fromFiles({
    vocab: JSON.parse(await text(files.vocab)),
    merges: await text(files.merges),
    config: JSON.parse(await text(files.config)),
    specialTokens: JSON.parse(await text(files.specialTokens)),
  })
}

/** Ids of texts, begin and end added, cut and padded to `length`: rows of one array, and where each row ends. */
export function idRows(
  words: ClipTokenizer,
  texts: readonly string[],
  length: number,
): { ids: BigInt64Array; ends: BigInt64Array } {
  const ids = new BigInt64Array(texts.length * length).fill(BigInt(words.pad))
  const ends = new BigInt64Array(texts.length)
  texts.forEach((text, row) => {
    const own = [words.bos, ...words.encode(text).slice(0, length - 2), words.eos]
    own.forEach((id, i) => {
      ids[row * length + i] = BigInt(id)
    })
    ends[row] = BigInt(row * length + own.length - 1)
  })
  return { ids, ends }
}

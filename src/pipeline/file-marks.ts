import type { OpenedFile } from "./other-files.ts"

/** Hashes of the files beside a model, by the names that A1111 writes them under. */
export interface FileMarks {
  readonly loras: Readonly<Record<string, string>>
  readonly embeddings: Readonly<Record<string, string>>
}

/** Digits that A1111 writes. */
const digits = 12
const plain = (name: string) => name.replace(/[:,]/g, "")

/** A LoRA by the hash its trainer noted (kohya's `sshs_model_hash`), else by that of all behind its header. */
async function loraHash({ header, hashes }: OpenedFile): Promise<string | undefined> {
  return header.metadata.get("sshs_model_hash") ?? (await hashes?.())?.data
}

const embeddingHash = async ({ hashes }: OpenedFile): Promise<string | undefined> => (await hashes?.())?.whole

/** "Lora hashes" and "TI hashes" as A1111 1.10 finds them; files whose hash is not known here are left out. */
export async function marksOf(
  loras: readonly OpenedFile[],
  embeddings: readonly OpenedFile[],
): Promise<FileMarks> {
  const list = async (files: readonly OpenedFile[], of: typeof loraHash) => {
    const found: [string, string][] = []
    for (const file of files) {
      const hash = await of(file)
      if (hash) found.push([plain(file.name), hash.slice(0, digits)])
    }
    return Object.fromEntries(found)
  }
  return { loras: await list(loras, loraHash), embeddings: await list(embeddings, embeddingHash) }
}

/** Whether a text has a word, not as a part of another. */
export function hasWord(text: string, word: string): boolean {
  const written = word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  return new RegExp(`(?<![\\p{L}\\p{N}_])${written}(?![\\p{L}\\p{N}_])`, "iu").test(text)
}

import { f32 } from "../runtime/engine.ts"
import type { ClipTokenizer } from "../text/bpe.ts"
import type { EmbeddingWord } from "../weights/embedding.ts"
import type { WordTable } from "./conditioning.ts"

/** Tokenizers that know these words, and the words' vectors for each text encoder; of two equal words the later counts. */
export function withEmbeddings(
  tokenizers: readonly ClipTokenizer[],
  found: readonly EmbeddingWord[],
): { tokenizers: ClipTokenizer[]; tables: WordTable[] } {
  const words = new Map<string, EmbeddingWord>()
  for (const entry of found) for (const word of entry.words) words.set(word, entry)
  const counts = new Map([...words].map(([word, { count }]) => [word, count]))
  const tables = tokenizers.map((tokenizer, i): WordTable => {
    const rows = [...words.values()].map(({ vectors }) => vectors[i]!)
    const total = [...counts.values()].reduce((a, b) => a + b, 0)
    const size = rows[0]!.length / [...words.values()][0]!.count
    const data = new Float32Array((total + 1) * size)
    let at = size
    for (const row of rows) {
      data.set(row, at)
      at += row.length
    }
    return { first: tokenizer.size, vectors: f32(data, [total + 1, size]) }
  })
  return { tokenizers: tokenizers.map((tokenizer) => tokenizer.withWords(counts)), tables }
}

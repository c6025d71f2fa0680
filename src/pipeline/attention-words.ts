import type { AttentionMaps } from "./attention.ts"

/** Where the network looked for a word. */
export interface WordMap {
  readonly text: string
  /** Shares of the attention, h w, row by row. */
  readonly values: Float32Array
}

/** Maps of whole words: a word's is the mean of its tokens'. */
export function wordMaps({ tokens }: AttentionMaps): WordMap[] {
  const words: { text: string; maps: Float32Array[] }[] = []
  let open = false
  for (const { text, end, values } of tokens) {
    if (open) {
      words.at(-1)!.text += text
      words.at(-1)!.maps.push(values)
    } else words.push({ text, maps: [values] })
    open = !end
  }
  return words.map(({ text, maps }) => ({ text, values: mean(maps) }))
}

const mean = (maps: readonly Float32Array[]): Float32Array =>
  maps[0]!.map((_, i) => maps.reduce((sum, map) => sum + map[i]!, 0) / maps.length)

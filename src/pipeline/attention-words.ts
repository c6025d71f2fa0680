import type { PromptSyntax } from "../text/prompt.ts"
import type { AttentionMaps } from "./attention.ts"
import { promptTokens } from "./prompt-tokens.ts"

/** Where the network looked for a word. */
export interface WordMap {
  readonly text: string
  /** Shares of the attention, h w, row by row. */
  readonly values: Float32Array
}

/** Maps of whole words: a word's is the mean of its tokens'. Models that cut words otherwise than CLIP get numbered tokens. */
export async function wordMaps(
  { tokens }: AttentionMaps,
  prompt: string,
  syntax?: PromptSyntax,
): Promise<WordMap[]> {
  const known = await promptTokens(prompt, syntax)
  const same = known.length === tokens.length
  const words: { text: string; maps: Float32Array[] }[] = []
  let open = false
  for (const { token, values } of tokens) {
    const text = same ? known[token]!.text : `#${token + 1}`
    if (open) {
      words.at(-1)!.text += text
      words.at(-1)!.maps.push(values)
    } else words.push({ text, maps: [values] })
    open = same && !known[token]!.end
  }
  return words.map(({ text, maps }) => ({ text, values: mean(maps) }))
}

const mean = (maps: readonly Float32Array[]): Float32Array =>
  maps[0]!.map((_, i) => maps.reduce((sum, map) => sum + map[i]!, 0) / maps.length)

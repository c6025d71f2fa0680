import type { ClipTokenizer } from "../text/bpe.ts"
import { type EncodedPrompt, encodePrompt, type PromptSyntax, tokenCount } from "../text/prompt.ts"

/** One token of a prompt as a model reads it. */
export interface PromptToken {
  readonly id: number
  /** Its letters; a character that several tokens make up is the last one's, so that a word's texts, joined, spell it. */
  readonly text: string
  /** It ends a word. */
  readonly end: boolean
  /** Emphasis by the prompt's grammar; 1 is none. */
  readonly weight: number
  /** Which chunk it falls into, from 0. */
  readonly chunk: number
}

/** A prompt as a model's first tokenizer reads it. */
export interface PromptTokens {
  /** Length as A1111's counter shows it: a chunk that is left half empty counts as full. */
  readonly tokens: number
  /** What the chunks in use hold. */
  readonly room: number
  readonly chunks: number
  /** What one chunk holds: 75 for CLIP. */
  readonly perChunk: number
  /** The tokens of the first part and the first stretch of its schedule. */
  readonly pieces: readonly PromptToken[]
}

/** Cuts prompts as one model does; `words` are textual inversions with how many vectors each has. @throws PROMPT-* */
export type PromptReader = (
  text: string,
  syntax?: PromptSyntax,
  words?: ReadonlyMap<string, number>,
) => PromptTokens

export const promptTokens =
  (plain: ClipTokenizer): PromptReader =>
  (text, syntax = "a1111", words) => {
    const tokenizer = words?.size ? plain.withWords(words) : plain
    const options = { tokenizer, syntax, steps: 20 }
    return {
      ...tokenCount(text, options),
      perChunk: tokenizer.maxLength - 2,
      pieces: tokensOf(encodePrompt(text, options), tokenizer),
    }
  }

/** The tokens of a prompt's first part and the first stretch of its schedule. */
export function tokensOf({ parts }: EncodedPrompt, tokenizer: ClipTokenizer): PromptToken[] {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  return parts[0]!.schedule[0]!.chunks.flatMap(({ ids, weights, used }, chunk) =>
    Array.from(ids.subarray(1, 1 + used), (id, i) => {
      const { bytes, end } = tokenizer.piece(id)
      const text = decoder.decode(bytes, { stream: !end })
      const weight = Math.round(weights[i + 1]! * 1000) / 1000
      return { id, text, end, weight, chunk }
    }),
  )
}

import { bundledFiles, bundledVocabulary } from "../text/bundled.ts"
import { byteAlphabet } from "../text/merges.ts"
import { encodePrompt, type PromptSyntax } from "../text/prompt.ts"
import { wordEnd } from "../text/vocabulary.ts"

/** One token of a prompt as CLIP reads it. */
export interface PromptToken {
  readonly id: number
  /** The token's letters. */
  readonly text: string
  /** It ends a word. */
  readonly end: boolean
  /** Emphasis by the prompt's grammar; 1 is none. */
  readonly weight: number
  /** Which chunk of 75 it falls into, from 0. */
  readonly chunk: number
}

let symbols: Promise<readonly string[]> | undefined

async function readSymbols(): Promise<readonly string[]> {
  const ids = JSON.parse((await bundledFiles()).vocab) as Record<string, number>
  const out: string[] = []
  // by id: objects put keys that look like numbers first
  for (const [symbol, id] of Object.entries(ids)) out[id] = symbol
  return out
}

const bytes = new Map(byteAlphabet.map((letter, byte) => [letter, byte]))

/** The letters behind a symbol of the vocabulary, whose alphabet stands for bytes. */
function letters(symbol: string): string {
  const data = Uint8Array.from(symbol, (letter) => bytes.get(letter) ?? 0x3f)
  return new TextDecoder().decode(data)
}

/** A prompt as OpenAI CLIP's tokenizer cuts it, for showing: the first part and the first stretch of its schedule. */
export async function promptTokens(prompt: string, syntax: PromptSyntax = "a1111"): Promise<PromptToken[]> {
  const tokenizer = await bundledVocabulary()
  const names = await (symbols ??= readSymbols())
  const { chunks } = encodePrompt(prompt, { tokenizer, syntax }).parts[0]!.schedule[0]!
  return chunks.flatMap((chunk, index) =>
    Array.from(chunk.ids.subarray(1, 1 + chunk.used), (id, i) => {
      const symbol = names[id] ?? ""
      const end = symbol.endsWith(wordEnd)
      const text = letters(end ? symbol.slice(0, -wordEnd.length) : symbol)
      return { id, text, end, weight: Math.round(chunk.weights[i + 1]! * 1000) / 1000, chunk: index }
    }),
  )
}

import type { ClipTokenizer } from "../text/bpe.ts"
import type { Chunk, TokenizedText } from "./conditioning.ts"

/** A text and the last denoiser call, counted from 0, that reads it. */
export interface Scheduled {
  readonly end: number
  readonly text: TokenizedText
}

/** What the denoiser reads: the prompt's AND parts with their weights, and the negative prompt. */
export interface PromptPlan {
  readonly positive: readonly { readonly weight: number; readonly schedule: readonly Scheduled[] }[]
  readonly negative: readonly Scheduled[]
}

const chunked = (tokenizer: ClipTokenizer, text: string): Chunk[] => {
  const ids = tokenizer.encode(text)
  const room = tokenizer.maxLength - 2
  const out: Chunk[] = []
  for (let at = 0; at < Math.max(1, ids.length); at += room) {
    const part = ids.slice(at, at + room)
    const row = new Int32Array(tokenizer.maxLength).fill(tokenizer.pad)
    row.set([tokenizer.bos, ...part, tokenizer.eos])
    out.push({ ids: row, weights: new Float32Array(tokenizer.maxLength).fill(1) })
  }
  return out
}

export function planPrompts(
  prompt: string,
  negative: string,
  _syntax: string,
  tokenizers: readonly ClipTokenizer[],
  _calls: number,
): PromptPlan {
  const pair = [prompt, negative].map((text) => tokenizers.map((t) => chunked(t, text))) as [
    Chunk[][],
    Chunk[][],
  ]
  const most = Math.max(...pair.flat().map((c) => c.length))
  for (const side of pair)
    side.forEach((chunks, i) => {
      while (chunks.length < most) chunks.push(chunked(tokenizers[i]!, "")[0]!)
    })
  const text = (chunks: Chunk[][]): TokenizedText => ({ chunks, emphasise: () => {} })
  return {
    positive: [{ weight: 1, schedule: [{ end: Infinity, text: text(pair[0]) }] }],
    negative: [{ end: Infinity, text: text(pair[1]) }],
  }
}

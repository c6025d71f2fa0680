import { effect, signal } from "@preact/signals"
import type { PromptToken } from "../../words.ts"
import { recipe } from "../state/draft.ts"

export type { PromptToken }

/** The tokenizer with its vocabulary, fetched when a prompt is first written. */
const words = () => import("../../words.ts")

export const readTokens = async (prompt: string): Promise<PromptToken[]> =>
  (await words()).promptTokens(prompt)

/** How many tokens the prompt has and how many its chunks hold; null until it is known. */
export const tokenCount = signal<{ readonly tokens: number; readonly room: number } | null>(null)

let timer: ReturnType<typeof setTimeout> | undefined
effect(() => {
  const { prompt } = recipe.value
  clearTimeout(timer)
  if (!prompt.trim()) {
    tokenCount.value = null
    return
  }
  timer = setTimeout(async () => {
    const tokens = await readTokens(prompt).catch(() => null)
    if (tokens === null || recipe.peek().prompt !== prompt) return
    const chunks = (tokens.at(-1)?.chunk ?? 0) + 1
    const last = tokens.filter((token) => token.chunk === chunks - 1).length
    tokenCount.value = { tokens: (chunks - 1) * 75 + last, room: chunks * 75 }
  }, 180)
})

import { fail } from "../errors.ts"
import type { ClipTokenizer } from "../text/bpe.ts"
import { emptyChunk } from "../text/chunks.ts"
import { type LoraTag, loraTags } from "../text/networks.ts"
import {
  type EmphasisMode,
  type EncodedPrompt,
  encodePrompt,
  equalize,
  type PromptSyntax,
  parsePrompt,
} from "../text/prompt.ts"
import type { TokenizedText, WordTable } from "./conditioning.ts"
import { type PromptToken, tokensOf } from "./prompt-tokens.ts"

/** A text and the last denoiser call, counted from 0, that reads it. */
export interface Scheduled {
  readonly end: number
  readonly text: TokenizedText
}

/** What the denoiser reads: the prompt's AND parts with their weights, and the negative prompt. */
export interface PromptPlan {
  readonly positive: readonly { readonly weight: number; readonly schedule: readonly Scheduled[] }[]
  readonly negative: readonly Scheduled[]
  /** Adapters that the prompt names. */
  readonly loras: readonly LoraTag[]
  /** What the first tokenizer makes of the prompt's first part, in its first stretch of steps. */
  tokens(): PromptToken[]
}

export interface PlanOptions {
  readonly syntax: PromptSyntax
  readonly tokenizers: readonly ClipTokenizer[]
  /** Denoiser calls, which scheduled prompts count in. */
  readonly calls: number
  /** The scale asks for no guidance: then the negative prompt's length does not count either, unless AND parts need it. */
  readonly unguided?: boolean
  readonly words?: readonly WordTable[]
  /** Denoiser calls of the first pass, where `calls` are those of the second: scheduled prompts count on. */
  readonly firstPass?: number
  readonly emphasis?: EmphasisMode
}

/**
 * Parses both prompts in their dialect and brings them to one number of chunks, for each tokenizer of the model.
 */
export function planPrompts(
  prompt: string,
  negative: string,
  { syntax, tokenizers, calls, unguided = false, words, firstPass, emphasis }: PlanOptions,
): PromptPlan {
  const pairs = tokenizers.map((tokenizer) => {
    const options = { tokenizer, syntax, steps: calls, firstPass, emphasis }
    const positive = encodePrompt(prompt, options)
    const unread = unguided && positive.parts.length === 1 && positive.parts[0]!.weight === 1
    const pair = [positive, encodePrompt(unread ? "" : negative, { ...options, negative: true })]
    return equalize(pair, tokenizer) as [EncodedPrompt, EncodedPrompt]
  })
  refuseNetworks(pairs[0]![0])
  refuseBlend(pairs[0]!)
  const positive = pairs.map(([p]) => p)
  const parts = positive[0]!.parts.map(({ weight }, i) => ({
    weight,
    schedule: schedules(positive, i, tokenizers, words),
  }))
  return {
    positive: parts,
    loras: pairs[0]![0].loras,
    tokens: () => tokensOf(positive[0]!, tokenizers[0]!),
    negative: schedules(
      pairs.map(([, n]) => n),
      0,
      tokenizers,
      words,
    ),
  }
}

/** Part `i` of a prompt as all tokenizers read it. */
function schedules(
  prompts: readonly EncodedPrompt[],
  i: number,
  tokenizers: readonly ClipTokenizer[],
  words: readonly WordTable[] | undefined,
): Scheduled[] {
  const { emphasis } = prompts[0]!
  const empty = emphasis === "fromEmpty" ? tokenizers.map(emptyChunk) : null
  return prompts[0]!.parts[i]!.schedule.map(({ end }, k) => ({
    end,
    text: {
      chunks: prompts.map((p) => p.parts[i]!.schedule[k]!.chunks),
      emphasis,
      empty,
      words,
      repeated: prompts[0]!.parts[i]!.repeated,
    },
  }))
}

function refuseBlend(pair: readonly EncodedPrompt[]): void {
  if (pair.some((p) => p.join === "blend"))
    fail("PROMPT_BLEND", "the prompt mixes embeddings by .blend(), which is not drawn", {
      hint: "join the prompts by AND in A1111's syntax, which mixes their guidance",
    })
}

function refuseNetworks({ networks }: EncodedPrompt): void {
  const first = networks.find(({ kind }) => kind !== "lora" && kind !== "lyco")
  if (first)
    fail("PROMPT_NETWORK", `the prompt asks for ${first.kind}, which this version does not load`, {
      hint: "take the <...> out of the prompt, or use --prompt-syntax plain",
    })
}

/** Names of the LoRAs that a prompt asks for, in the dialects that can. @throws PROMPT-LORA */
export function promptLoras(prompt: string, syntax: PromptSyntax = "a1111"): string[] {
  return syntax === "a1111" || syntax === "compel"
    ? loraTags(parsePrompt(prompt, syntax).networks).map(({ name }) => name)
    : []
}

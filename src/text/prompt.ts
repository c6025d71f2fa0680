import { fail } from "../errors.ts"
import { parseSchedule, schedule, splitAnd, stripComments } from "./a1111.ts"
import type { ClipTokenizer } from "./bpe.ts"
import { a1111Chunks, type Chunk, comfyChunks, padChunks, plainChunks } from "./chunks.ts"
import { comfySegments, parseComfy } from "./comfy.ts"
import { compelSpans, parseCompel } from "./compel.ts"
import type { Emphasis } from "./emphasis.ts"
import { type LoraTag, loraTags, takeNetworks } from "./networks.ts"
import type { Network, Node, Prompt } from "./tree.ts"

/** Dialects a prompt can be written in. `plain` takes every character as it stands. */
export const syntaxes = ["a1111", "comfy", "compel", "plain"] as const
export type PromptSyntax = (typeof syntaxes)[number]

/** A1111's ways to weigh words: its setting "Emphasis mode". `none` reads brackets as letters. */
export const emphases = ["original", "no-norm", "ignore", "none"] as const
export type EmphasisMode = (typeof emphases)[number]

export interface PromptOptions {
  tokenizer: ClipTokenizer
  /** Default `a1111`. */
  syntax?: PromptSyntax
  /** Steps that schedules divide: denoiser calls, twice the steps for samplers that call twice a step. Default 1. */
  steps?: number
  /** Steps of the first pass where `steps` are those of the second. */
  firstPass?: number
  /** Negative prompts know no AND and no networks. */
  negative?: boolean
  /** How A1111's syntax weighs words, default `original`. */
  emphasis?: EmphasisMode
}

export interface EncodedPrompt {
  /** Usually one. Every entry of a schedule has the same number of chunks. */
  parts: EncodedPart[]
  /** How several parts combine: guidance u + sum w_i cfg (c_i - u) (A1111's AND), or one embedding sum w_i c_i. */
  join: "guidance" | "blend"
  emphasis: Emphasis
  networks: Network[]
  loras: LoraTag[]
}

export interface EncodedPart {
  weight: number
  schedule: { end: number; text: string; chunks: Chunk[] }[]
  /** After so many chunks the last vector is repeated for so many more: `equalize` on a shorter part of an AND. */
  repeated?: { after: number; chunks: number }
}

/** Tree of a prompt, for printing and for conversion; `encodePrompt` needs none. */
export function parsePrompt(text: string, syntax: PromptSyntax = "a1111"): Prompt {
  const single = (nodes: Node[], networks: Network[] = []): Prompt => ({
    parts: [{ weight: 1, nodes }],
    join: "guidance",
    networks,
  })
  if (syntax === "compel") return parseCompel(text)
  if (syntax === "comfy") return single(parseComfy(text))
  if (syntax === "plain") return single([{ kind: "text", text }])
  const taken = takeNetworks(stripComments(text))
  const parts = splitAnd(taken.text).map((part) => ({
    weight: part.weight,
    nodes: parseSchedule(part.text) ?? [{ kind: "text" as const, text: part.text }],
  }))
  return { parts, join: "guidance", networks: taken.networks }
}

/** A prompt as what the text encoder reads: chunks of ids and weights, per part and per stretch of steps. */
export function encodePrompt(text: string, options: PromptOptions): EncodedPrompt {
  const { syntax = "a1111" } = options
  if (!syntaxes.includes(syntax))
    fail("PROMPT-SYNTAX", `there is no prompt syntax ${JSON.stringify(syntax)}`, {
      hint: `use one of ${syntaxes.join(", ")}`,
    })
  return encoders[syntax](text, options)
}

const encoders: Record<PromptSyntax, (text: string, options: PromptOptions) => EncodedPrompt> = {
  a1111: encodeA1111,
  comfy: (text, options) =>
    single(comfyChunks(comfySegments(parseComfy(text), options.tokenizer), options.tokenizer), text, options),
  compel: encodeCompel,
  plain: (text, options) => {
    const groups = options.tokenizer.encodeGroups(text).map((ids) => ({ ids, weight: 1 }))
    return single(plainChunks(groups, options.tokenizer), text, options)
  },
}

function single(chunks: Chunk[], text: string, { steps = 1 }: PromptOptions): EncodedPrompt {
  return {
    parts: [{ weight: 1, schedule: [{ end: steps, text, chunks }] }],
    join: "guidance",
    emphasis: "fromEmpty",
    networks: [],
    loras: [],
  }
}

const acting: Record<EmphasisMode, Emphasis> = {
  original: "restoreMean",
  "no-norm": "multiply",
  ignore: "ignore",
  none: "ignore",
}

function encodeA1111(
  prompt: string,
  { tokenizer, steps = 1, firstPass, negative, emphasis = "original" }: PromptOptions,
): EncodedPrompt {
  const clean = stripComments(prompt)
  const { text, networks } = negative ? { text: clean, networks: [] } : takeNetworks(clean)
  const parts = (negative ? [{ text, weight: 1 }] : splitAnd(text)).map((part) => {
    const entries = schedule(part.text, steps, firstPass).map((entry) => ({
      ...entry,
      chunks: a1111Chunks(entry.text, tokenizer, emphasis === "none"),
    }))
    const longest = Math.max(...entries.map((entry) => entry.chunks.length))
    return {
      weight: part.weight,
      schedule: entries.map((entry) => ({ ...entry, chunks: padChunks(entry.chunks, longest, tokenizer) })),
    }
  })
  return { parts, join: "guidance", emphasis: acting[emphasis], networks, loras: loraTags(networks) }
}

function encodeCompel(prompt: string, options: PromptOptions): EncodedPrompt {
  const { parts, networks } = parseCompel(prompt)
  const first = parts[0]!.nodes[0]
  const blend = parts.length === 1 && first?.kind === "blend" ? first : undefined
  const part = (weight: number, chunks: Chunk[]) => ({
    weight,
    schedule: [{ end: options.steps ?? 1, text: prompt, chunks }],
  })
  const chunksOf = (nodes: readonly Node[]) => compelChunks(nodes, options.tokenizer)
  const sum = blend?.normalize ? blend.weights.reduce((a, b) => a + b, 0) : 1
  return {
    parts: blend
      ? blend.prompts.map((nodes, i) => part(blend.weights[i]! / sum, chunksOf(nodes)))
      : [
          part(
            1,
            parts.flatMap(({ nodes, weight }) => chunksOf(nodes).map((chunk) => scaled(chunk, weight))),
          ),
        ],
    join: blend ? "blend" : "guidance",
    emphasis: "fromEmpty",
    networks,
    loras: loraTags(networks),
  }
}

/** Compel's `.and()` sets embeddings side by side, each moved from the empty prompt by its weight, padding included. */
function scaled(chunk: Chunk, weight: number): Chunk {
  return weight === 1 ? chunk : { ...chunk, weights: chunk.weights.map((w) => w * weight), clean: false }
}

function compelChunks(nodes: readonly Node[], tokenizer: ClipTokenizer): Chunk[] {
  if (nodes.some((node) => node.kind === "swap"))
    fail("PROMPT-COMPEL", ".swap() edits attention maps, which this pipeline does not do", {
      hint: "use two prompts, or A1111's [a:b:0.5]",
    })
  const groups = compelSpans(nodes).flatMap(({ text, weight }) =>
    tokenizer.encodeGroups(text).map((ids) => ({ ids, weight })),
  )
  return plainChunks(groups, tokenizer)
}

/**
 * Makes two encoded prompts equally long, as guidance needs: the shorter one's entries get empty chunks. Of several
 * parts the shorter ones first repeat their last vector, as A1111 stacks them.
 */
export function equalize(prompts: readonly EncodedPrompt[], tokenizer: ClipTokenizer): EncodedPrompt[] {
  const lengths = (p: EncodedPrompt) => p.parts.map(({ schedule }) => schedule[0]!.chunks.length)
  const longest = Math.max(...prompts.flatMap(lengths))
  return prompts.map((p) => {
    const own = Math.max(...lengths(p))
    const parts = p.parts.map(({ weight, schedule }): EncodedPart => {
      const after = schedule[0]!.chunks.length
      const padded = schedule.map((entry) => ({
        ...entry,
        chunks: padChunks(entry.chunks, after + longest - own, tokenizer),
      }))
      const repeated = own > after ? { repeated: { after, chunks: own - after } } : {}
      return { weight, schedule: padded, ...repeated }
    })
    return { ...p, parts }
  })
}

/** Length of a prompt as A1111's counter shows it: tokens, with full chunks for all but the last, and the room there is. */
export function tokenCount(
  text: string,
  options: PromptOptions,
): { tokens: number; room: number; chunks: number } {
  const room = options.tokenizer.maxLength - 2
  const entries = encodePrompt(text, options).parts.flatMap((part) => part.schedule)
  const counts = entries.map(({ chunks }) => {
    const used = chunks.slice(0, lastUsed(chunks) + 1)
    return (used.length - 1) * room + used.at(-1)!.used
  })
  const tokens = Math.max(...counts)
  const chunks = Math.max(1, Math.ceil(tokens / room))
  return { tokens, room: chunks * room, chunks }
}

const lastUsed = (chunks: readonly Chunk[]) =>
  Math.max(
    0,
    chunks.findLastIndex((chunk) => chunk.used > 0),
  )

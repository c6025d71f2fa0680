import { fail } from "../../errors.ts"
import { byteAlphabet } from "../../text/merges.ts"
import { clean, pieces } from "../../text/unicode.ts"
import { wordEnd } from "../../text/vocabulary.ts"

const BEGIN = "<|startoftext|>"
const END = "<|endoftext|>"

export interface VocabularyOptions {
  /** Tokens in all: 512 bytes, the merges, begin and end. Fewer when every word is one token already. */
  size: number
  /** `model_max_length` of the tokenizer: tokens of a prompt, begin and end included. */
  contextLength: number
}

/** The files of a CLIP tokenizer folder, by name. */
export type VocabularyFiles = Record<
  "vocab.json" | "merges.txt" | "tokenizer_config.json" | "special_tokens_map.json",
  string
>

/**
 * Learns a byte-pair vocabulary (Sennrich et al. 2016, Alg. 1) in CLIP's form: GPT-2's byte alphabet, each byte
 * also as the end of a word (`</w>`), merges, begin and end. Any text can be encoded, byte by byte if need be.
 * Ties between pairs go to the one that sorts first, so the result depends on the captions alone.
 * @param captions texts to learn from; 40,000 of the corpus take about two seconds
 * @throws AquatintError VOCABULARY_SIZE for a size under 514
 * @example trainVocabulary(captions, { size: 1024, contextLength: 40 })["merges.txt"]
 */
export function trainVocabulary(captions: Iterable<string>, options: VocabularyOptions): VocabularyFiles {
  const alphabet = orderedAlphabet()
  const room = options.size - 2 * alphabet.length - 2
  if (!Number.isInteger(room) || room < 0)
    fail("VOCABULARY_SIZE", `A vocabulary of ${options.size} tokens is too small.`, {
      hint: "The bytes, begin and end alone are 514 tokens.",
    })
  const merges = learnMerges(countWords(captions), room)
  const tokens = [
    ...alphabet,
    ...alphabet.map((c) => c + wordEnd),
    ...merges.map(([a, b]) => a + b),
    BEGIN,
    END,
  ]
  const special = { bos_token: BEGIN, eos_token: END, unk_token: END, pad_token: END }
  return {
    "vocab.json": `${JSON.stringify(Object.fromEntries(tokens.map((t, i) => [t, i])))}\n`,
    "merges.txt": `#version: 0.2\n${merges.map((m) => `${m.join(" ")}\n`).join("")}`,
    "tokenizer_config.json": json({
      add_prefix_space: false,
      ...special,
      do_lower_case: true,
      errors: "replace",
      model_max_length: options.contextLength,
      tokenizer_class: "CLIPTokenizer",
    }),
    "special_tokens_map.json": json(special),
  }
}

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`

/** The alphabet in CLIP's order: printable bytes first, then the stand-ins. */
const orderedAlphabet = () => [...byteAlphabet].sort((a, b) => a.charCodeAt(0) - b.charCodeAt(0))

/** How often each word occurs, split and cleaned as the tokenizer will. */
function countWords(captions: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>()
  for (const caption of captions)
    for (const word of pieces(clean(caption))) counts.set(word, (counts.get(word) ?? 0) + 1)
  return counts
}

interface Entry {
  symbols: string[]
  count: number
}

function learnMerges(counts: Map<string, number>, most: number): [string, string][] {
  const utf8 = new TextEncoder()
  const words: Entry[] = [...counts].map(([word, count]) => {
    const symbols = [...utf8.encode(word)].map((byte) => byteAlphabet[byte]!)
    symbols.push(symbols.pop()! + wordEnd)
    return { symbols, count }
  })
  const merges: [string, string][] = []
  while (merges.length < most) {
    const pair = commonestPair(words)
    if (!pair) break
    merges.push(pair)
    for (const word of words) mergeIn(word, pair)
  }
  return merges
}

function commonestPair(words: readonly Entry[]): [string, string] | null {
  const pairs = new Map<string, number>()
  for (const { symbols, count } of words)
    for (let i = 1; i < symbols.length; i++) {
      const key = `${symbols[i - 1]} ${symbols[i]}`
      pairs.set(key, (pairs.get(key) ?? 0) + count)
    }
  let best = ""
  let most = 0
  for (const [key, count] of pairs)
    if (count > most || (count === most && key < best)) {
      best = key
      most = count
    }
  return most === 0 ? null : (best.split(" ") as [string, string])
}

function mergeIn(word: Entry, [left, right]: readonly [string, string]): void {
  const { symbols } = word
  for (let i = 0; i + 1 < symbols.length; i++)
    if (symbols[i] === left && symbols[i + 1] === right) symbols.splice(i, 2, left + right)
}

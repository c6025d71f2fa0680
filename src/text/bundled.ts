import { fail } from "../errors.ts"
import { ClipTokenizer } from "./bpe.ts"
import { byteAlphabet, MergeTable } from "./merges.ts"
import type { AddedToken } from "./special.ts"
import { byteIds, type Vocabulary, wordEnd } from "./vocabulary.ts"

const begin = "<|startoftext|>"
const end = "<|endoftext|>"
const file = new URL("../../assets/clip-vocab.bin.gz", import.meta.url)

let loading: Promise<Vocabulary> | undefined

/**
 * OpenAI CLIP's tokenizer with its 49,408 tokens, for checkpoints that bring none. Read once, from the file
 * system in Node and by fetch in browsers.
 *
 * @param pad `<|endoftext|>` for SD 1.x and SDXL's first encoder, `!` for SD 2.x and SDXL's second.
 * @param maxLength tokens of a chunk, begin and end included
 */
export async function bundledVocabulary(
  pad: "<|endoftext|>" | "!" = end,
  maxLength = 77,
): Promise<ClipTokenizer> {
  loading ??= unpack().then(readPairs)
  const vocabulary = await loading.catch((cause) => {
    loading = undefined
    throw cause
  })
  const token = (content: string, normalized: boolean): AddedToken => ({
    content,
    normalized,
    lstrip: false,
    rstrip: false,
    singleWord: false,
  })
  // the switches that the published tokenizer folders of these models carry
  const added = [token(begin, true), token(end, pad === "!"), ...(pad === "!" ? [token("!", false)] : [])]
  return ClipTokenizer.fromVocabulary(vocabulary, {
    bos: begin,
    eos: end,
    unk: end,
    pad,
    added,
    maxLength,
  })
}

/**
 * The vocabulary follows from its merges: 256 bytes with the printable ones first, the same ending a word, one
 * symbol per merge, begin and end. The file holds the left id of every merge and then the right id of every merge, as
 * 16-bit little-endian numbers.
 */
function columnsOf(bytes: Uint8Array): { base: string[]; left: Uint16Array; right: Uint16Array } {
  const printable = byteAlphabet.filter((c) => c.charCodeAt(0) < 256)
  const bytesInOrder = [...printable, ...byteAlphabet.filter((c) => c.charCodeAt(0) >= 256)]
  const base = [...bytesInOrder, ...bytesInOrder.map((c) => c + wordEnd)]
  const n = bytes.length / 4
  const columns = new Uint16Array(bytes.slice().buffer)
  return { base, left: columns.subarray(0, n), right: columns.subarray(n) }
}

function readPairs(bytes: Uint8Array): Vocabulary {
  const { base, left, right } = columnsOf(bytes)
  let ids: Map<string, number> | undefined
  const find = (symbol: string) => (ids ??= idsOf(symbolsOf(base, left, right))).get(symbol)
  const count = base.length + left.length + 2
  const small = new Map(base.map((symbol, id) => [symbol, id]))
  small.set(begin, count - 2).set(end, count - 1)
  const symbol = (id: number): string | undefined => {
    if (id >= count - 2) return [begin, end][id - count + 2]
    const at = id - base.length
    return at < 0 ? base[id] : `${symbol(left[at]!)}${symbol(right[at]!)}`
  }
  return {
    count,
    highest: count - 1,
    ...byteIds((symbol) => small.get(symbol)),
    merges: new MergeTable(left, right, base.length),
    find: (symbol) => small.get(symbol) ?? find(symbol),
    symbol,
  }
}

function symbolsOf(base: readonly string[], left: Uint16Array, right: Uint16Array): string[] {
  const symbols = [...base]
  for (let i = 0; i < left.length; i++) symbols.push(symbols[left[i]!]! + symbols[right[i]!]!)
  return symbols
}

const idsOf = (symbols: readonly string[]) => new Map(symbols.map((symbol, id) => [symbol, id]))

/** The same vocabulary as published folders hold it: vocab.json and merges.txt, as text. */
export async function bundledFiles(): Promise<{ vocab: string; merges: string }> {
  const { base, left, right } = columnsOf(await unpack())
  const symbols = symbolsOf(base, left, right)
  const lines = Array.from(left, (id, i) => `${symbols[id]} ${symbols[right[i]!]}`)
  const ids = Object.fromEntries(idsOf([...symbols, begin, end]))
  return { vocab: JSON.stringify(ids), merges: `#version: 0.2\n${lines.join("\n")}\n` }
}

/** A module of Node's own, out of sight of bundlers for browsers. */
const builtin = <T>(name: string): Promise<T> =>
  import(/* @vite-ignore */ /* webpackIgnore: true */ `node:${name}`)

async function unpack(): Promise<Uint8Array> {
  if (file.protocol === "file:") {
    const { readFile } = await builtin<typeof import("node:fs/promises")>("fs/promises")
    const { gunzipSync } = await builtin<typeof import("node:zlib")>("zlib")
    return gunzipSync(await readFile(file))
  }
  const response = await fetch(file)
  if (!response.ok)
    fail("TOKENIZER-VOCAB", `the bundled vocabulary was not served: ${response.status} ${file.href}`, {
      blame: "here",
    })
  const bytes = new Uint8Array(await response.arrayBuffer())
  // some servers unpack .gz files on the way
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))
  return new Uint8Array(await new Response(stream).arrayBuffer())
}

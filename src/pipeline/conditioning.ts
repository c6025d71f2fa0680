import { fail } from "../errors.ts"
import { type ClipConfig, endPosition } from "../models/index.ts"
import { f32, i64, type Value } from "../runtime/engine.ts"
import type { Chunk } from "../text/chunks.ts"
import { type Emphasis, fromEmpty, multiply, restoreMean } from "../text/emphasis.ts"
import { type EncodedRows, LastUsed } from "./last-used.ts"
import type { Networks } from "./networks.ts"

/** A text ready for the encoders. */
export interface TokenizedText {
  /** Per tokenizer, its chunks. */
  readonly chunks: readonly (readonly Chunk[])[]
  /** How weights act on hidden states, by dialect. */
  readonly emphasis: Emphasis
  /** Per tokenizer the chunk of an empty text, where the dialect measures weights from it. */
  readonly empty: readonly Chunk[] | null
  /** Per tokenizer, the vectors of textual-inversion words, where there are any. */
  readonly words?: readonly WordTable[]
  /** After so many chunks the last vector is repeated for so many more (A1111's shorter parts of an AND). */
  readonly repeated?: { readonly after: number; readonly chunks: number }
}

/** Vectors of textual-inversion words for one encoder. */
export interface WordTable {
  /** The id of the first vector; the others follow it. */
  readonly first: number
  /** n+1 d; row 0 is zero. */
  readonly vectors: Value
}

/** What the U-Net reads of a text. */
export interface Embedding {
  /** 1 tokens d */
  readonly context: Value
  /** 1 p, of models with a second, projected encoder. */
  readonly pooled: Value | null
}

/** Layer of each encoder: the last, but the one before it for SDXL, whose encoders are read unnormalised (Podell et al. 2023, sec. 2.1). */
function layerOf(networks: Networks, clipSkip: number | undefined): { skip: number; norm: boolean } {
  const sdxl = networks.unet.addition_embed_type === "text_time"
  return sdxl ? { skip: (clipSkip ?? 1) + 1, norm: false } : { skip: clipSkip ?? 1, norm: true }
}

/**
 * Runs the text encoders on the texts of one schedule: chunks are encoded apart and joined along the tokens, encoders
 * along the features.
 */
export async function encodeTexts(
  networks: Networks,
  texts: readonly TokenizedText[],
  clipSkip: number | undefined,
): Promise<Embedding[]> {
  const layer = layerOf(networks, clipSkip)
  const parts: Encoded[][] = []
  for (const i of texts[0]!.chunks.keys()) parts.push(await encodeBy(networks, i, texts, layer))
  return texts.map((text, k) => ({
    context: lengthened(joinFeatures(parts.map((p) => p[k]!.hidden)), text),
    pooled: parts.at(-1)?.[k]?.pooled ?? null,
  }))
}

interface Encoded {
  readonly hidden: Value
  readonly pooled: Value | null
}

/** All texts by encoder `i`; texts of the last pictures are not encoded again. */
async function encodeBy(
  networks: Networks,
  i: number,
  texts: readonly TokenizedText[],
  layer: { skip: number; norm: boolean },
): Promise<Encoded[]> {
  const { max_position_embeddings: tokens, hidden_size: size } = networks.texts[i]!
  const one = tokens * size
  // ids of textual-inversion words mean other vectors in another picture
  const own = new LastUsed<EncodedRows>(64)
  const state = `${i} ${layer.skip} ${layer.norm} ${networks.textState(i)}`
  const runs: { z: Float32Array[]; pooled: Value | null }[] = []
  for (const { chunks: all, empty, words } of texts) {
    const chunks = all[i]!
    const rows = empty && chunks.some((c) => !c.clean) ? [...chunks, empty[i]!] : chunks
    const key = `${state} ${rows.map((c) => c.ids.join()).join(";")}`
    const make = () => runEncoder(networks, i, rows, layer, words?.[i])
    const run = await (words ? own : networks.encoded).take(key, make)
    runs.push({ ...run, z: rows.map((_, row) => run.hidden.subarray(row * one, (row + 1) * one)) })
  }
  const weighted = weigh(
    texts,
    i,
    runs.map(({ z }) => z),
  )
  return runs.map(({ pooled }, k) => ({ hidden: joinTokens(weighted[k]!, tokens, size), pooled }))
}

/**
 * Embeddings of every text's chunks with the emphasis of their dialect.
 * @param zs per text its chunks' embeddings, and behind them the empty chunk's where the dialect needs it
 */
function weigh(
  texts: readonly TokenizedText[],
  i: number,
  zs: readonly (readonly Float32Array[])[],
): Float32Array[][] {
  const out: Float32Array[][] = texts.map(() => [])
  const { emphasis, chunks } = texts[0]!
  for (const place of chunks[i]!.keys()) {
    const here = texts.map((text) => text.chunks[i]![place]!)
    const z = zs.map((rows) => rows[place]!)
    const weights = here.map((chunk) => chunk.weights)
    const clean = here.every((chunk) => chunk.clean)
    const weighted =
      clean || emphasis !== "restoreMean"
        ? here.map((chunk, k) => (chunk.clean ? z[k]! : weighAlone(emphasis, z[k]!, weights[k]!, zs[k]!)))
        : restoreMean(z, weights)
    weighted.forEach((row, k) => {
      out[k]!.push(row)
    })
  }
  return out
}

function weighAlone(
  emphasis: Emphasis,
  z: Float32Array,
  weights: Float32Array,
  rows: readonly Float32Array[],
): Float32Array {
  if (emphasis === "fromEmpty") return fromEmpty(z, rows.at(-1)!, weights)
  return emphasis === "multiply" ? multiply(z, weights) : z
}

/** Chunks side by side: 1 n*tokens size. */
function joinTokens(chunks: readonly Float32Array[], tokens: number, size: number): Value {
  const out = new Float32Array(chunks.length * tokens * size)
  chunks.forEach((chunk, i) => {
    out.set(chunk, i * tokens * size)
  })
  return f32(out, [1, chunks.length * tokens, size])
}

/** The context with the last vector of the text's own chunks repeated, where the text asks for it. */
function lengthened(context: Value, { chunks, repeated }: TokenizedText): Value {
  if (!repeated) return context
  const [, tokens, width] = context.shape as [number, number, number]
  const chunk = tokens / chunks[0]!.length
  const data = context.data as Float32Array
  const [after, more] = [repeated.after * chunk * width, repeated.chunks * chunk * width]
  const out = new Float32Array(data.length + more)
  out.set(data.subarray(0, after))
  for (let at = after; at < after + more; at += width) out.set(data.subarray(after - width, after), at)
  out.set(data.subarray(after), after + more)
  return f32(out, [1, tokens + repeated.chunks * chunk, width])
}

/** Hidden states of every chunk, and the first one's projected end state where the encoder has one. */
async function runEncoder(
  networks: Networks,
  i: number,
  rows: readonly Chunk[],
  layer: { skip: number; norm: boolean },
  words: WordTable | undefined,
): Promise<EncodedRows> {
  const config = networks.texts[i]!
  const tokens = config.max_position_embeddings
  const flat = rows.flatMap((c) => Array.from(c.ids))
  const isWord = (id: number) => words !== undefined && id >= words.first
  checkIds(
    flat.filter((id) => !isWord(id)),
    config,
    rows[0]!.ids.length,
  )
  const shape = [rows.length, tokens]
  const ids = i64(
    flat.map((id) => (isWord(id) ? 0 : id)),
    shape,
  )
  const ends = i64(
    rows.map((c, row) => row * tokens + endPosition(c.ids, config)),
    [rows.length],
  )
  const withWords = flat.some(isWord)
  const net = await networks.text(i, { ...layer, words: withWords })
  const inputs: Record<string, Value> = config.projection ? { ids, ends } : { ids }
  if (withWords) {
    inputs.words = words!.vectors
    inputs.places = i64(
      flat.map((id) => (isWord(id) ? id - words!.first + 1 : 0)),
      shape,
    )
    inputs.ordinary = f32(
      Float32Array.from(flat, (id) => (isWord(id) ? 0 : 1)),
      [...shape, 1],
    )
  }
  const out = await net.run(inputs)
  const { pooled } = out
  const first = pooled
    ? f32((pooled.data as Float32Array).slice(0, pooled.shape[1]), [1, pooled.shape[1]!])
    : null
  return { hidden: out.hidden!.data as Float32Array, pooled: first }
}

/** A tokenizer of another model names tokens, or makes chunks, that the encoder has no row for. */
function checkIds(ids: readonly number[], config: ClipConfig, length: number): void {
  const { max_position_embeddings: tokens, vocab_size: size } = config
  const hint = "the tokenizer does not belong to this text encoder; fetch the whole model again"
  if (length !== tokens)
    fail(
      "TOKENIZER-CONFIG",
      `the tokenizer makes chunks of ${length} tokens, the text encoder reads ${tokens}`,
      {
        hint,
      },
    )
  const strange = ids.find((id) => id >= size)
  if (strange !== undefined)
    fail("TOKENIZER-VOCAB", `the tokenizer gives the id ${strange}, the text encoder knows ${size}`, { hint })
}

/** Joins 1 t d1 and 1 t d2 to 1 t d1+d2. */
function joinFeatures(parts: readonly Value[]): Value {
  if (parts.length === 1) return parts[0]!
  const tokens = parts[0]!.shape[1]!
  const sizes = parts.map((p) => p.shape[2]!)
  const width = sizes.reduce((a, b) => a + b, 0)
  const out = new Float32Array(tokens * width)
  for (let t = 0; t < tokens; t++) {
    let at = t * width
    parts.forEach((part, i) => {
      out.set((part.data as Float32Array).subarray(t * sizes[i]!, (t + 1) * sizes[i]!), at)
      at += sizes[i]!
    })
  }
  return f32(out, [1, tokens, width])
}

/** The same embedding with every number zero. */
export const zeroEmbedding = (like: Embedding): Embedding => ({
  context: f32(new Float32Array(like.context.data.length), like.context.shape),
  pooled: like.pooled && f32(new Float32Array(like.pooled.data.length), like.pooled.shape),
})

/** Rows on top of each other: n of 1 ... to n ... */
export function stackRows(rows: readonly Value[]): Value {
  if (rows.length === 1) return rows[0]!
  const size = rows[0]!.data.length
  const data = new Float32Array(size * rows.length)
  rows.forEach((row, i) => {
    data.set(row.data as Float32Array, i * size)
  })
  return f32(data, [rows.length, ...rows[0]!.shape.slice(1)])
}

/** Sinusoid of the guidance scale that guidance-distilled models read (Meng et al. 2023; diffusers' get_guidance_scale_embedding). */
export function guidanceEmbedding(cfg: number, size: number): Value {
  const half = Math.floor(size / 2)
  const w = (cfg - 1) * 1000
  const rate = Math.log(10000) / (half - 1)
  const data = new Float32Array(size)
  for (let i = 0; i < half; i++) {
    data[i] = Math.sin(w * Math.exp(-rate * i))
    data[half + i] = Math.cos(w * Math.exp(-rate * i))
  }
  return f32(data, [1, size])
}

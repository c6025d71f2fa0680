import { fail } from "../errors.ts"
import { type ClipConfig, endPosition } from "../models/index.ts"
import { f32, i64, type Value } from "../runtime/engine.ts"
import type { Chunk } from "../text/chunks.ts"
import { fromEmpty, restoreMean } from "../text/emphasis.ts"
import type { Networks } from "./networks.ts"

/** A text ready for the encoders. */
export interface TokenizedText {
  /** Per tokenizer, its chunks. */
  readonly chunks: readonly (readonly Chunk[])[]
  /** How weights act on hidden states, by dialect. */
  readonly emphasis: "restoreMean" | "fromEmpty"
  /** Per tokenizer the chunk of an empty text, where the dialect measures weights from it. */
  readonly empty: readonly Chunk[] | null
  /** Per tokenizer, the vectors of textual-inversion words, where there are any. */
  readonly words?: readonly WordTable[]
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

/** Runs the text encoders: chunks are encoded apart and joined along the tokens, encoders along the features. */
export async function encodeText(
  networks: Networks,
  text: TokenizedText,
  clipSkip: number | undefined,
): Promise<Embedding> {
  const layer = layerOf(networks, clipSkip)
  const parts: { hidden: Value; pooled: Value | null }[] = []
  for (const i of text.chunks.keys()) parts.push(await encodeChunks(networks, i, text, layer))
  const pooled = parts.at(-1)?.pooled ?? null
  return { context: joinFeatures(parts.map((p) => p.hidden)), pooled }
}

async function encodeChunks(
  networks: Networks,
  i: number,
  text: TokenizedText,
  layer: { skip: number; norm: boolean },
): Promise<{ hidden: Value; pooled: Value | null }> {
  const chunks = text.chunks[i]!
  const empty = text.empty && chunks.some((c) => !c.clean) ? text.empty[i]! : null
  const rows = empty ? [...chunks, empty] : chunks
  const { max_position_embeddings: tokens, hidden_size: size } = networks.texts[i]!
  const { hidden, pooled } = await runEncoder(networks, i, rows, layer, text.words?.[i])
  const at = (row: number) => hidden.subarray(row * tokens * size, (row + 1) * tokens * size)
  chunks.forEach((chunk, row) => {
    if (chunk.clean) return
    at(row).set(
      empty ? fromEmpty(at(row), at(chunks.length), chunk.weights) : restoreMean(at(row), chunk.weights),
    )
  })
  return {
    hidden: f32(hidden.slice(0, chunks.length * tokens * size), [1, chunks.length * tokens, size]),
    pooled,
  }
}

/** Hidden states of every chunk, and the first one's projected end state where the encoder has one. */
async function runEncoder(
  networks: Networks,
  i: number,
  rows: readonly Chunk[],
  layer: { skip: number; norm: boolean },
  words: WordTable | undefined,
) {
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

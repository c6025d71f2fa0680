import { endPosition } from "../models/index.ts"
import { f32, i64, type Value } from "../runtime/engine.ts"
import type { Networks } from "./networks.ts"

/** One chunk of a prompt as every tokenizer of the model gives it: ids with begin and end, and a weight per token. */
export interface Chunk {
  readonly ids: Int32Array
  readonly weights: Float32Array
}

/** A text ready for the encoders: per tokenizer, its chunks. */
export interface TokenizedText {
  readonly chunks: readonly (readonly Chunk[])[]
  /** Brings the weights into the hidden states of one chunk, t d in place (dialects differ). */
  readonly emphasise: (hidden: Float32Array, weights: Float32Array) => void
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
  for (const [i, chunks] of text.chunks.entries())
    parts.push(await encodeChunks(networks, i, chunks, layer, text.emphasise))
  const pooled = parts.at(-1)?.pooled ?? null
  return { context: joinFeatures(parts.map((p) => p.hidden)), pooled }
}

async function encodeChunks(
  networks: Networks,
  i: number,
  chunks: readonly Chunk[],
  layer: { skip: number; norm: boolean },
  emphasise: TokenizedText["emphasise"],
) {
  const config = networks.texts[i]!
  const tokens = config.max_position_embeddings
  const ids = chunks.flatMap((c) => Array.from(c.ids))
  const ends = chunks.map((c, row) => row * tokens + endPosition(c.ids, config))
  const net = await networks.text(i, layer)
  const out = await net.run({
    ids: i64(ids, [chunks.length, tokens]),
    ...(config.projection ? { ends: i64(ends, [chunks.length]) } : {}),
  })
  const hidden = out.hidden!.data as Float32Array
  chunks.forEach((chunk, row) => {
    if (chunk.weights.some((w) => w !== 1))
      emphasise(
        hidden.subarray(row * tokens * config.hidden_size, (row + 1) * tokens * config.hidden_size),
        chunk.weights,
      )
  })
  const pooled = out.pooled
    ? f32((out.pooled.data as Float32Array).slice(0, out.pooled.shape[1]), [1, out.pooled.shape[1]!])
    : null
  return { hidden: f32(hidden, [1, chunks.length * tokens, config.hidden_size]), pooled }
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

import { fail } from "../errors.ts"
import { attention, isBreak, type Span } from "./a1111.ts"
import { type ClipTokenizer, vectorIds } from "./bpe.ts"

/** What one run of the text encoder reads. Both arrays are `maxLength` long: begin, words, end, padding. */
export interface Chunk {
  ids: Int32Array
  /** Emphasis of each id; 1 on begin, end and padding. */
  weights: Float32Array
  /** How many ids are words of the prompt. */
  used: number
  /** True where every weight is 1, so that the embeddings stay as they are. */
  clean: boolean
}

/** Ids that stay together (a textual-inversion word, or one id) with their weight. */
export interface Group {
  ids: readonly number[]
  weight: number
}

/** Tokens that may lie between the last comma and the end of a chunk to be moved to the next: A1111's default. */
const commaReach = 20

/** Fills one chunk after another. */
class Packer {
  readonly chunks: Chunk[] = []
  ids: number[] = []
  weights: number[] = []
  readonly room: number
  private readonly tokenizer: ClipTokenizer

  constructor(tokenizer: ClipTokenizer) {
    this.tokenizer = tokenizer
    this.room = tokenizer.maxLength - 2
  }

  push(ids: readonly number[], weight: number): void {
    for (const id of ids) {
      this.ids.push(id)
      this.weights.push(weight)
    }
  }

  /** Takes the words from `at` on out of the open chunk. */
  cut(at: number): { ids: number[]; weights: number[] } {
    return { ids: this.ids.splice(at), weights: this.weights.splice(at) }
  }

  close(): void {
    this.chunks.push(wrap(this.ids, this.weights, this.tokenizer))
    this.ids = []
    this.weights = []
  }

  /** Closes the open chunk if it holds words or is the only one. */
  finish(): Chunk[] {
    if (this.ids.length > 0 || this.chunks.length === 0) this.close()
    return this.chunks
  }
}

function wrap(
  ids: readonly number[],
  weights: readonly number[],
  { bos, eos, pad, maxLength }: ClipTokenizer,
): Chunk {
  const chunk = {
    ids: new Int32Array(maxLength).fill(pad),
    weights: new Float32Array(maxLength).fill(1),
    used: ids.length,
    clean: weights.every((weight) => weight === 1),
  }
  chunk.ids.set([bos, ...ids, eos])
  chunk.weights.set(weights, 1)
  return chunk
}

/** The chunk of an empty prompt. */
export const emptyChunk = (tokenizer: ClipTokenizer): Chunk => wrap([], [], tokenizer)

/** Lengthens a list of chunks with empty ones: positive and negative prompt must be of one length. */
export function padChunks(chunks: readonly Chunk[], count: number, tokenizer: ClipTokenizer): Chunk[] {
  return [
    ...chunks,
    ...Array.from({ length: Math.max(0, count - chunks.length) }, () => emptyChunk(tokenizer)),
  ]
}

/** Groups in order, `maxLength - 2` ids to a chunk; a group that does not fit begins the next chunk. */
export function plainChunks(groups: readonly Group[], tokenizer: ClipTokenizer): Chunk[] {
  const packer = new Packer(tokenizer)
  for (const { ids, weight } of groups) {
    checkFits(ids, packer.room)
    if (packer.ids.length + ids.length > packer.room) packer.close()
    packer.push(ids, weight)
  }
  return packer.finish()
}

function checkFits(ids: readonly number[], room: number): void {
  if (ids.length > room)
    fail("PROMPT-EMBEDDING", `an embedding of ${ids.length} vectors is longer than a chunk of ${room} tokens`)
}

/**
 * Chunks of one A1111 prompt text (modules/sd_hijack_clip.py): a full chunk breaks back to its last comma within
 * 20 tokens, BREAK closes the chunk, textual-inversion words are found by their ids.
 *
 * @param literal brackets and BREAK are letters like others (A1111's emphasis mode "None")
 */
export function a1111Chunks(text: string, tokenizer: ClipTokenizer, literal = false): Chunk[] {
  return packSpans(literal ? [{ text, weight: 1 }] : attention(text), tokenizer)
}

function packSpans(spans: readonly Span[], tokenizer: ClipTokenizer): Chunk[] {
  const packer = new Packer(tokenizer)
  const comma = tokenizer.id(",</w>")
  // vectors that a comma moved on: A1111 moves their places alone, and lays them over what stands there instead
  const left: { chunk: number; at: number; id: number }[] = []
  let lastComma = -1
  const close = () => {
    packer.close()
    lastComma = -1
  }
  for (const span of spans) {
    if (isBreak(span)) {
      close()
      continue
    }
    const ids = tokenizer.encode(span.text)
    for (let at = 0; at < ids.length; ) {
      const length = packer.ids.length
      if (ids[at] === comma) lastComma = length
      else if (length === packer.room && lastComma !== -1 && length - lastComma <= commaReach) {
        const { ids: moved, weights } = packer.cut(lastComma + 1)
        for (const [i, id] of moved.entries())
          if (id >= tokenizer.size) left.push({ chunk: packer.chunks.length, at: lastComma + 2 + i, id })
        close()
        Object.assign(packer, { ids: moved.map((id) => (id < tokenizer.size ? id : 0)), weights })
      }
      if (packer.ids.length === packer.room) close()
      const found = tokenizer.wordAt(ids, at)
      const group = found ? vectorIds(found.word) : [ids[at]!]
      checkFits(group, packer.room)
      if (packer.ids.length + group.length > packer.room) close()
      packer.push(group, span.weight)
      at += found?.length ?? 1
    }
  }
  const chunks = packer.finish().map((chunk) => padAfterEnd(chunk, tokenizer))
  for (const { chunk, at, id } of left) chunks[chunk]!.ids[at] = id
  return chunks
}

/** A1111 pads from the first end id on, even where the prompt itself holds it; vectors of words stay. */
function padAfterEnd(chunk: Chunk, { eos, pad, size }: ClipTokenizer): Chunk {
  if (eos === pad) return chunk
  const end = chunk.ids.indexOf(eos)
  return { ...chunk, ids: chunk.ids.map((id, i) => (i > end && id < size ? pad : id)) }
}

/**
 * ComfyUI's chunks (comfy/sd1_clip.py): a segment of fewer than 8 ids is never broken, a longer one fills the
 * chunk and goes on in the next.
 */
export function comfyChunks(segments: readonly Group[], tokenizer: ClipTokenizer): Chunk[] {
  const packer = new Packer(tokenizer)
  for (const { ids, weight } of segments) {
    for (let at = 0; at < ids.length; ) {
      const free = packer.room - packer.ids.length
      const left = ids.length - at
      // a short segment is broken only where even an empty chunk is too small for it
      const take = left <= free ? left : ids.length >= 8 || free === packer.room ? free : 0
      packer.push(ids.slice(at, at + take), weight)
      at += take
      if (take < left) packer.close()
    }
  }
  return packer.finish()
}

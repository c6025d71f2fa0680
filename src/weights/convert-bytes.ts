import { type FileHandle, open } from "node:fs/promises"
import { castOf, type Target } from "./convert-cast.ts"
import type { Computed } from "./edit/computed.ts"
import { fileError, readInto } from "./file-source.ts"
import { fromCodes, readScales } from "./int8.ts"
import type { StoredTensor } from "./torch-file.ts"
import { byteLength, DTYPE_BITS } from "./view.ts"

/** Bytes read at a time; every element size divides it. */
const CHUNK = 4 * 1024 * 1024
/** Elements gathered at a time from bytes in another order, and the bytes looked through for them. */
const GATHER = 1024 * 1024
const WINDOW = 32 * 1024 * 1024

/** Files that are read from during one conversion, each opened once. */
export class FilePool {
  private readonly handles = new Map<string, Promise<FileHandle>>()
  private readonly computed: Computed | undefined

  /** @param computed files that exist nowhere else */
  constructor(computed?: Computed) {
    this.computed = computed
  }

  async read(file: string, into: Uint8Array, at: number): Promise<void> {
    const made = await this.computed?.bytes(file)
    if (made) return into.set(made.subarray(at, at + into.length))
    await readInto(await this.handle(file), into, at, file)
  }

  private handle(file: string): Promise<FileHandle> {
    const known = this.handles.get(file)
    if (known) return known
    const opened = open(file, "r").catch((error: unknown) => {
      throw fileError(error, file)
    })
    this.handles.set(file, opened)
    return opened
  }

  async close(): Promise<void> {
    const all = [...this.handles.values()]
    this.handles.clear()
    for (const opened of all) await opened.then((h) => h.close()).catch(() => undefined)
  }
}

/** What happens to the bytes on their way. */
export interface Passage {
  pool: FilePool
  dtype?: Target | undefined
  /** Told after every piece: bytes read, and numbers that became infinite. */
  onPiece?: (read: number, lost: number) => void
}

/**
 * A tensor's bytes in row-major order and in the type asked for, in pieces of a few megabytes. The piece is overwritten
 * by the next one: use it before asking for more.
 */
export async function* tensorBytes(view: StoredTensor, passage: Passage): AsyncGenerator<Uint8Array> {
  if (view.scale && passage.dtype) return yield* numbersOf(view, passage, passage.dtype)
  const cast = castOf(view.dtype, passage.dtype)
  const strides = view.strides ?? (view.transposed ? [1, view.shape[0]!] : undefined)
  const pieces = strides ? gather(view, strides, passage.pool) : sequence(view, passage.pool)
  const size = Math.min(CHUNK, byteLength(view.dtype, view.shape))
  const output = cast ? new Uint8Array((size / cast.from) * cast.to) : undefined
  for await (const piece of pieces) {
    if (!cast || !output) {
      passage.onPiece?.(piece.length, 0)
      yield piece
      continue
    }
    const out = output.subarray(0, (piece.length / cast.from) * cast.to)
    const lost = cast.run(piece, out)
    passage.onPiece?.(piece.length, lost)
    yield out
  }
}

/** Eight-bit codes as numbers. */
async function* numbersOf(view: StoredTensor, { pool, onPiece }: Passage, dtype: Target) {
  const scales = await readScales(view, async ({ file, offset, length }) => {
    const bytes = new Uint8Array(length)
    await pool.read(file, bytes, offset)
    return bytes
  })
  const inner = view.length / view.shape[0]!
  const cast = castOf("F32", dtype)
  let at = 0
  for await (const piece of sequence(view, pool)) {
    const codes = new Int8Array(piece.buffer, piece.byteOffset, piece.length)
    const bytes = new Uint8Array(fromCodes(codes, scales, inner, at).buffer)
    const out = cast ? new Uint8Array((bytes.length / cast.from) * cast.to) : bytes
    const lost = cast?.run(bytes, out) ?? 0
    at += piece.length
    onPiece?.(piece.length, lost)
    yield out
  }
}

async function* sequence(view: StoredTensor, pool: FilePool): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(Math.min(CHUNK, view.length))
  for (let at = 0; at < view.length; at += CHUNK) {
    const piece = buffer.subarray(0, Math.min(CHUNK, view.length - at))
    await pool.read(view.file, piece, view.offset + at)
    yield piece
  }
}

/** Elements in the order of the shape from bytes in the order of the strides, in bounded memory. */
async function* gather(
  view: StoredTensor,
  strides: readonly number[],
  pool: FilePool,
): AsyncGenerator<Uint8Array> {
  const size = DTYPE_BITS[view.dtype] / 8
  const total = view.shape.reduce((a, b) => a * b, 1)
  const span = total === 0 ? 0 : view.shape.reduce((sum, n, i) => sum + (n - 1) * strides[i]!, 1)
  const perWindow = WINDOW / size
  const window = new Uint8Array(Math.min(span, perWindow) * size)
  const block = Math.min(total, GATHER, CHUNK / size)
  const places = new Float64Array(block)
  const output = new Uint8Array(block * size)
  let held = -1
  for (let start = 0; start < total; start += block) {
    const count = Math.min(block, total - start)
    const { first, last } = placesOf(places.subarray(0, count), start, view.shape, strides)
    for (let w = Math.floor(first / perWindow); w <= Math.floor(last / perWindow); w++) {
      const from = w * perWindow
      const bytes = window.subarray(0, Math.min(perWindow, span - from) * size)
      if (held !== w) await pool.read(view.file, bytes, view.offset + from * size)
      held = w
      pick(bytes, output, places.subarray(0, count), from, size)
    }
    yield output.subarray(0, count * size)
  }
}

/** Where each element of a run lies, in elements from the tensor's first. */
function placesOf(
  places: Float64Array,
  start: number,
  shape: readonly number[],
  strides: readonly number[],
): { first: number; last: number } {
  const index = shape.map(() => 0)
  let rest = start
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = rest % shape[axis]!
    rest = Math.floor(rest / shape[axis]!)
  }
  let place = index.reduce((sum, n, axis) => sum + n * strides[axis]!, 0)
  let first = Number.POSITIVE_INFINITY
  let last = 0
  for (let i = 0; i < places.length; i++) {
    places[i] = place
    if (place < first) first = place
    if (place > last) last = place
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      place += strides[axis]!
      if (++index[axis]! < shape[axis]!) break
      place -= index[axis]! * strides[axis]!
      index[axis] = 0
    }
  }
  return { first, last }
}

/** Copies the elements that lie in a window. */
function pick(
  window: Uint8Array,
  output: Uint8Array,
  places: Float64Array,
  from: number,
  size: number,
): void {
  const count = window.length / size
  for (let i = 0; i < places.length; i++) {
    const at = places[i]! - from
    if (at < 0 || at >= count) continue
    for (let b = 0; b < size; b++) output[i * size + b] = window[at * size + b]!
  }
}

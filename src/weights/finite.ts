import { fail } from "../errors.ts"
import { DTYPE_BITS, type Dtype, type TensorView } from "./view.ts"

/** Where a tensor's file can be read in pieces: fills `into` from `position`. */
export type ReadInto = (file: string, into: Uint8Array, position: number) => Promise<void>

export interface ScanOptions {
  signal?: AbortSignal
  /** Bytes scanned so far, of how many. */
  progress?: (done: number, total: number) => void
  /** Bytes read at once. */
  chunk?: number
}

/**
 * Exponent bits of a dtype in a 32-bit word, and the number that carries out of them when all are set.
 * With two halves in a word the carry of each lands in its own sign bit, so both are tested at once.
 */
const EXPONENT: Partial<Record<Dtype, { mask: number; carry: number; top: number; stride: number }>> = {
  F16: { mask: 0x7c007c00, carry: 0x04000400, top: 0x80008000, stride: 1 },
  BF16: { mask: 0x7f807f80, carry: 0x00800080, top: 0x80008000, stride: 1 },
  F32: { mask: 0x7f800000, carry: 0x00800000, top: 0x80000000, stride: 1 },
  F64: { mask: 0x7ff00000, carry: 0x00100000, top: 0x80000000, stride: 2 },
}

/** Whether any of these little-endian floats is NaN or infinite. `bytes` starts at a multiple of 8 of its buffer. */
export function hasNonFinite(dtype: Dtype, bytes: Uint8Array): boolean {
  const exponent = EXPONENT[dtype]
  if (exponent === undefined) return false
  const { mask, carry, top, stride } = exponent
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2)
  let seen = 0
  for (let i = stride - 1; i < words.length; i += stride) seen |= ((words[i]! & mask) + carry) | 0
  if (bytes.byteLength & 2) {
    // an odd half at the end
    const last = bytes[bytes.byteLength - 2]! | (bytes[bytes.byteLength - 1]! << 8)
    seen |= (last & mask & 0xffff) + (carry & 0xffff)
  }
  return (seen & top) !== 0
}

interface Run {
  file: string
  dtype: Dtype
  offset: number
  length: number
  views: TensorView[]
}

/** Views of one file and dtype that lie end to end, as one stretch of bytes; shared bytes are read once. */
function runsOf(views: Iterable<TensorView>): Run[] {
  const stored = [...views].map((view) => view.scale ?? view)
  const floats = stored.filter(({ dtype, length }) => EXPONENT[dtype] !== undefined && length > 0)
  floats.sort((a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : a.offset - b.offset))
  const runs: Run[] = []
  for (const view of floats) {
    const last = runs.at(-1)
    const end = last && last.offset + last.length
    const joins = last?.file === view.file && last.dtype === view.dtype && view.offset <= end!
    if (last && joins && (view.offset - last.offset) % (DTYPE_BITS[view.dtype] / 8) === 0) {
      last.length = Math.max(last.length, view.offset + view.length - last.offset)
      last.views.push(view)
      continue
    }
    const { file, dtype, offset, length } = view
    runs.push({ file, dtype, offset, length, views: [view] })
  }
  return runs
}

interface Piece {
  run: Run
  at: number
  bytes: Uint8Array
}

/** Pieces of the runs in order; while one is looked at, the next is read into the other buffer. */
async function* pieces(
  runs: readonly Run[],
  read: ReadInto,
  chunk: number,
  signal?: AbortSignal,
): AsyncGenerator<Piece> {
  const longest = runs.reduce((most, { length }) => Math.max(most, length), 0)
  const size = Math.min(chunk, longest)
  const buffers = [new Uint8Array(size), new Uint8Array(size)] as const
  let turn = 0
  const starts = (function* () {
    for (const run of runs)
      for (let at = run.offset; at < run.offset + run.length; at += chunk) yield { run, at }
  })()
  const begin = () => {
    const { value, done } = starts.next()
    if (done || !value) return undefined
    const { run, at } = value
    const bytes = buffers[turn++ % 2 === 0 ? 0 : 1].subarray(0, Math.min(chunk, run.offset + run.length - at))
    const ready = read(run.file, bytes, at)
    ready.catch(() => undefined) // it is awaited a turn later
    return { run, at, bytes, ready }
  }
  for (let now = begin(); now; ) {
    await now.ready
    signal?.throwIfAborted()
    const next = begin()
    yield now
    now = next
  }
}

/**
 * Reads all float tensors once and throws WEIGHTS_NOT_FINITE naming those with NaN or infinite values.
 * The bytes are tested by their exponent bits while the next piece is read: under 1 s for 2 GB in the page
 * cache. Aborting rejects with the signal's reason.
 */
export async function scanFinite(
  views: Iterable<TensorView>,
  read: ReadInto,
  options: ScanOptions = {},
): Promise<void> {
  const chunk = Math.max(64, (options.chunk ?? 4 * 1024 * 1024) & ~63)
  options.signal?.throwIfAborted()
  const runs = runsOf(views)
  const total = runs.reduce((sum, run) => sum + run.length, 0)
  const suspects = new Set<TensorView>()
  let done = 0
  for await (const { run, at, bytes } of pieces(runs, read, chunk, options.signal)) {
    if (hasNonFinite(run.dtype, bytes))
      for (const view of run.views)
        if (view.offset < at + bytes.length && view.offset + view.length > at) suspects.add(view)
    done += bytes.length
    options.progress?.(done, total)
  }
  if (suspects.size > 0) await accuse(suspects, read, chunk)
}

/** Looks at each suspect alone, since a piece may hold several tensors. */
async function accuse(suspects: Iterable<TensorView>, read: ReadInto, chunk: number): Promise<never> {
  const bad: TensorView[] = []
  for (const view of suspects) {
    let found = false
    for await (const { run, bytes } of pieces(runsOf([view]), read, chunk))
      found ||= hasNonFinite(run.dtype, bytes)
    if (found) bad.push(view)
  }
  const [first] = bad
  const names = bad.slice(0, 5).map(({ name }) => name)
  const more = bad.length > names.length ? ` and ${bad.length - names.length} more` : ""
  return fail("WEIGHTS_NOT_FINITE", `${first?.file}: NaN or infinite values in ${names.join(", ")}${more}`, {
    ...(first ? { file: first.file } : {}),
    hint: "the file is damaged, or was trained or merged into nothing; fetch it again",
    details: { tensors: bad.map(({ name }) => name) },
  })
}

/**
 * The boundary to a tensor engine: ONNX bytes in, sessions that run out. It is narrow and made of plain data, so that
 * the engine can live in this thread, in a child process or in a web worker (remote.ts) without its users noticing.
 */

export type ValueData = Float32Array | BigInt64Array | Int32Array | Int8Array | Uint8Array

/** An array with its shape; the element type follows from the data (Uint8Array is bool). */
export interface Value {
  readonly data: ValueData
  readonly shape: readonly number[]
}

/** An array that stays inside the engine, on its device, between runs. */
export interface Ref {
  readonly ref: number
  readonly shape: readonly number[]
}

export type Feed = Value | Ref

export type DeviceName = "cpu" | "webgpu" | "cuda" | "dml" | "coreml" | "wasm"

export interface SessionSpec {
  readonly onnx: Uint8Array
  /**
   * Absolute paths of weight files that `onnx` refers to from the root of the file system, or bytes under the very name
   * that it uses. `onnx` and bytes may be moved away from the caller.
   */
  readonly externals: readonly (
    | { readonly path: string }
    | { readonly path: string; readonly data: Uint8Array }
  )[]
  readonly device: DeviceName
  readonly threads?: number
  /** Outputs that will always be kept: they stay on the device. */
  readonly keep?: readonly string[]
  /** Treat denormal numbers as zero: training meets them in vanishing gradients, where each costs a hundred others. */
  readonly flush?: boolean
  /** The session will run once: nothing is prepared ahead, and its memory is exactly what its results need. */
  readonly once?: boolean
}

export interface Engine {
  create(spec: SessionSpec): Promise<number>
  /**
   * Outputs named in `keep` come back as references, the others as arrays. `into` gives up references, by the name of
   * the kept output of the same shape that may be written over them; they must not be among the feeds.
   */
  run(
    session: number,
    feeds: Readonly<Record<string, Feed>>,
    keep?: readonly string[],
    into?: Readonly<Record<string, Ref>>,
  ): Promise<Record<string, Feed>>
  free(refs: readonly number[]): Promise<void>
  release(session: number): Promise<void>
  /** Ends the engine; pending calls fail. Safe to call twice. */
  close(): Promise<void>
}

export const isRef = (feed: Feed): feed is Ref => "ref" in feed

/** The array of a run that kept nothing under that name. */
export function value(feeds: Readonly<Record<string, Feed>>, name: string): Value {
  const feed = feeds[name]
  if (feed === undefined || isRef(feed)) throw new TypeError(`output ${name} is not an array`)
  return feed
}

export const f32 = (data: Float32Array, shape: readonly number[]): Value => ({ data, shape })
export const i64 = (data: ArrayLike<number>, shape: readonly number[]): Value => ({
  data: BigInt64Array.from(Array.from(data, BigInt)),
  shape,
})

import { fail } from "../errors.ts"

/** Bits of one element, by safetensors dtype name. */
export const DTYPE_BITS = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const satisfies Record<string, number>

/** A dtype as safetensors spells it. */
export type Dtype = keyof typeof DTYPE_BITS

/** Where one tensor lies in a file: the common currency of weights, so that nothing is copied or converted. */
export interface TensorView {
  name: string
  dtype: Dtype
  shape: number[]
  /** Real path of the file (symlinks resolved), or the name of the bytes in memory. */
  file: string
  /** First byte, counted from the start of the file. */
  offset: number
  /** Bytes. */
  length: number
  /** The bytes are stored [in, out] where `shape` says [out, in]. */
  transposed?: boolean
  /** The numbers are eight-bit codes times these, one for each row of the first axis. */
  scale?: TensorView
}

/** Tensors by name; a `Map` is one. */
export interface WeightMap {
  get(name: string): TensorView | undefined
  names(): Iterable<string>
}

/** A `Map` of views as a WeightMap. */
export class Weights extends Map<string, TensorView> implements WeightMap {
  names(): Iterable<string> {
    return this.keys()
  }
}

export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(DTYPE_BITS, name)
}

/** Number of elements; 1 for a scalar. NaN where the product is no safe integer. */
export function elements(shape: readonly number[]): number {
  let product = 1
  for (const size of shape) {
    product *= size
    if (!Number.isSafeInteger(product)) return Number.NaN
  }
  return product
}

/** Bytes of a tensor, or NaN where they are no whole number or no safe integer. */
export function byteLength(dtype: Dtype, shape: readonly number[]): number {
  const bits = elements(shape) * DTYPE_BITS[dtype]
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : Number.NaN
}

/**
 * Rows `start` to `start + count` of a view's first axis, as a view of the same file.
 * A fused qkv matrix [3 d, d] gives q as rows(view, name, 0, d).
 */
export function rows(view: TensorView, name: string, start: number, count: number): TensorView {
  const [total, ...rest] = view.shape
  if (total === undefined || view.transposed || start < 0 || count < 0 || start + count > total)
    fail("WEIGHTS_ROWS", `${view.name}: no rows ${start} to ${start + count} in ${showShape(view.shape)}`, {
      file: view.file,
    })
  const row = total === 0 ? 0 : view.length / total
  const scale = view.scale && rows(view.scale, view.scale.name, start, count)
  const part = { ...view, name, shape: [count, ...rest], offset: view.offset + start * row }
  return { ...part, length: count * row, ...(scale ? { scale } : {}) }
}

/** The same bytes under another shape with as many elements: a 1x1 convolution as a linear layer and back. */
export function reshaped(view: TensorView, shape: readonly number[]): TensorView {
  if (elements(shape) !== elements(view.shape) || (view.scale && shape[0] !== view.shape[0]))
    fail(
      "WEIGHTS_RESHAPE",
      `${view.name}: ${showShape(view.shape)} has other elements than ${showShape(shape)}`,
      { file: view.file },
    )
  return { ...view, shape: [...shape] }
}

/** The view of the transpose of a stored matrix: [in, out] bytes read as [out, in]. */
export function transposed(view: TensorView): TensorView {
  const [first, second, ...more] = view.shape
  if (first === undefined || second === undefined || more.length > 0 || view.scale)
    fail("WEIGHTS_TRANSPOSE", `${view.name}: only a matrix has a transpose, got ${showShape(view.shape)}`, {
      file: view.file,
    })
  return { ...view, shape: [second, first], transposed: !view.transposed }
}

/** `[320, 4, 3, 3]`, shortened after eight axes. */
export function showShape(shape: readonly number[]): string {
  return shape.length > 8
    ? `[${shape.slice(0, 8).join(", ")}, ... ${shape.length} axes]`
    : `[${shape.join(", ")}]`
}

/** `f16[320, 320]`. */
export function showView(view: Pick<TensorView, "dtype" | "shape">): string {
  return `${view.dtype.toLowerCase()}${showShape(view.shape)}`
}

import { fail } from "../errors.ts"
import { fromCodes, readScales } from "./int8.ts"
import type { ByteSource } from "./source.ts"
import { elements, type TensorView } from "./view.ts"

/** One half precision number (IEEE 754 binary16) by its bits, exactly. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (1024 + fraction) * 2 ** (exponent - 25)
}

/**
 * Little-endian floats as Float32Array: F16, BF16 and F32 exactly, F64 rounded to the nearest float.
 * Bytes may lie at any alignment. Errors: WEIGHTS_DTYPE for other types.
 */
export function decodeFloats(dtype: TensorView["dtype"], bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (dtype === "F32")
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true))
  if (dtype === "F64")
    return Float32Array.from({ length: bytes.length / 8 }, (_, i) => view.getFloat64(8 * i, true))
  if (dtype === "F16")
    return Float32Array.from({ length: bytes.length / 2 }, (_, i) => halfToFloat(view.getUint16(2 * i, true)))
  if (dtype !== "BF16")
    fail("WEIGHTS_DTYPE", `${dtype} values are no floats this reads`, { hint: "F16, BF16, F32 or F64" })
  const out = new Uint32Array(bytes.length / 2)
  for (let i = 0; i < out.length; i++) out[i] = view.getUint16(2 * i, true) << 16
  return new Float32Array(out.buffer)
}

/** A small tensor's values, row by row in the order of `view.shape` (a transposed view is turned). */
export async function readFloats(source: ByteSource, view: TensorView): Promise<Float32Array> {
  const bytes = await source.read(view.offset, view.length)
  if (view.scale) {
    const scales = await readScales(view, (scale) => source.read(scale.offset, scale.length))
    return fromCodes(new Int8Array(bytes.slice().buffer), scales, view.length / view.shape[0]!)
  }
  const values = decodeFloats(view.dtype, bytes)
  if (!view.transposed) return values
  const [out, inner] = view.shape as [number, number]
  const turned = new Float32Array(elements(view.shape))
  for (let o = 0; o < out; o++) for (let i = 0; i < inner; i++) turned[o * inner + i] = values[i * out + o]!
  return turned
}

import { showShape, type TensorView, type Weights } from "./view.ts"

/** The note by which files say how their eight-bit codes are read. */
export const INT8_NOTE = "aquatint.int8"
export const INT8_TEXT = "NAME = codes (I8) * NAME_scale (F32, one for each output)"

/** The largest magnitude of a code: minus 128 has no counterpart. */
const most = 127

/** Name of the tensor that holds the scales of a tensor of codes. */
export const scaleName = (name: string): string => `${name}_scale`

/**
 * Gives tensors of codes their scales, which then are no tensors of their own.
 * @param refuse told what is wrong: scales of another shape or type, or none where the file's notes promise them
 */
export function pairScales(
  tensors: Weights,
  noted: boolean,
  refuse: (what: string, tensor: string) => never,
): void {
  for (const view of [...tensors.values()]) {
    if (view.dtype !== "I8" || view.shape.length < 2) continue
    const scale = tensors.get(scaleName(view.name))
    if (!scale) {
      if (noted) refuse(`its codes stand without their scales ${scaleName(view.name)}`, view.name)
      continue
    }
    const rows = view.shape[0]!
    if (scale.dtype !== "F32" || scale.shape.length !== 1 || scale.shape[0] !== rows)
      refuse(`${scale.dtype}${showShape(scale.shape)} for the scales of ${rows} outputs`, scale.name)
    tensors.delete(scale.name)
    tensors.set(view.name, { ...view, scale })
  }
}

/** Numbers of codes whose rows begin at element `at` of a tensor with `inner` elements a row. */
export function fromCodes(codes: Int8Array, scales: Float32Array, inner: number, at = 0): Float32Array {
  return Float32Array.from(codes, (code, i) => code * scales[Math.floor((at + i) / inner)]!)
}

/** A scale for each row: its largest magnitude is 127 steps (src/graph/quantize.ts, in the same single precision). */
export function scalesOf(values: Float32Array, rows: number): Float32Array {
  const inner = values.length / rows
  const step = Math.fround(1 / most)
  return Float32Array.from({ length: rows }, (_, r) => {
    let largest = 0
    for (let i = r * inner; i < (r + 1) * inner; i++) largest = Math.max(largest, Math.abs(values[i]!))
    return Math.max(Math.fround(largest * step), Math.fround(1e-30))
  })
}

/** Codes of numbers, to the nearest step, ties to the even one; as floats. */
export function toCodes(values: Float32Array, scales: Float32Array): Float32Array {
  const inner = values.length / scales.length
  return values.map((value, i) => {
    const steps = Math.fround(value / scales[Math.floor(i / inner)]!)
    const whole = Math.round(steps)
    return whole - steps === 0.5 && whole % 2 !== 0 ? whole - 1 : whole
  })
}

/** Layers that run once for a prompt or step: time and size embeddings, keys and values of the prompt. */
const seldom = /time_emb|add_embedding|class_embedding|label_emb|emb_layers|attn2\.to_[kv]\./

/** Whether a U-Net's weight is worth its rounding: what `generate --dtype int8` computes in integers. */
export function suitsInt8(name: string, shape: readonly number[]): boolean {
  const size = shape.reduce((a, b) => a * b, 1)
  if (!name.endsWith(".weight") || size < 2 ** 16 || seldom.test(name)) return false
  return shape.length === 2 || (shape.length === 4 && Math.min(shape[0]!, shape[1]!) >= 640)
}

/** Reads the scales of a view. */
export async function readScales(
  { scale }: TensorView,
  read: (view: TensorView) => Promise<Uint8Array>,
): Promise<Float32Array> {
  const bytes = await read(scale!)
  return new Float32Array(bytes.slice().buffer)
}

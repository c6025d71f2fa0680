import type { ConvAttrs } from "../attrs.ts"
import { addDim, type Dim, floorDiv, mulDim, sameDim } from "../dim.ts"
import { type Emitter, misfit, type Op, row } from "./row.ts"

export interface Int8ConvAttrs extends ConvAttrs {
  kernel: readonly [number, number]
}

const whole = "integers have no slope"

/** The largest magnitude of a weight's code: minus 128 has no counterpart. */
export const int8Limit = 127

/**
 * Products of eight-bit integers. Weights have a scale per output channel, x one scale and zero point for all of it,
 * found anew at every run (Jacob et al. 2018, sec. 2.1); sums are exact in 32 bits and come out as float.
 */
export const int8: {
  int8Codes: Op<Readonly<Record<never, never>>>
  int8Linear: Op<Readonly<Record<never, never>>>
  int8Conv: Op<Int8ConvAttrs>
} = {
  /** A weight (o k) divided by its scales (o), rounded, as the right side of a product: k o. */
  int8Codes: row({
    shape: ([w, scale]) =>
      w!.rank === 2 && sameDim(w!.shape[0]!, scale!.shape[0]!)
        ? { shape: [w!.shape[1]!, w!.shape[0]!], dtype: "i8" }
        : misfit("int8Codes", [w!, scale!], "a scale per row"),
    grad: whole,
    onnx: (e, [w, scale]) => {
      const steps = e.node("Div", [w!, e.node("Unsqueeze", [scale!, e.ints([1])])])
      const codes = e.node("Cast", [e.node("Round", [steps])], { to: 3 })
      return e.node("Transpose", [codes], { perm: [1, 0] })
    },
  }),
  /** x (.. k) times codes (k o), the codes' scales (o) and perhaps a bias. */
  int8Linear: row({
    shape: ([x, codes]) =>
      sameDim(x!.shape.at(-1)!, codes!.shape[0]!)
        ? { shape: [...x!.shape.slice(0, -1), codes!.shape[1]!], dtype: "f32" }
        : misfit("int8Linear", [x!, codes!], "inner sizes differ"),
    grad: whole,
    onnx: (e, [x, codes, scale, bias]) => product(e, quantized(e, x!), codes!, scale!, bias),
  }),
  /** x (b c h w) by codes ((kh kw c) o), channels last in between. */
  int8Conv: row<Int8ConvAttrs>({
    shape: ([x, codes], { stride, pads, kernel: [kh, kw] }) => {
      const [b, c, h, w] = x!.dims("b c h w")
      if (!sameDim(mulDim(c, kh * kw), codes!.shape[0]!)) misfit("int8Conv", [x!, codes!], "channels differ")
      const out = (d: Dim, pad: number, k: number) => addDim(floorDiv(addDim(d, pad - k), stride), 1)
      return {
        shape: [b, codes!.shape[1]!, out(h, pads[0]! + pads[2]!, kh), out(w, pads[1]! + pads[3]!, kw)],
        dtype: "f32",
      }
    },
    grad: whole,
    onnx: (e, [x, codes, scale, bias], attrs, node) => {
      const found = quantized(e, x!)
      const last = e.node("Transpose", [found.codes], { perm: [0, 2, 3, 1] })
      const columns = tapsOf(e, last, found.zero, attrs, node.shape.slice(2))
      const y = product(e, { ...found, codes: columns }, codes!, scale!, bias)
      return e.node("Transpose", [y], { perm: [0, 3, 1, 2] })
    },
  }),
}

interface Quantized {
  readonly codes: string
  readonly scale: string
  readonly zero: string
}

function quantized(e: Emitter, x: string): Quantized {
  const [codes, scale, zero] = e.several("DynamicQuantizeLinear", [x], 3) as [string, string, string]
  return { codes, scale, zero }
}

const product = (e: Emitter, x: Quantized, codes: string, scale: string, bias: string | undefined): string =>
  e.node(
    "MatMulIntegerToFloat",
    [x.codes, codes, x.scale, scale, x.zero, ...(bias ? ["", bias] : [])],
    {},
    "com.microsoft",
  )

/** What every place of the result sees under the kernel, side by side: b h w (kh kw c). */
function tapsOf(
  e: Emitter,
  x: string,
  zero: string,
  { stride, pads, kernel: [kh, kw] }: Int8ConvAttrs,
  [oh, ow]: readonly Dim[],
): string {
  const [top, left, bottom, right] = pads as [number, number, number, number]
  const wide = pads.some((p) => p > 0)
    ? e.node("Pad", [x, e.ints([0, top, left, 0, 0, bottom, right, 0]), zero])
    : x
  if (kh * kw === 1 && stride === 1) return wide
  const end = (start: number, size: Dim) => addDim(start + 1 - stride, mulDim(stride, size))
  const seen = Array.from({ length: kh * kw }, (_, t) => {
    const [y, z] = [Math.floor(t / kw), t % kw]
    const ends = e.shape([end(y, oh!), end(z, ow!)])
    return e.node("Slice", [wide, e.ints([y, z]), ends, e.ints([1, 2]), e.ints([stride, stride])])
  })
  return seen.length === 1 ? seen[0]! : e.node("Concat", seen, { axis: 3 })
}

import type { Dim } from "./dim.ts"

/** What an op is told beside its operands. */
type None = Readonly<Record<never, never>>
interface Named {
  name: string
}
interface Axis {
  axis: number
}
interface Reduce {
  axes: readonly number[]
  keep: boolean
}
export interface ConvAttrs {
  stride: number
  /** top, left, bottom, right */
  pads: readonly number[]
  groups: number
}
export interface AttentionAttrs {
  heads: number
  /** Default: 1 / sqrt(size of a head). */
  scale?: number
}
export type DType = "f32" | "f16" | "i64" | "i32" | "i8" | "bool"
export type TypedData = Float32Array | BigInt64Array | Int32Array | Uint8Array

/** Every op by name, with the type of its attributes; the table in ops.ts must have a row for each. */
export interface OpAttrs {
  input: Named
  param: Named
  constant: { data: TypedData }
  add: None
  sub: None
  mul: None
  div: None
  max: None
  min: None
  pow: None
  greater: None
  equal: None
  where: None
  neg: None
  exp: None
  log: None
  sqrt: None
  reciprocal: None
  abs: None
  sign: None
  sin: None
  cos: None
  tanh: None
  erf: None
  relu: None
  sigmoid: None
  silu: None
  quickGelu: None
  gelu: None
  cast: { dtype: DType }
  reshape: { shape: readonly Dim[] }
  transpose: { perm: readonly number[] }
  broadcast: { shape: readonly Dim[] }
  concat: Axis
  slice: { axis: number; start: Dim; end: Dim; step?: number }
  unslice: { axis: number; start: number; step: number; size: number }
  pad: { before: readonly number[]; after: readonly number[] }
  resize: { height: Dim; width: Dim }
  blockSum: { factor: number }
  depthToSpace: { factor: number }
  gather: None
  scatterRows: { rows: number }
  matmul: None
  addmm: None
  linear: None
  conv2d: ConvAttrs
  convInput: ConvAttrs & { height: Dim; width: Dim }
  blockedConv: ConvAttrs & { block: number; back: boolean }
  int8Codes: None
  int8Linear: None
  int8Conv: ConvAttrs & { kernel: readonly [number, number] }
  attention: AttentionAttrs
  layerNorm: { eps: number }
  groupNorm: { groups: number; eps: number }
  groupAffine: { groups: number; eps: number }
  softmax: Axis
  sum: Reduce
  mean: Reduce
  amax: Reduce
  argmax: Axis
  largest: { count: Dim }
  pick: None
  addAt: None
  put: None
}

export type OpName = keyof OpAttrs

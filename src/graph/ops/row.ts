import { fail } from "../../errors.ts"
import type { DType } from "../attrs.ts"
import { type Dim, sameDim, showShape } from "../dim.ts"
import type { Tensor } from "../tensor.ts"

/** What the ONNX writer offers to a row; names are those of values in the file. */
export interface Emitter {
  /** Adds a node and returns the name of its output. */
  node(
    type: string,
    inputs: readonly string[],
    attrs?: Readonly<Record<string, OnnxAttr>>,
    domain?: string,
  ): string
  /** Adds a node of several outputs and returns their names. */
  several(type: string, inputs: readonly string[], count: number): readonly string[]
  /** A 1-D int64 constant. */
  ints(values: readonly number[]): string
  float(value: number): string
  floats(values: readonly number[], shape: readonly number[]): string
  /** A 1-D int64 value holding these sizes, computed at run time where they are symbolic. */
  shape(dims: readonly Dim[]): string
}

export type OnnxAttr = number | readonly number[] | string | { float: number }

export interface Made {
  readonly shape: readonly Dim[]
  readonly dtype: DType
}

/** One row of the table: shape rule, gradient and ONNX form of an op with attributes A. */
export interface Op<A> {
  shape(inputs: readonly Tensor[], attrs: A): Made
  /** Gradients of the operands given that of the result (un-broadcast by the walker), or why there are none. */
  readonly grad:
    | ((g: Tensor, node: Tensor, inputs: readonly Tensor[], attrs: A) => readonly (Tensor | null)[])
    | string
  /** An ONNX op of the same operands, or how to write it. */
  readonly onnx: string | ((e: Emitter, inputs: readonly string[], attrs: A, node: Tensor) => string)
}

/** Keeps the attribute type of a row while the table stays one object. */
export const row = <A = Readonly<Record<never, never>>>(op: Op<A>): Op<A> => op

/** Refuses operands that do not fit, naming op and shapes. */
export function misfit(op: string, inputs: readonly Tensor[], why: string): never {
  return fail(
    "GRAPH_SHAPE",
    `${op} of ${inputs.map((i) => `${i.dtype}${showShape(i.shape)}`).join(" and ")}: ${why}`,
    { blame: "here" },
  )
}

/** Shape of an elementwise result under numpy's broadcasting. */
export function broadcast(op: string, inputs: readonly Tensor[]): readonly Dim[] {
  const rank = Math.max(...inputs.map((i) => i.rank))
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = inputs.map((i) => i.shape[axis - (rank - i.rank)] ?? 1).filter((d) => d !== 1)
    if (sizes.some((d) => !sameDim(d, sizes[0]!))) misfit(op, inputs, `axis ${axis} differs`)
    return sizes[0] ?? 1
  })
}

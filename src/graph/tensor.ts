import { fail } from "../errors.ts"
import type { ConvAttrs, DType, OpName, TypedData } from "./attrs.ts"
import { type Dim, exactDiv, mulDim, sameDim, sameShape, showShape } from "./dim.ts"
import { ops } from "./ops.ts"
import { rearrange } from "./rearrange.ts"

export type Attrs = Readonly<Record<string, unknown>>

type Tuple<S extends string> = S extends `${string} ${infer Rest}` ? [Dim, ...Tuple<Rest>] : [Dim]

let counter = 0

/**
 * A value of a traced graph: which op makes it, from what, and the shape and type it will have.
 * Nothing is computed here. Methods check shapes at once and name both operands when they do not fit.
 */
export class Tensor {
  readonly id = counter++
  readonly op: OpName
  readonly inputs: readonly Tensor[]
  readonly attrs: Attrs
  readonly shape: readonly Dim[]
  readonly dtype: DType

  constructor(op: OpName, inputs: readonly Tensor[], attrs: Attrs, shape: readonly Dim[], dtype: DType) {
    this.op = op
    this.inputs = inputs
    this.attrs = attrs
    this.shape = shape
    this.dtype = dtype
  }

  get rank(): number {
    return this.shape.length
  }

  /** The sizes, one per name: `const [b, c, h, w] = x.dims("b c h w")`; another rank is an error. */
  dims<S extends string>(names: S): Tuple<S> {
    const wanted = names.split(" ")
    if (wanted.length !== this.rank)
      fail("GRAPH_RANK", `expected "${names}", got ${showShape(this.shape)}`, { blame: "here" })
    return [...this.shape] as Tuple<S>
  }

  // elementwise, broadcasting as numpy does
  add(y: Tensor | number): Tensor {
    return apply("add", [this, lift(y, this)])
  }
  sub(y: Tensor | number): Tensor {
    return apply("sub", [this, lift(y, this)])
  }
  mul(y: Tensor | number): Tensor {
    return apply("mul", [this, lift(y, this)])
  }
  div(y: Tensor | number): Tensor {
    return apply("div", [this, lift(y, this)])
  }
  max(y: Tensor | number): Tensor {
    return apply("max", [this, lift(y, this)])
  }
  min(y: Tensor | number): Tensor {
    return apply("min", [this, lift(y, this)])
  }
  pow(y: Tensor | number): Tensor {
    return apply("pow", [this, lift(y, this)])
  }
  greater(y: Tensor | number): Tensor {
    return apply("greater", [this, lift(y, this)])
  }
  equal(y: Tensor | number): Tensor {
    return apply("equal", [this, lift(y, this)])
  }
  /** this ? a : b, elementwise. */
  where(a: Tensor, b: Tensor): Tensor {
    return apply("where", [this, a, b])
  }
  neg(): Tensor {
    return apply("neg", [this])
  }
  exp(): Tensor {
    return apply("exp", [this])
  }
  log(): Tensor {
    return apply("log", [this])
  }
  sqrt(): Tensor {
    return apply("sqrt", [this])
  }
  reciprocal(): Tensor {
    return apply("reciprocal", [this])
  }
  abs(): Tensor {
    return apply("abs", [this])
  }
  sign(): Tensor {
    return apply("sign", [this])
  }
  sin(): Tensor {
    return apply("sin", [this])
  }
  cos(): Tensor {
    return apply("cos", [this])
  }
  tanh(): Tensor {
    return apply("tanh", [this])
  }
  erf(): Tensor {
    return apply("erf", [this])
  }
  relu(): Tensor {
    return apply("relu", [this])
  }
  sigmoid(): Tensor {
    return apply("sigmoid", [this])
  }
  square(): Tensor {
    return this.mul(this)
  }
  clamp(lo: number, hi: number): Tensor {
    return this.max(lo).min(hi)
  }
  /** x * sigmoid(x), Elfwing et al. 2017. */
  silu(): Tensor {
    return apply("silu", [this])
  }
  /** Gaussian error linear unit, Hendrycks & Gimpel 2016, exact form. */
  gelu(): Tensor {
    return apply("gelu", [this])
  }
  /** x * sigmoid(1.702 x), the form in OpenAI's CLIP. */
  quickGelu(): Tensor {
    return apply("quickGelu", [this])
  }

  // products
  /** Batched matrix product: ... m k  times  ... k n. */
  matmul(y: Tensor): Tensor {
    return apply("matmul", [this, y])
  }

  /** This matrix with the product of two others added to it. */
  addmm(a: Tensor, b: Tensor): Tensor {
    return apply("addmm", [this, a, b])
  }
  /** x W^T + b over the last axis; weight is out in, as checkpoints store it. */
  linear(weight: Tensor, bias?: Tensor | null): Tensor {
    return apply("linear", bias ? [this, weight, bias] : [this, weight])
  }
  /** 2-D convolution, x: b i h w, weight: o i/groups kh kw. */
  conv2d(weight: Tensor, bias: Tensor | null, attrs: Partial<ConvAttrs> = {}): Tensor {
    return apply("conv2d", bias ? [this, weight, bias] : [this, weight], {
      stride: 1,
      pads: [0, 0, 0, 0],
      groups: 1,
      ...attrs,
    })
  }
  /** softmax(scale q k^T + mask) v per head; this = q: b s (heads d), k and v: b t (heads d), mask: broadcastable to b heads s t. */
  attention(k: Tensor, v: Tensor, attrs: { heads: number; scale?: number }, mask?: Tensor | null): Tensor {
    return apply("attention", mask ? [this, k, v, mask] : [this, k, v], attrs)
  }

  // reductions
  sum(axes: readonly number[], keep = false): Tensor {
    return apply("sum", [this], { axes: axes.map((a) => this.axis(a)), keep })
  }
  mean(axes: readonly number[], keep = false): Tensor {
    return apply("mean", [this], { axes: axes.map((a) => this.axis(a)), keep })
  }
  amax(axes: readonly number[], keep = false): Tensor {
    return apply("amax", [this], { axes: axes.map((a) => this.axis(a)), keep })
  }
  argmax(axis: number): Tensor {
    return apply("argmax", [this], { axis: this.axis(axis) })
  }
  softmax(axis = -1): Tensor {
    return apply("softmax", [this], { axis: this.axis(axis) })
  }
  layerNorm(scale: Tensor, bias: Tensor, eps: number): Tensor {
    return apply("layerNorm", [this, scale, bias], { eps })
  }
  /** Wu & He 2018; x: b c ..., statistics per picture and group of channels. */
  groupNorm(scale: Tensor, bias: Tensor, attrs: { groups: number; eps: number }): Tensor {
    return apply("groupNorm", [this, scale, bias], attrs)
  }

  // layout
  /** Reshape and transpose in one readable pattern: `x.rearrange("b c h w -> b (h w) c")`. */
  rearrange(pattern: string, sizes: Readonly<Record<string, Dim>> = {}): Tensor {
    return rearrange(this, pattern, sizes)
  }
  transpose(perm: readonly number[]): Tensor {
    return perm.every((p, i) => p === i) ? this : apply("transpose", [this], { perm })
  }
  /** Same elements, other shape; one size may be -1. */
  reshape(shape: readonly Dim[]): Tensor {
    const known = mulDim(...shape.filter((d) => d !== -1))
    const full = shape.map((d) =>
      d === -1
        ? (exactDiv(mulDim(...this.shape), known) ??
          fail("GRAPH_SHAPE", `cannot reshape ${showShape(this.shape)} to ${showShape(shape)}`, {
            blame: "here",
          }))
        : d,
    )
    return sameShape(full, this.shape) ? this : apply("reshape", [this], { shape: full })
  }
  /** Repeats along axes of size 1 until the shape is `shape`. */
  broadcastTo(shape: readonly Dim[]): Tensor {
    return sameShape(shape, this.shape) ? this : apply("broadcast", [this], { shape })
  }
  slice(axis: number, start: Dim, end: Dim): Tensor {
    const at = this.axis(axis)
    return start === 0 && sameDim(end, this.shape[at]!)
      ? this
      : apply("slice", [this], { axis: at, start, end })
  }
  /** Zeros around: before and after, one number per axis. */
  pad(before: readonly number[], after: readonly number[]): Tensor {
    return [...before, ...after].every((p) => p === 0) ? this : apply("pad", [this], { before, after })
  }
  /** Nearest-neighbour enlargement of b c h w to the given height and width. */
  resize(height: Dim, width: Dim): Tensor {
    return apply("resize", [this], { height, width })
  }
  /** Rows of this table (v d) by integer ids of any shape. */
  gather(ids: Tensor): Tensor {
    return apply("gather", [this, ids])
  }
  /** Places of the largest numbers of each row (b n), the largest first: b count. */
  largest(count: Dim): Tensor {
    return apply("largest", [this], { count })
  }
  /** Rows of this (b n c) at ids (b m), chosen apart for each entry of the batch: b m c. */
  pick(ids: Tensor): Tensor {
    return apply("pick", [this, ids])
  }
  /** This (b n c) with rows (b m c) added at ids (b m). */
  addAt(ids: Tensor, rows: Tensor): Tensor {
    return apply("addAt", [this, ids, rows])
  }
  /** This (b n c) with rows (b m c) in the place of those at ids (b m), each of which occurs once. */
  put(ids: Tensor, rows: Tensor): Tensor {
    return apply("put", [this, ids, rows])
  }
  cast(dtype: DType): Tensor {
    return dtype === this.dtype ? this : apply("cast", [this], { dtype })
  }

  axis(axis: number): number {
    const at = axis < 0 ? axis + this.rank : axis
    if (!(at >= 0 && at < this.rank))
      fail("GRAPH_RANK", `axis ${axis} of ${showShape(this.shape)}`, { blame: "here" })
    return at
  }
}

/** Makes a node: the op's row decides shape and type, or throws naming op and operand shapes. */
export function apply(op: OpName, inputs: readonly Tensor[], attrs: Attrs = {}): Tensor {
  const row = ops[op]
  const made = row.shape(inputs, attrs as never)
  return new Tensor(op, inputs, attrs, made.shape, made.dtype)
}

const lift = (y: Tensor | number, like: Tensor): Tensor => (typeof y === "number" ? scalar(y, like.dtype) : y)

/** A value given when the graph runs. */
export const input = (name: string, shape: readonly Dim[], dtype: DType = "f32"): Tensor =>
  new Tensor("input", [], { name }, shape, dtype)

/** A weight, by its checkpoint key. */
export const parameter = (name: string, shape: readonly number[], dtype: DType = "f32"): Tensor =>
  new Tensor("param", [], { name }, shape, dtype)

/** A small array known while tracing. */
export const constant = (data: TypedData, shape: readonly number[], dtype: DType): Tensor =>
  new Tensor("constant", [], { data }, shape, dtype)

export function scalar(value: number, dtype: DType = "f32"): Tensor {
  if (dtype === "i64") return constant(BigInt64Array.of(BigInt(value)), [], dtype)
  if (dtype === "i32") return constant(Int32Array.of(value), [], dtype)
  return constant(Float32Array.of(value), [], dtype)
}

export const concat = (parts: readonly Tensor[], axis: number): Tensor =>
  parts.length === 1 ? parts[0]! : apply("concat", parts, { axis: parts[0]!.axis(axis) })

/** A traced computation: named outputs and, found from them, everything they need. */
export interface Graph {
  readonly outputs: Readonly<Record<string, Tensor>>
}

/** All nodes of a graph, operands before users. */
export function nodesOf(outputs: Iterable<Tensor>, leaf: (node: Tensor) => boolean = () => false): Tensor[] {
  const done = new Set<Tensor>()
  const order: Tensor[] = []
  const stack: { node: Tensor; next: number }[] = []
  for (const out of outputs) {
    if (!done.has(out)) stack.push({ node: out, next: 0 })
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!
      const child = leaf(top.node) ? undefined : top.node.inputs[top.next++]
      if (child === undefined) {
        stack.pop()
        if (!done.has(top.node)) order.push(top.node)
        done.add(top.node)
      } else if (!done.has(child)) stack.push({ node: child, next: 0 })
    }
  }
  return order
}

export const graphNodes = (graph: Graph): Tensor[] => nodesOf(Object.values(graph.outputs))

/** Name of an input or parameter node. */
export const nameOf = (node: Tensor): string => node.attrs.name as string

import { fail } from "../errors.ts"
import type { DType, TypedData } from "./attrs.ts"
import { type Dim, foldDim } from "./dim.ts"
import type { Emitter, OnnxAttr, Op } from "./ops/row.ts"
import { ops } from "./ops.ts"
import { Message } from "./protobuf.ts"
import { type Graph, graphNodes, nameOf, type Tensor } from "./tensor.ts"

/** Element types that a weight file may store; the graph computes in f32 and casts once. */
export type StoredDType = "f32" | "f16" | "bf16" | "f64" | "i64" | "i32" | "i8" | "u8"

/** Where a weight's bytes are: a range of a file, beside the graph, or in the graph itself. */
export interface StoredTensor {
  readonly dtype: StoredDType
  readonly shape: readonly number[]
  readonly bytes: { readonly location: string; readonly offset: number; readonly length: number } | Uint8Array
  /** Stored with its two axes swapped. */
  readonly transposed?: boolean
  /** What each row of the first axis is multiplied by. */
  readonly scale?: StoredTensor
}

const onnxType = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, bool: 9, f16: 10, f64: 11, bf16: 16 } as const

/**
 * Writes a traced graph as the bytes of an ONNX model (IR 10, opset 21; format: onnx/onnx.proto).
 * @param unfolded weights that stay as they are stored: they are inputs with a default, which no engine folds
 */
export function toOnnx(
  graph: Graph,
  weights: ReadonlyMap<string, StoredTensor> = new Map(),
  unfolded: ReadonlySet<string> = new Set(),
): Uint8Array {
  const writer = new Writer(weights, unfolded)
  return writer.write(graph)
}

const opset = (domain: string, version: number) => new Message().bytes(1, domain).int(2, version)

class Writer implements Emitter {
  private readonly body = new Message()
  private readonly nodes: OnnxNode[] = []
  private readonly weights: ReadonlyMap<string, StoredTensor>
  private readonly unfolded: ReadonlySet<string>
  private readonly names = new Map<Tensor, string>()
  private readonly shared = new Map<string, string>()
  private readonly sizes = new Map<string, { input: string; axis: number; by: number }>()
  private readonly domains = new Map([
    ["", 21],
    ["com.microsoft", 1],
  ])
  private count = 0

  constructor(weights: ReadonlyMap<string, StoredTensor>, unfolded: ReadonlySet<string>) {
    this.weights = weights
    this.unfolded = unfolded
  }

  write(graph: Graph): Uint8Array {
    const nodes = graphNodes(graph)
    for (const node of nodes) if (node.op === "input") this.input(node)
    const read = readers(graph, nodes)
    for (const node of nodes)
      if (node.op !== "input" && read.has(node)) this.names.set(node, this.value(node))
    const renamed = this.outputs(graph)
    for (const node of this.nodes) this.body.message(1, nodeProto(node, renamed))
    this.body.bytes(2, "aquatint")
    const model = new Message().int(1, 10).bytes(2, "aquatint").message(7, this.body)
    for (const [domain, version] of this.domains) model.message(8, opset(domain, version))
    return model.finish()
  }

  /** Gives each output's value the output's name; what is an input, a weight or already another output is copied. */
  private outputs(graph: Graph): ReadonlyMap<string, string> {
    const made = new Set(this.nodes.flatMap((n) => n.outputs))
    const renamed = new Map<string, string>()
    for (const [name, node] of Object.entries(graph.outputs)) {
      const value = this.names.get(node)!
      if (made.has(value) && !renamed.has(value)) renamed.set(value, name)
      else this.add("Identity", [value], [name])
      this.body.message(12, valueInfo(name, node))
    }
    return renamed
  }

  private input(node: Tensor): void {
    const name = nameOf(node)
    this.names.set(node, name)
    this.body.message(11, valueInfo(name, node))
    node.shape.forEach((d, axis) => {
      if (typeof d === "number" || this.sizes.has(d.key)) return
      this.sizes.set(d.key, { input: name, axis, by: 1 })
      // a size such as 8*h8 also tells h8
      const [term, ...more] = d.terms
      const [atom, ...others] = term?.atoms ?? []
      if (atom && "name" in atom && more.length + others.length === 0 && term!.coeff !== 1)
        this.sizes.set(atom.name, { input: name, axis, by: term!.coeff })
    })
  }

  private value(node: Tensor): string {
    if (node.op === "param") return this.param(node)
    if (node.op === "constant")
      return this.constant(node.attrs.data as TypedData, node.shape as number[], node.dtype)
    const rows = this.paramRows(node)
    if (rows !== null) return rows
    const row = ops[node.op] as Op<unknown>
    const inputs = node.inputs.map((i) => this.names.get(i)!)
    return typeof row.onnx === "string"
      ? this.node(row.onnx, inputs)
      : row.onnx(this, inputs, node.attrs, node)
  }

  private stored(name: string): StoredTensor {
    return this.weights.get(name) ?? fail("WEIGHT_MISSING", `the graph needs ${name}, which the weights lack`)
  }

  private param(node: Tensor): string {
    const name = nameOf(node)
    return this.initializer(name, this.stored(name), this.unfolded.has(name), node.dtype)
  }

  /** A slice of a weight's first axis is a smaller range of the same bytes. */
  private paramRows(node: Tensor): string | null {
    const from = node.inputs[0]
    const {
      axis,
      start,
      end,
      step = 1,
    } = node.attrs as { axis: number; start: number; end: number; step?: number }
    if (node.op !== "slice" || from?.op !== "param" || axis !== 0 || step !== 1) return null
    const stored = this.stored(nameOf(from))
    if (stored.transposed) return null
    const name = `${nameOf(from)}[${start}:${end}]`
    return this.initializer(name, storedRows(stored, start, end), this.unfolded.has(nameOf(from)))
  }

  private initializer(name: string, stored: StoredTensor, unfolded: boolean, dtype: DType = "f32"): string {
    if (this.shared.has(name)) return this.shared.get(name)!
    this.body.message(5, tensorProto(name, stored))
    if (unfolded) this.body.message(11, valueProto(name, onnxType[stored.dtype], storedShape(stored)))
    const before = this.nodes.length
    const turned = stored.transposed ? this.node("Transpose", [name], { perm: [1, 0] }) : name
    const numbers = stored.dtype === dtype ? turned : this.node("Cast", [turned], { to: onnxType[dtype] })
    const value = stored.scale ? this.scaled(name, numbers, stored) : numbers
    // onnxruntime runs early nodes late: what stands first in the file is made just before it is read
    if (unfolded) this.nodes.unshift(...this.nodes.splice(before))
    this.shared.set(name, value)
    return value
  }

  /** Eight-bit codes times the scales of their rows. */
  private scaled(name: string, codes: string, { shape, scale }: StoredTensor): string {
    const scales = `${name} row scales`
    const wide = [shape[0]!, ...shape.slice(1).map(() => 1)]
    this.body.message(5, tensorProto(scales, { ...scale!, shape: wide }))
    return this.node("Mul", [codes, scales])
  }

  node(
    type: string,
    inputs: readonly string[],
    attrs: Readonly<Record<string, OnnxAttr>> = {},
    domain = "",
  ): string {
    const name = `v${this.count++}`
    this.add(type, inputs, [name], attrs, domain)
    return name
  }

  several(type: string, inputs: readonly string[], count: number): readonly string[] {
    const names = Array.from({ length: count }, () => `v${this.count++}`)
    this.add(type, inputs, names)
    return names
  }

  private add(
    type: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attrs: Readonly<Record<string, OnnxAttr>> = {},
    domain = "",
  ): void {
    this.nodes.push({ type, inputs, outputs, attrs, domain })
    if (!this.domains.has(domain)) this.domains.set(domain, 1)
  }

  private constant(data: TypedData, shape: readonly number[], dtype: DType): string {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    const key = `${dtype}[${shape}]${bytes.join()}`
    const known = this.shared.get(key)
    if (known !== undefined) return known
    const name = `c${this.count++}`
    this.body.message(5, new Message().ints(1, shape).int(2, onnxType[dtype]).bytes(8, name).bytes(9, bytes))
    this.shared.set(key, name)
    return name
  }

  ints(values: readonly number[]): string {
    return this.constant(BigInt64Array.from(values, BigInt), [values.length], "i64")
  }

  float(value: number): string {
    return this.constant(Float32Array.of(value), [], "f32")
  }

  floats(values: readonly number[], shape: readonly number[]): string {
    return this.constant(Float32Array.from(values), shape, "f32")
  }

  shape(dims: readonly Dim[]): string {
    if (dims.every((d) => typeof d === "number")) return this.ints(dims as number[])
    const key = `shape ${dims.join()}`
    const known = this.shared.get(key)
    if (known !== undefined) return known
    const name =
      dims.length === 1
        ? this.size(dims[0]!)
        : this.node(
            "Concat",
            dims.map((d) => this.size(d)),
            { axis: 0 },
          )
    this.shared.set(key, name)
    return name
  }

  private sizeOf(from: { input: string; axis: number; by: number }): string {
    const whole = this.node("Shape", [from.input], { start: from.axis, end: from.axis + 1 })
    return from.by === 1 ? whole : this.node("Div", [whole, this.ints([from.by])])
  }

  /** One size as a 1-element int64 value. */
  private size(d: Dim): string {
    const key = `size ${d}`
    const known = this.shared.get(key)
    if (known !== undefined) return known
    const from = typeof d === "number" ? undefined : this.sizes.get(d.key)
    const name = from
      ? this.sizeOf(from)
      : foldDim<string>(d, {
          num: (n) => this.ints([n]),
          name: (n) =>
            this.sizeOf(
              this.sizes.get(n) ?? fail("GRAPH_SIZE", `no input has the size ${n}`, { blame: "here" }),
            ),
          mul: (a, b) => this.node("Mul", [a, b]),
          add: (a, b) => this.node("Add", [a, b]),
          floor: (a, by) => this.node("Div", [a, this.ints([by])]),
        })
    this.shared.set(key, name)
    return name
  }
}

/** Nodes whose values are read as such: a weight of which only rows are taken is not. */
function readers(graph: Graph, nodes: readonly Tensor[]): Set<Tensor> {
  const read = new Set<Tensor>(Object.values(graph.outputs))
  for (const node of nodes) {
    const rowsOnly = node.op === "slice" && node.attrs.axis === 0 && node.inputs[0]!.op === "param"
    if (!rowsOnly) for (const from of node.inputs) read.add(from)
  }
  for (const node of nodes) if (node.op === "slice") read.add(node)
  return read
}

/** Rows of a weight's first axis: a smaller range of the same bytes. */
function storedRows(stored: StoredTensor, start: number, end: number): StoredTensor {
  const size = bytesOf(stored) / stored.shape[0]!
  const { bytes, scale } = stored
  const part =
    bytes instanceof Uint8Array
      ? bytes.subarray(start * size, end * size)
      : { location: bytes.location, offset: bytes.offset + start * size, length: (end - start) * size }
  return {
    ...stored,
    shape: [end - start, ...stored.shape.slice(1)],
    bytes: part,
    ...(scale ? { scale: storedRows(scale, start, end) } : {}),
  }
}

const bytesOf = (stored: StoredTensor): number => stored.bytes.length

/** The shape as it lies in the file. */
const storedShape = ({ shape, transposed }: StoredTensor): readonly number[] =>
  transposed ? [...shape].reverse() : shape

function tensorProto(name: string, stored: StoredTensor): Message {
  const proto = new Message().ints(1, storedShape(stored)).int(2, onnxType[stored.dtype]).bytes(8, name)
  if (stored.bytes instanceof Uint8Array) return proto.bytes(9, stored.bytes)
  const entry = (key: string, value: string | number) =>
    proto.message(13, new Message().bytes(1, key).bytes(2, String(value)))
  entry("location", stored.bytes.location)
  entry("offset", stored.bytes.offset)
  entry("length", stored.bytes.length)
  return proto.int(14, 1)
}

interface OnnxNode {
  readonly type: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attrs: Readonly<Record<string, OnnxAttr>>
  readonly domain: string
}

function nodeProto(n: OnnxNode, renamed: ReadonlyMap<string, string>): Message {
  const proto = new Message()
  const named = (name: string) => renamed.get(name) ?? name
  for (const name of n.inputs) proto.bytes(1, named(name))
  for (const name of n.outputs) proto.bytes(2, named(name))
  proto.bytes(3, named(n.outputs[0]!)).bytes(4, n.type)
  for (const [key, value] of Object.entries(n.attrs)) proto.message(5, attribute(key, value))
  return n.domain ? proto.bytes(7, n.domain) : proto
}

function attribute(name: string, value: OnnxAttr): Message {
  const made = new Message().bytes(1, name)
  if (typeof value === "string") return made.bytes(4, value).int(20, 3)
  if (typeof value === "number") return made.int(3, value).int(20, 2)
  if ("float" in value) return made.float(2, value.float).int(20, 1)
  return made.ints(8, value).int(20, 7)
}

const valueInfo = (name: string, node: Tensor): Message => valueProto(name, onnxType[node.dtype], node.shape)

function valueProto(name: string, element: number, shape: readonly Dim[]): Message {
  const dims = new Message()
  for (const d of shape)
    dims.message(1, typeof d === "number" ? new Message().int(1, d) : new Message().bytes(2, d.key))
  const type = new Message().int(1, element).message(2, dims)
  return new Message().bytes(1, name).message(2, new Message().message(1, type))
}

/** The unknown sizes of a graph's inputs and where each is read, for binding and checking run-time arrays. */
export function inputSpecs(graph: Graph): { name: string; shape: readonly Dim[]; dtype: DType }[] {
  return graphNodes(graph)
    .filter((n) => n.op === "input")
    .map((n) => ({ name: nameOf(n), shape: n.shape, dtype: n.dtype }))
}

import type { ConvAttrs } from "./attrs.ts"
import { type Dim, mulDim, symbol } from "./dim.ts"
import { rewrite } from "./rewrite.ts"
import { apply, type Graph, graphNodes, nameOf, Tensor } from "./tensor.ts"

/** Names of the two factors that stand beside a weight: `down` (in r) and `up` (r out), r known when the graph runs. */
export const factorsOf = (weight: string): { down: string; up: string } => ({
  down: `${weight} down`,
  up: `${weight} up`,
})

/** The weight that a layer reads, and which of its rows. */
function weightOf(node: Tensor): { param: Tensor; rows: readonly [Dim, Dim] | null } | null {
  if (node.op !== "linear" && node.op !== "conv2d") return null
  const weight = node.inputs[1]!
  if (weight.op === "param") return { param: weight, rows: null }
  const from = weight.inputs[0]
  if (node.op !== "linear" || weight.op !== "slice" || weight.attrs.axis !== 0 || from?.op !== "param")
    return null
  return { param: from, rows: [weight.attrs.start as Dim, weight.attrs.end as Dim] }
}

/** A weight, or the one whose rows these are. */
const sourceOf = (node: Tensor): Tensor | null =>
  node.op === "param" ? node : node.op === "slice" && node.inputs[0]!.op === "param" ? node.inputs[0]! : null

/** Weights that are read by linear layers and convolutions alone, by name: a low-rank change can stand beside each. */
export function branchable(graph: Graph): Map<string, Tensor> {
  const found = new Map<string, Tensor>()
  const spoilt = new Set<Tensor>(Object.values(graph.outputs).flatMap((node) => sourceOf(node) ?? []))
  for (const node of graphNodes(graph))
    for (const [i, from] of node.inputs.entries()) {
      const source = sourceOf(from)
      // rows are judged by who reads them
      if (!source || (node.op === "slice" && from === source)) continue
      const read = i === 1 ? weightOf(node) : null
      if (read && (node.attrs.groups ?? 1) === 1) found.set(nameOf(source), source)
      else spoilt.add(source)
    }
  for (const param of spoilt) found.delete(nameOf(param))
  return found
}

/**
 * A graph in which low-rank changes stand beside the named weights: y + (x down) up (Hu et al. 2021, eq. 3). Their
 * factors are parameters under the names of `factorsOf`, of any rank.
 */
export function addBranches(graph: Graph, names: ReadonlySet<string>): Graph {
  const factors = new Map<string, { down: Tensor; up: Tensor }>()
  const factorsFor = ({ attrs, shape }: Tensor) => {
    const name = attrs.name as string
    const known = factors.get(name)
    if (known) return known
    const rank = symbol(`rank${factors.size}`)
    const [out, ...rest] = shape as [Dim, ...Dim[]]
    const param = (called: string, sizes: readonly Dim[]) =>
      new Tensor("param", [], { name: called }, sizes, "f32")
    const called = factorsOf(name)
    const made = { down: param(called.down, [mulDim(...rest), rank]), up: param(called.up, [rank, out]) }
    factors.set(name, made)
    return made
  }
  return rewrite(graph, (node, original) => {
    const read = weightOf(original)
    if (!read || !names.has(nameOf(read.param))) return node
    const { down, up } = factorsFor(read.param)
    const x = node.inputs[0]!
    if (node.op === "conv2d") return besideConvolution(node, x, down, up)
    return besideLinear(node, down, read.rows ? up.slice(1, ...read.rows) : up)
  })
}

/** All places in one axis, so that there are three products and nothing else. */
function besideLinear(y: Tensor, down: Tensor, up: Tensor): Tensor {
  const [x, ...weights] = y.inputs as [Tensor, ...Tensor[]]
  const flat = x.reshape([mulDim(...x.shape.slice(0, -1)), x.shape.at(-1)!])
  return apply("linear", [flat, ...weights])
    .addmm(flat.matmul(down), up)
    .reshape(y.shape)
}

/** The inner factor has the kernel, the outer one is a product of channels. */
function besideConvolution(y: Tensor, x: Tensor, down: Tensor, up: Tensor): Tensor {
  const [o, i, kh, kw] = y.inputs[1]!.shape as [Dim, Dim, number, number]
  const { stride, pads } = y.attrs as unknown as ConvAttrs
  const inner = down.transpose([1, 0]) // r (i kh kw)
  const places = (t: Tensor) => t.reshape([t.shape[0]!, t.shape[1]!, mulDim(t.shape[2]!, t.shape[3]!)])
  const plain = kh === 1 && kw === 1 && stride === 1 && pads.every((p) => p === 0)
  const thin = plain
    ? inner.matmul(places(x))
    : places(x.conv2d(inner.reshape([inner.shape[0]!, i, kh, kw]), null, { stride, pads }))
  const wide = up.transpose([1, 0]).matmul(thin) // b o (h w)
  return y.add(wide.reshape([y.shape[0]!, o, y.shape[2]!, y.shape[3]!]))
}

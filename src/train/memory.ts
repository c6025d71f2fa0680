import { type Graph, graphNodes, type Tensor } from "../graph/index.ts"

/** Values that are not made: they come from outside, or are another one seen otherwise. */
const given = new Set(["input", "param", "constant"])
const bytesOf = { f32: 4, f16: 2, i64: 8, i32: 4, i8: 1, bool: 1 } as const

const size = (node: Tensor): number =>
  given.has(node.op) || node.op === "reshape"
    ? 0
    : node.shape.reduce<number>((n, d) => n * (typeof d === "number" ? d : Number.NaN), bytesOf[node.dtype])

/** The value whose memory a node's is. */
const root = (node: Tensor): Tensor => (node.op === "reshape" ? root(node.inputs[0]!) : node)

/**
 * Bytes of the values that a graph makes, at the moment when most of them are needed at once; NaN for unknown sizes.
 * Each is counted from the node that makes it to the last that reads it, in the order the graph is written.
 */
export function workingBytes(graph: Graph): number {
  const nodes = graphNodes(graph)
  const last = new Map<Tensor, number>()
  for (const [i, node] of nodes.entries()) for (const from of node.inputs) last.set(root(from), i)
  for (const node of Object.values(graph.outputs)) last.set(root(node), nodes.length)
  const ends = new Map<number, number>()
  let [now, most] = [0, 0]
  for (const [i, node] of nodes.entries()) {
    const own = size(node)
    if (Number.isNaN(own)) return Number.NaN
    now += own
    most = Math.max(most, now)
    const end = last.get(node) ?? i
    ends.set(end, (ends.get(end) ?? 0) + own)
    now -= ends.get(i) ?? 0
  }
  return most
}

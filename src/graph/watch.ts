import { type Dim, sameDim } from "./dim.ts"
import { type Graph, graphNodes, nameOf, type Tensor } from "./tensor.ts"

/**
 * A graph that also says where its attention looked: for each size of feature map an output `attention0`, ... b s t,
 * softmax(q k^T / sqrt(d)) averaged over heads, summed over the layers of that size and divided by the number of all
 * layers; what is watched is attention whose keys come from the input `to` and whose queries come from `from`.
 */
export function watchAttention(graph: Graph, from: string, to: string): Graph {
  const nodes = graphNodes(graph)
  const fed = (name: string) => dependents(nodes, name)
  const [moving, told] = [fed(from), fed(to)]
  const layers = nodes.filter(
    ({ op, inputs: [q, k] }) => op === "attention" && moving.has(q!) && told.has(k!) && !moving.has(k!),
  )
  const groups: { size: Dim; sum: Tensor }[] = []
  for (const layer of layers) {
    const map = probabilities(layer) // b s t
    const size = map.shape[1]!
    const group = groups.find((g) => sameDim(g.size, size))
    if (group) group.sum = group.sum.add(map)
    else groups.push({ size, sum: map })
  }
  const maps = groups.map(({ sum }, i) => [`attention${i}`, sum.mul(1 / layers.length)] as const)
  return { outputs: { ...graph.outputs, ...Object.fromEntries(maps) } }
}

/** Nodes that an input goes into. */
function dependents(nodes: readonly Tensor[], name: string): Set<Tensor> {
  const found = new Set<Tensor>()
  for (const node of nodes)
    if ((node.op === "input" && nameOf(node) === name) || node.inputs.some((i) => found.has(i)))
      found.add(node)
  return found
}

function probabilities({ inputs, attrs }: Tensor): Tensor {
  const [q, k] = inputs as [Tensor, Tensor]
  const { heads, scale } = attrs as { heads: number; scale?: number }
  const head = (q.shape[2] as number) / heads
  const scores = q
    .mul(scale ?? 1 / Math.sqrt(head))
    .rearrange("b s (n d) -> b n s d", { n: heads })
    .matmul(k.rearrange("b t (n d) -> b n d t", { n: heads })) // b n s t
  return scores.softmax().mean([1])
}

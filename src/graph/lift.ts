import { rewrite } from "./rewrite.ts"
import { type Graph, graphNodes, input, nameOf, type Tensor } from "./tensor.ts"
import type { Lifted } from "./winograd.ts"

/** Keys of the matrices and filters of a network: what adapters change. */
export function matrices(graph: Graph): Set<string> {
  const found = new Set<string>()
  for (const node of graphNodes(graph)) {
    if (node.op !== "linear" && node.op !== "conv2d") continue
    const weight = node.inputs[1]!
    const from = weight.op === "slice" ? weight.inputs[0]! : weight
    if (from.op === "param") found.add(nameOf(from))
  }
  return found
}

/**
 * Takes the named weights out of a graph, to come in as inputs that can be exchanged between runs. Rows of a weight
 * become an input of their own, since a slice would copy at every run.
 * @param keep nodes whose weights stay where they are, for another pass to lift
 */
export function liftWeights(
  graph: Graph,
  names: ReadonlySet<string>,
  keep: (node: Tensor) => boolean = () => false,
): Lifted {
  const made = new Map<string, Tensor>()
  const lifted = new Map<Tensor, Tensor>()
  const lift = (name: string, from: Tensor): Tensor => {
    const known = lifted.get(from)
    if (known) return known
    made.set(name, from)
    const node = input(name, from.shape, from.dtype)
    lifted.set(from, node)
    return node
  }
  const kept = new Set(
    graphNodes(graph)
      .filter(keep)
      .flatMap((n) => n.inputs),
  )
  const named = (node: Tensor) => node.op === "param" && names.has(nameOf(node)) && !kept.has(node)
  const changed = rewrite(graph, (node, original) => {
    const from = original.inputs[0]
    if (named(original)) return lift(`${nameOf(original)} held`, original)
    if (original.op === "slice" && from && named(from)) {
      const { axis, start, end } = original.attrs as { axis: number; start: number; end: number }
      return lift(`${nameOf(from)} held ${axis} ${start} ${end}`, original)
    }
    return node
  })
  const used = new Set(graphNodes(changed).flatMap((node) => (node.op === "input" ? [nameOf(node)] : [])))
  return { graph: changed, made: new Map([...made].filter(([name]) => used.has(name))) }
}

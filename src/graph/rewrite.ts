import type { OpAttrs } from "./attrs.ts"
import { type Dim, foldDim } from "./dim.ts"
import { type Graph, graphNodes, input, nameOf, Tensor } from "./tensor.ts"

/** Rebuilds a graph bottom-up; `replace` may hand back another node for one whose operands are already rebuilt. */
export function rewrite(graph: Graph, replace: (node: Tensor, original: Tensor) => Tensor): Graph {
  const made = new Map<Tensor, Tensor>()
  for (const node of graphNodes(graph)) {
    const inputs = node.inputs.map((i) => made.get(i)!)
    const same = inputs.every((n, i) => n === node.inputs[i])
    made.set(
      node,
      replace(same ? node : new Tensor(node.op, inputs, node.attrs, node.shape, node.dtype), node),
    )
  }
  return {
    outputs: Object.fromEntries(Object.entries(graph.outputs).map(([name, node]) => [name, made.get(node)!])),
  }
}

/** Merges nodes that compute the same value (value numbering); constants and repeated projections are shared. */
export function shareEqual(graph: Graph): Graph {
  const seen = new Map<string, Tensor>()
  return rewrite(graph, (node) => {
    const key = `${node.op}(${node.inputs.map((i) => i.id)})${attrsKey(node)}`
    const known = seen.get(key)
    if (known === undefined) seen.set(key, node)
    return known ?? node
  })
}

const attrsKey = (node: Tensor): string =>
  node.op === "constant"
    ? `${node.dtype}[${node.shape}]${(node.attrs as unknown as OpAttrs["constant"]).data.join()}`
    : JSON.stringify(node.attrs, (_k, v: unknown) =>
        typeof v === "object" && v !== null && "key" in v ? String(v) : v,
      ) + (node.op === "input" ? node.dtype : "")

/** Merges a reshape of a reshape, and drops what ends where it began. */
export function mergeLayouts(graph: Graph): Graph {
  return rewrite(graph, (node) => {
    const from = node.inputs[0]
    if (node.op === "reshape" && from?.op === "reshape") return from.inputs[0]!.reshape(node.shape)
    if (node.op === "transpose" && from?.op === "transpose") {
      const [outer, inner] = [node, from].map((n) => n.attrs.perm as readonly number[]) as [
        readonly number[],
        readonly number[],
      ]
      return from.inputs[0]!.transpose(outer.map((p) => inner[p]!))
    }
    return node
  })
}

/** A graph cut in stages that run at different rates. */
export interface Staged {
  /** One per entry of `slow`, in order, then the rest; a stage's outputs are inputs of later ones, by name. */
  readonly stages: readonly Graph[]
}

/**
 * Cuts a graph by what its values depend on, so that work is done no more often than its inputs change: everything
 * that follows from the inputs in `slow[0]` alone is one stage (keys and values of the prompt), what needs `slow[1]`
 * too is the next (the time embedding), the rest is last. onnxruntime cannot know which inputs stay the same.
 */
export function stage(graph: Graph, slow: readonly (readonly string[])[]): Staged {
  const last = slow.length
  const level = new Map<Tensor, number>()
  const rates = sizeRates(graph, slow)
  for (const node of graphNodes(graph)) {
    const own = node.op !== "input" ? -1 : rateOf(nameOf(node), slow)
    // a size taken from the shape of a later input ties a node to that input's stage
    const sizes = [...sizeNames(node)].map((name) => rates.get(name) ?? 0)
    level.set(node, Math.max(own, ...sizes, ...node.inputs.map((i) => level.get(i)!)))
  }
  const outputs: Record<string, Tensor>[] = Array.from({ length: last + 1 }, () => ({}))
  for (const [name, node] of Object.entries(graph.outputs))
    outputs[Math.max(0, Math.min(last, level.get(node)!))]![name] = node
  const cut = crossing(graph, level)
  cut.forEach((node, i) => {
    outputs[level.get(node)!]![`s${i}`] = node
  })
  const stages = outputs.map((out, at) => {
    const handed = new Map(
      [...cut].map((node, i) => [node, `s${i}`] as const).filter(([node]) => level.get(node)! < at),
    )
    return detach({ outputs: out }, handed)
  })
  return { stages }
}

const rateOf = (name: string, slow: readonly (readonly string[])[]): number => {
  const at = slow.findIndex((names) => names.includes(name))
  return at < 0 ? slow.length : at
}

/** Values of a slow stage that a faster one reads; weights and constants are simply repeated. */
function crossing(graph: Graph, level: ReadonlyMap<Tensor, number>): Tensor[] {
  const cut = new Set<Tensor>()
  for (const node of graphNodes(graph)) {
    for (const from of node.inputs) {
      const at = level.get(from)!
      if (at >= 0 && at < level.get(node)! && from.op !== "input") cut.add(from)
    }
  }
  return [...cut]
}

function detach(graph: Graph, handed: ReadonlyMap<Tensor, string>): Graph {
  return rewrite(graph, (node, original) => {
    const name = handed.get(original)
    return name === undefined ? node : input(name, original.shape, original.dtype)
  })
}

function* sizeNames(node: Tensor): Generator<string> {
  const dims = [...node.shape, ...Object.values(node.attrs).flatMap((v) => (Array.isArray(v) ? v : [v]))]
  for (const d of dims) if (typeof d === "object" && d !== null && "terms" in d) yield* namesIn(d as Dim)
}

const namesIn = (d: Dim): string[] =>
  foldDim<string[]>(d, {
    num: () => [],
    name: (n) => [n],
    mul: (a, b) => [...a, ...b],
    add: (a, b) => [...a, ...b],
    floor: (a) => a,
  })

/** The slowest input that tells each unknown size. */
function sizeRates(graph: Graph, slow: readonly (readonly string[])[]): Map<string, number> {
  const rates = new Map<string, number>()
  for (const node of graphNodes(graph)) {
    if (node.op !== "input") continue
    const rate = rateOf(nameOf(node), slow)
    for (const name of node.shape.flatMap(namesIn)) rates.set(name, Math.min(rate, rates.get(name) ?? rate))
  }
  return rates
}

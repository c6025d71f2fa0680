import { rewrite } from "./rewrite.ts"
import { apply, type Graph, graphNodes, input, nameOf, type Tensor } from "./tensor.ts"
import { filterPoints, passingPoints, stripsOf, suitsDoubled, suitsWinograd, winograd } from "./winograd.ts"

/** A graph whose heavy weights come in as inputs, and what makes each of them from the stored weights alone. */
export interface Lifted {
  readonly graph: Graph
  readonly made: ReadonlyMap<string, Tensor>
}

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

/**
 * Takes the weights of convolutions out of a graph, to be made once and by themselves: at the points of Winograd's
 * transform where that is faster, else, where `held` says so of their name, as they are.
 * @param lean for networks that run once on a large picture: filters are brought to the points just before they are
 * read, and norms before such convolutions, and enlargements, are worked out strip by strip
 */
export function liftConvolutions(graph: Graph, held: (name: string) => boolean, lean = false): Lifted {
  const made = new Map<string, Tensor>()
  const lift = (name: string, node: Tensor): Tensor => {
    made.set(name, node)
    return input(name, node.shape)
  }
  const read = lean ? timesRead(graph) : new Map<Tensor, number>()
  const lifted = rewrite(graph, (node, original) => {
    const [x, w, bias] = node.inputs as [Tensor, Tensor, Tensor?]
    if (node.op !== "conv2d" || w.op !== "param") return node
    const once = read.get(original.inputs[0]!) === 1
    if (once && suitsDoubled(node))
      return winograd(x.inputs[0]!, passingPoints(w, true), bias, { doubled: true })
    if (suitsWinograd(node)) {
      if (!lean) return winograd(x, lift(`${nameOf(w)} at points`, filterPoints(w)), bias)
      const alone = once && read.get(original.inputs[0]!.inputs[0]!) === 1
      const normed = alone && stripsOf(x.shape[2]!) >= manyStrips ? afterNorm(x) : null
      return winograd(normed?.from ?? x, passingPoints(w), bias, normed ?? {})
    }
    if (!held(nameOf(w))) return node
    const whole = lift(`${nameOf(w)} held`, w)
    return apply("conv2d", bias ? [x, whole, bias] : [x, whole], node.attrs)
  })
  return { graph: lifted, made }
}

/** From here on a norm's own picture is worth sparing; below, its few nodes are. */
const manyStrips = 4

function timesRead(graph: Graph): Map<Tensor, number> {
  const read = new Map<Tensor, number>()
  const all = [...graphNodes(graph).flatMap((node) => node.inputs), ...Object.values(graph.outputs)]
  for (const node of all) read.set(node, (read.get(node) ?? 0) + 1)
  return read
}

/** For x = silu(groupNorm(from)): `from`, and what makes a part of x from the same part of it. */
function afterNorm(x: Tensor): { from: Tensor; before: (part: Tensor) => Tensor } | null {
  const norm = x.inputs[0]
  if (x.op !== "silu" || norm?.op !== "groupNorm" || norm.rank !== 4) return null
  const from = norm.inputs[0]!
  const channels = from.shape[1] as number
  const affine = apply("groupAffine", norm.inputs, norm.attrs)
  const [factor, shift] = [affine.slice(1, 0, channels), affine.slice(1, channels, 2 * channels)]
  return { from, before: (part) => part.mul(factor).add(shift).silu() }
}

import { nodesOf, Tensor } from "./tensor.ts"

const given = new Set(["input", "param", "constant"])

/** Bytes that a value takes beside what it is a view of; unknown sizes count as one. */
const bytes = (node: Tensor): number =>
  given.has(node.op) || node.op === "reshape"
    ? 0
    : node.shape.reduce<number>((n, d) => n * (typeof d === "number" ? d : 1), 4)

/**
 * Where a network is cut for `gradients` to make the values between two cuts again on the way back instead of keeping
 * them: about as many cuts as steps between them, each where the fewest bytes pass (Chen et al. 2016, "Training Deep
 * Nets with Sublinear Memory Cost").
 */
export class Cuts {
  /** Values that pass a cut; they are kept. */
  private readonly kept = new Set<Tensor>()
  private readonly segments = new Map<Tensor, number>()
  private readonly again = new Map<number, Map<Tensor, Tensor>>()

  constructor(loss: Tensor) {
    const nodes = nodesOf([loss]).filter(({ op }) => !given.has(op))
    const last = lastReaders(nodes)
    const cuts = positions(nodes, last)
    let segment = 0
    for (const [at, node] of nodes.entries()) {
      this.segments.set(node, segment)
      if (cuts.has(at)) segment++
    }
    for (const node of nodes)
      if (this.segments.get(nodes[last.get(node) ?? -1] ?? node) !== this.segments.get(node))
        this.kept.add(node)
    this.kept.add(loss)
  }

  /**
   * The value of a forward node for the way back: itself where it was kept, else made again.
   * @param g the gradient that is at hand where `reader` is; what is made again waits for it
   */
  value(node: Tensor, reader: Tensor, g: Tensor): Tensor {
    if (this.isKept(node)) return node
    const segment = this.segments.get(reader)!
    let made = this.again.get(segment)
    if (!made) {
      made = new Map()
      this.again.set(segment, made)
    }
    return this.remake(node, made, g)
  }

  private isKept(node: Tensor): boolean {
    return given.has(node.op) || this.kept.has(node)
  }

  private remake(wanted: Tensor, made: Map<Tensor, Tensor>, g: Tensor): Tensor {
    for (const node of nodesOf([wanted], (n) => this.isKept(n))) {
      if (made.has(node)) continue
      if (this.isKept(node))
        made.set(node, given.has(node.op) || node.dtype !== "f32" ? node : after(node, g))
      else {
        const inputs = node.inputs.map((i) => made.get(i)!)
        made.set(node, new Tensor(node.op, inputs, node.attrs, node.shape, node.dtype))
      }
    }
    return made.get(wanted)!
  }
}

/** The same value, not before `g` is there; otherwise an engine would see two equal computations and make one of them. */
function after(node: Tensor, g: Tensor): Tensor {
  const one = g.rank === 0 ? g : g.reshape([-1]).slice(0, 0, 1).reshape([])
  return node.add(one.mul(0))
}

/** Place of the last node that reads each value, through views of it too. */
function lastReaders(nodes: readonly Tensor[]): Map<Tensor, number> {
  const last = new Map<Tensor, number>()
  for (const [at, node] of [...nodes.entries()].reverse()) {
    const end = node.op === "reshape" ? (last.get(node) ?? at) : at
    for (const from of node.inputs) last.set(from, Math.max(end, last.get(from) ?? 0))
  }
  return last
}

/** The cheapest place of each stretch of about a square root of all nodes. */
function positions(nodes: readonly Tensor[], last: ReadonlyMap<Tensor, number>): Set<number> {
  const live: number[] = []
  const ends = new Map<number, number>()
  let now = 0
  for (const [at, node] of nodes.entries()) {
    const end = last.get(node) ?? at
    now += bytes(node)
    ends.set(end, (ends.get(end) ?? 0) + bytes(node))
    now -= ends.get(at) ?? 0
    live.push(now)
  }
  const stretch = Math.max(2, Math.round(Math.sqrt(nodes.length)))
  const cuts = new Set<number>()
  for (let from = 0; from + stretch < nodes.length; from += stretch) {
    let best = from
    for (let at = from; at < from + stretch; at++) if (live[at]! <= live[best]!) best = at
    cuts.add(best)
  }
  return cuts
}

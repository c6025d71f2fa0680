import { fail } from "../errors.ts"
import { sameDim } from "./dim.ts"
import type { Op } from "./ops/row.ts"
import { ops } from "./ops.ts"
import { Cuts } from "./recompute.ts"
import { nodesOf, scalar, type Tensor } from "./tensor.ts"

export interface GradientOptions {
  /** Keep the values at a few cuts only and make those between them again: less memory, about a third more time. */
  readonly recompute?: boolean
}

/**
 * Reverse-mode derivatives of a scalar: one tensor per entry of `wrt`, as further nodes of the same graph.
 * Rules live in the op table; broadcasting is undone here, once. A value that `loss` does not depend on gets zeros.
 * @throws GRAPH_GRADIENT when the way to a `wrt` leads through an op that has no gradient.
 */
export function gradients(
  loss: Tensor,
  wrt: readonly Tensor[],
  { recompute = false }: GradientOptions = {},
): Tensor[] {
  const cuts = recompute ? new Cuts(loss) : null
  const nodes = nodesOf([loss])
  const needed = new Set<Tensor>(wrt)
  for (const node of nodes) if (node.inputs.some((i) => needed.has(i))) needed.add(node)
  const slope = new Map<Tensor, Tensor>([[loss, scalar(1)]])
  for (const node of nodes.reverse()) {
    const g = slope.get(node)
    if (g === undefined || node.inputs.length === 0 || !node.inputs.some((i) => needed.has(i))) continue
    const seen = (value: Tensor) => cuts?.value(value, node, g) ?? value
    rule(node)(g, seen(node), node.inputs.map(seen), node.attrs as never).forEach((part, i) => {
      const to = node.inputs[i]!
      if (part === null || !needed.has(to)) return
      const fitted = unbroadcast(part, to)
      slope.set(to, slope.get(to)?.add(fitted) ?? fitted)
    })
  }
  return wrt.map((w) => slope.get(w) ?? w.mul(0))
}

function rule(node: Tensor) {
  const { grad } = ops[node.op] as Op<never>
  if (typeof grad === "string")
    return fail("GRAPH_GRADIENT", `${node.op} has no gradient: ${grad}`, { blame: "here" })
  return grad
}

/** Sums a gradient over the axes along which its operand was repeated. */
function unbroadcast(g: Tensor, to: Tensor): Tensor {
  const extra = g.rank - to.rank
  const lead = extra > 0 ? g.sum([...g.shape.keys()].slice(0, extra)) : g
  const repeated = to.shape.flatMap((d, i) =>
    d === 1 && lead.rank === to.rank && !sameDim(lead.shape[i]!, 1) ? [i] : [],
  )
  const summed = repeated.length > 0 ? lead.sum(repeated, true) : lead
  return summed.broadcastTo(to.shape)
}

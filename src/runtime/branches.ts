import {
  addBranches,
  branchable,
  type Dim,
  factorsOf,
  type Graph,
  graphNodes,
  nameOf,
  scalar,
  type Tensor,
} from "../graph/index.ts"
import type { DeviceName } from "./engine.ts"
import type { Patch, Patches } from "./hold.ts"

/** Beyond this share of the numbers of the weights beside which they stand, factors cost steps more than they save once. */
const mostWork = 1 / 4

/**
 * Decides how patches come to a network. Low-rank changes stand beside its weights: the session goes on reading its
 * files, and other patches of the same weights are a few small tensors. Where one of them is of another kind, all go into
 * the weights, so that the numbers follow from the patches alone, not from what was there before.
 */
export class Arranger {
  private readonly able: ReadonlyMap<string, Tensor>
  private readonly names: ReadonlySet<string>
  private readonly device: DeviceName

  constructor(graph: Graph, device: DeviceName) {
    this.able = branchable(graph)
    this.names = namesOf(graph)
    this.device = device
  }

  /** The matrices among the weights that `wanted` names. */
  roomFor(wanted: (name: string) => boolean): Set<string> {
    const flat = (shape: readonly Dim[]) => shape.slice(2).every((k) => k === 1)
    return new Set([...this.able].flatMap(([name, w]) => (wanted(name) && flat(w.shape) ? [name] : [])))
  }

  /** Patches in the form in which the network takes them; none where it has nothing of what they change. */
  arrange(patches: Patches): Patches | undefined {
    const used = new Map([...patches.changes].filter(([name]) => this.names.has(name)))
    if (used.size === 0 && patches.changes.size > 0) return undefined
    let [work, whole] = [0, 0]
    for (const [name, { branch }] of used) {
      const shape = this.able.get(name)?.shape as readonly number[] | undefined
      // kernels of other devices were found wrong for odd numbers of channels (mend.ts)
      const strange = this.device !== "cpu" && shape?.slice(2).some((k) => k > 1)
      if (!shape || !branch || strange) return patches
      const inner = shape.slice(1).reduce((a, b) => a * b, 1)
      work += branch.rank * (shape[0]! + inner)
      whole += shape[0]! * inner
    }
    return whole === 0 || work > mostWork * whole ? patches : beside(used, patches)
  }
}

/** Patches of a network that is built anew: widened by the room that the last one had, or that is wanted from the start. */
export const roomyPatches = (
  own: Patches | undefined,
  { left, wanted }: { left?: ReadonlySet<string> | undefined; wanted?: ReadonlySet<string> | undefined },
): Patches | undefined => {
  if (own && !own.beside) return own
  if (own) return left || wanted ? widened(own, new Set([...(left ?? []), ...(wanted ?? [])])) : own
  return wanted?.size ? widened(undefined, wanted) : undefined
}

/** A graph with room for factors beside its weights, where patches come so. */
export const withRoom = (graph: Graph, patches: Patches | undefined): Graph =>
  patches?.beside ? addBranches(graph, patches.beside) : graph

/** Names of a network's weights. */
const namesOf = (graph: Graph): Set<string> =>
  new Set(graphNodes(graph).flatMap((node) => (node.op === "param" ? [nameOf(node)] : [])))

/** The same patches as values of the factors. */
function beside(used: ReadonlyMap<string, Patch>, { weights }: Patches): Patches {
  const changes = new Map<string, Patch>()
  for (const [name, { branch }] of used) {
    const { down, up } = factorsOf(name)
    changes.set(down, { key: branch!.down.key, apply: () => branch!.down.make() })
    changes.set(up, { key: branch!.up.key, apply: () => branch!.up.make() })
  }
  return { changes, weights, beside: new Set(used.keys()) }
}

/** A factor of zeros: what it stands beside keeps its very bits. */
const nothing: Patch = {
  key: "nothing",
  apply: (w) => scalar(0).broadcastTo(w.shape.map((d) => (typeof d === "number" ? d : 1))),
}

/** The same for a network that has room beside these weights too, or instead. */
export function widened(patches: Patches | undefined, room: ReadonlySet<string>): Patches {
  const changes = new Map(patches?.changes)
  for (const name of room)
    for (const factor of Object.values(factorsOf(name)))
      if (!changes.has(factor)) changes.set(factor, nothing)
  return {
    changes,
    weights: patches?.weights ?? new Map(),
    beside: new Set([...room, ...(patches?.beside ?? [])]),
  }
}

/**
 * What patches are to a session that was built with others: changes of the same places, or null where it must be built
 * anew. Room beside weights that is not asked for is filled with zeros: no adapter at all needs no other session.
 */
export function inPlaceOf(
  before: Patches | undefined,
  next: Patches | undefined,
): Patches | null | undefined {
  if (!before?.beside) return !before === !next && !next?.beside ? next : null
  if (next && !next.beside) return null
  return [...(next?.beside ?? [])].every((name) => before.beside!.has(name))
    ? widened(next, before.beside)
    : null
}

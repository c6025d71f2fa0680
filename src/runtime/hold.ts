import {
  type Graph,
  graphNodes,
  liftConvolutions,
  liftInt8,
  liftWeights,
  matrices,
  nameOf,
  rewrite,
  type StoredTensor,
  type Tensor,
} from "../graph/index.ts"
import { type CodeStore, storeCodes } from "./codes.ts"
import { type DeviceName, type Engine, isRef, type Ref } from "./engine.ts"
import type { ReadWeights } from "./gather.ts"
import { batches, evaluateOnce } from "./made.ts"

/** What one weight becomes. */
export interface Patch {
  /** Patches of one key make equal values of the same weight. */
  readonly key: string
  /** The new value, from the weight and from parameters of `Patches.weights`. */
  apply(weight: Tensor): Tensor
  /** The same change as the product of two thin matrices, where it is one. */
  readonly branch?: Branch
}

/** A change of low rank that can stand beside a weight (o i): x becomes (x down) up. */
export interface Branch {
  readonly rank: number
  /** i r, of parameters of `Patches.weights` alone */
  readonly down: Factor
  /** r o */
  readonly up: Factor
}

interface Factor {
  /** Factors of one key make equal values. */
  readonly key: string
  make(): Tensor
}

/** Changes of weights by checkpoint key, and the tensors that only they read. */
export interface Patches {
  readonly changes: ReadonlyMap<string, Patch>
  readonly weights: ReadonlyMap<string, StoredTensor>
  /** Weights that stay as they are: the changes are those of factors beside them (branches.ts). */
  readonly beside?: ReadonlySet<string>
}

/** A graph with what its heavy weights became, kept in the engine under the names of its inputs. */
export interface Held {
  readonly graph: Graph
  readonly weights: Record<string, Ref>
  /** What makes each of `weights` from the stored weights. */
  readonly made: ReadonlyMap<string, Tensor>
  /** The stored weights, and those that were kept of them. */
  readonly stored: ReadonlyMap<string, StoredTensor>
}

export interface HoldOptions {
  readonly device: DeviceName
  readonly threads?: number
  readonly read?: ReadWeights
  readonly patches?: Patches
  /** Compute in eight-bit integers, but for what follows from these inputs alone. */
  readonly int8?: ReadonlySet<string>
  /** Where eight-bit codes are kept from one run to the next. */
  readonly store?: CodeStore
  /** Held weights of an earlier session for the same files, by name; those of no use are given back. */
  readonly inherited?: Readonly<Record<string, Ref>> | undefined
  /** The network runs seldom, on large pictures: scratch memory counts. */
  readonly fleeting?: boolean
}

/** Bytes from which a weight in half precision is widened at every run instead of once. */
const heavy = 1e6
/**
 * Makes what a network's convolutions need of their weights once, straight from the files, and keeps it in the engine.
 * The session itself then has little to prepare: SD 1.5's U-Net is ready in a third of the time and 2 GB less.
 * With patches of weights, every matrix is held too, so that it can be made anew (`makeHeld`) while the session stays;
 * with patches beside them their factors are.
 */
export async function holdWeights(
  engine: Engine,
  graph: Graph,
  weights: ReadonlyMap<string, StoredTensor>,
  options: HoldOptions,
): Promise<Held> {
  const { patches, device } = options
  const cpu = device === "cpu"
  if (!cpu && !patches) {
    const made = new Map<string, Tensor>()
    return { graph, weights: await inherit(engine, made, options), made, stored: weights }
  }
  const integers = await integersOf(engine, graph, weights, options)
  const others = patches && !patches.beside ? matrices(graph) : []
  const patched = new Set([...others, ...(patches?.changes.keys() ?? [])])
  const first = liftWeights(integers.graph, patched, (node) => cpu && node.op === "conv2d")
  const lifted = cpu
    ? liftConvolutions(first.graph, (name) => patched.has(name), options.fleeting)
    : { graph: first.graph, made: new Map<string, Tensor>() }
  const made = new Map([...integers.made, ...first.made, ...lifted.made])
  const kept = await inherit(engine, made, options)
  try {
    const missing = new Map([...made].filter(([name]) => !(name in kept)))
    const held = { ...kept, ...(await makeHeld(engine, missing, weights, options)) }
    return { graph: lifted.graph, made, weights: held, stored: integers.stored }
  } catch (error) {
    await engine.free(Object.values(kept).map(({ ref }) => ref))
    throw error
  }
}

/** Held weights of an earlier session that this one can go on with. */
async function inherit(
  engine: Engine,
  made: Held["made"],
  { inherited = {} }: HoldOptions,
): Promise<Record<string, Ref>> {
  const [mine, others] = [true, false].map((used) =>
    Object.fromEntries(Object.entries(inherited).filter(([name]) => made.has(name) === used)),
  ) as [Record<string, Ref>, Record<string, Ref>]
  await engine.free(Object.values(others).map(({ ref }) => ref))
  return mine
}

/** The graph with its wide products in eight-bit integers, where that is asked for. */
async function integersOf(
  engine: Engine,
  graph: Graph,
  stored: Held["stored"],
  options: HoldOptions,
): Promise<{ graph: Graph; made: Held["made"]; stored: Held["stored"] }> {
  const none = new Map<string, Tensor>()
  if (options.device !== "cpu" || !options.int8) return { graph, made: none, stored }
  const lifted = liftInt8(graph, options.int8)
  // codes of patched weights are made anew with every patch
  const { patches } = options
  const kept =
    patches && !patches.beside ? null : await storeCodes(engine, lifted.graph, lifted.made, stored, options)
  return kept ? { graph: kept.graph, made: none, stored: kept.weights } : { ...lifted, stored }
}

/** Names of the stored weights that a value is made of. */
const sources = (node: Tensor): string[] =>
  graphNodes({ outputs: { node } }).flatMap((n) => (n.op === "param" ? [nameOf(n)] : []))

/** Names of the stored weights that go into any of the held ones. */
export const sourcesOf = (made: ReadonlyMap<string, Tensor>): Set<string> =>
  new Set([...made.values()].flatMap(sources))

/** Those of the held weights that these stored weights go into. */
export const madeFrom = (
  made: ReadonlyMap<string, Tensor>,
  names: ReadonlySet<string>,
): Map<string, Tensor> =>
  new Map([...made].filter(([, node]) => sources(node).some((name) => names.has(name))))

/**
 * Makes held weights, patched where a patch says so.
 * @param into held weights of the same names that are given up for them: fresh memory costs more than the arithmetic
 */
export async function makeHeld(
  engine: Engine,
  made: ReadonlyMap<string, Tensor>,
  weights: ReadonlyMap<string, StoredTensor>,
  options: HoldOptions,
  into: Readonly<Record<string, Ref>> = {},
): Promise<Record<string, Ref>> {
  const held: Record<string, Ref> = {}
  const { patches } = options
  const stored = patches ? new Map([...weights, ...patches.weights]) : weights
  try {
    for (const outputs of batches(made)) {
      const graph = patches ? applyPatches({ outputs }, patches) : { outputs }
      Object.assign(held, await make(engine, graph, stored, options, into))
    }
    return held
  } catch (error) {
    await engine.free(Object.values(held).map(({ ref }) => ref))
    throw error
  }
}

function applyPatches(graph: Graph, { changes, weights }: Patches): Graph {
  return rewrite(graph, (node, original) => {
    if (original.op !== "param" || weights.has(nameOf(original))) return node
    return changes.get(nameOf(original))?.apply(node) ?? node
  })
}

/**
 * Weights of convolutions and linear layers that stay mapped as half precision and are widened whenever they are read.
 * For SD 1.5 that saves 2.7 GB and half of the time before the first step, and costs a step 3 % of its time.
 */
export function narrowWeights(
  graph: Graph,
  weights: ReadonlyMap<string, StoredTensor>,
  device: DeviceName,
): Set<string> {
  const found = new Set<string>()
  if (device !== "cpu") return found
  for (const { op, inputs } of graphNodes(graph)) {
    const [filters] = inputs
    // filters on their way to Winograd's points, four times as large when made ahead
    if (op === "reshape" && filters?.op === "param" && filters.rank === 4) found.add(nameOf(filters))
    if (op !== "conv2d" && op !== "linear") continue
    const read = inputs[1]!
    const weight = read.op === "slice" ? read.inputs[0]! : read
    const stored = weight.op === "param" ? weights.get(nameOf(weight)) : undefined
    if (stored && stored.dtype !== "f32" && stored.bytes.length >= heavy) found.add(nameOf(weight))
  }
  return found
}

async function make(
  engine: Engine,
  graph: Graph,
  weights: ReadonlyMap<string, StoredTensor>,
  options: HoldOptions,
  into: Readonly<Record<string, Ref>>,
): Promise<Record<string, Ref>> {
  const names = Object.keys(graph.outputs)
  const over = Object.fromEntries(names.flatMap((name) => (into[name] ? [[name, into[name]]] : [])))
  const out = await evaluateOnce(engine, graph, weights, options, names, over)
  return Object.fromEntries(
    Object.entries(out).flatMap(([name, feed]) => (isRef(feed) ? [[name, feed]] : [])),
  )
}

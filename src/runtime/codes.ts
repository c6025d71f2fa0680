import { type Graph, nameOf, parameter, rewrite, type StoredTensor, type Tensor } from "../graph/index.ts"
import type { Engine, Value } from "./engine.ts"
import type { HoldOptions } from "./hold.ts"
import { valuesOf } from "./made.ts"

/** One tensor that is to be kept. */
export interface CodeTensor {
  readonly name: string
  readonly dtype: "i8" | "f32"
  readonly shape: readonly number[]
}

/** Keeps what was made of a model's weights from one run to the next, where an engine can map it. */
export interface CodeStore {
  /** The tensors of an earlier run, or those that `make` gives, in the order asked for; null where nothing can be kept. */
  take(
    tensors: readonly CodeTensor[],
    make: () => AsyncGenerator<Value>,
  ): Promise<ReadonlyMap<string, StoredTensor> | null>
}

/**
 * Eight-bit codes as weights of the graph instead of inputs: the engine lays them out once for its products, which
 * saves a fifth of their time. Null where they cannot be kept.
 */
export async function storeCodes(
  engine: Engine,
  graph: Graph,
  made: ReadonlyMap<string, Tensor>,
  weights: ReadonlyMap<string, StoredTensor>,
  options: HoldOptions,
): Promise<{ graph: Graph; weights: ReadonlyMap<string, StoredTensor> } | null> {
  const tensors = [...made].map(([name, { dtype, shape }]) => ({
    name,
    dtype: dtype as CodeTensor["dtype"],
    shape: shape as number[],
  }))
  const stored = await options.store?.take(tensors, () => valuesOf(engine, made, weights, options))
  if (!stored) return null
  const own = rewrite(graph, (node) =>
    node.op === "input" && made.has(nameOf(node))
      ? parameter(nameOf(node), node.shape as number[], node.dtype)
      : node,
  )
  return { graph: own, weights: new Map([...weights, ...stored]) }
}

import { type Graph, graphNodes, nameOf, type StoredTensor, type Tensor, toOnnx } from "../graph/index.ts"
import { type Engine, type Feed, type Ref, type Value, value } from "./engine.ts"
import { gather } from "./gather.ts"
import type { HoldOptions } from "./hold.ts"

/** Elements made at once: what it takes beside the results stays small. */
const batch = 32 * 2 ** 20

/** Parts of what is made, each of about as much memory. */
export function* batches(made: ReadonlyMap<string, Tensor>): Generator<Record<string, Tensor>> {
  let outputs: Record<string, Tensor> = {}
  let size = 0
  for (const [name, node] of made) {
    outputs[name] = node
    size += node.shape.reduce<number>((n, d) => n * (typeof d === "number" ? d : 1), 1)
    if (size < batch) continue
    yield outputs
    outputs = {}
    size = 0
  }
  if (size > 0) yield outputs
}

/** What is made of stored weights, one after the other, as arrays. */
export async function* valuesOf(
  engine: Engine,
  made: ReadonlyMap<string, Tensor>,
  weights: ReadonlyMap<string, StoredTensor>,
  options: HoldOptions,
): AsyncGenerator<Value> {
  for (const outputs of batches(made)) {
    const out = await evaluateOnce(engine, { outputs }, weights, options, [])
    for (const name of Object.keys(outputs)) yield value(out, name)
  }
}

/** Runs a graph of stored weights alone; results named in `keep` stay in the engine, over those of `into`. */
export async function evaluateOnce(
  engine: Engine,
  graph: Graph,
  weights: ReadonlyMap<string, StoredTensor>,
  { device, threads, read }: HoldOptions,
  keep: readonly string[],
  into: Readonly<Record<string, Ref>> = {},
): Promise<Record<string, Feed>> {
  const names = graphNodes(graph).flatMap((node) => (node.op === "param" ? [nameOf(node)] : []))
  const used = new Map(
    names.flatMap((name) => (weights.has(name) ? [[name, weights.get(name)!] as const] : [])),
  )
  const { weights: placed, externals } = await gather(used, read)
  const session = await engine.create({
    onnx: toOnnx(graph, placed),
    externals,
    device,
    threads,
    keep,
    once: true,
  })
  try {
    return await engine.run(session, {}, keep, into)
  } finally {
    await engine.release(session)
  }
}

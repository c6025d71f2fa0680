import { graphNodes, input, nameOf, printGraph, rewrite, type Tensor, toOnnx } from "../graph/index.ts"
import { type Engine, f32, value } from "./engine.ts"

/** Numbers for a parameter. */
export interface Numbers {
  readonly data: Float32Array
  readonly shape: readonly number[]
}

/** Computes tensors that depend on parameters alone; equal computations share a session. */
export class Evaluator {
  private readonly engine: Engine
  private readonly sessions = new Map<string, Promise<number>>()

  constructor(engine: Engine) {
    this.engine = engine
  }

  async run(result: Tensor, numbers: ReadonlyMap<string, Numbers>): Promise<Float32Array> {
    const names: string[] = []
    const graph = rewrite({ outputs: { result } }, (node, original) => {
      if (original.op !== "param") return node
      if (!names.includes(nameOf(original))) names.push(nameOf(original))
      return input(`p${names.indexOf(nameOf(original))}`, node.shape)
    })
    const text = printGraph(graph)
    const known = this.sessions.get(text)
    const session = known ?? this.engine.create({ onnx: toOnnx(graph), externals: [], device: "cpu" })
    this.sessions.set(text, session)
    const read = new Set(graphNodes(graph).flatMap((node) => (node.op === "input" ? [nameOf(node)] : [])))
    const feeds = names.flatMap((name, i) => {
      const { data, shape } = numbers.get(name)!
      return read.has(`p${i}`) ? [[`p${i}`, f32(data, shape)] as const] : []
    })
    return value(await this.engine.run(await session, Object.fromEntries(feeds)), "result")
      .data as Float32Array
  }

  async release(): Promise<void> {
    const all = [...this.sessions.values()]
    this.sessions.clear()
    for (const session of all) {
      const made = await session.catch(() => undefined)
      if (made !== undefined) await this.engine.release(made)
    }
  }
}

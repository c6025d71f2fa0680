import { input, parameter } from "../../src/graph/index.ts"
import { f32 } from "../../src/runtime/engine.ts"
import { streamOf } from "../../src/train/init.ts"
import { adamw } from "../../src/train/optimizer.ts"
import type { Task } from "../../src/train/task.ts"

/** A two-layer network that learns a fixed function of noise; a step takes a millisecond. */
export function tinyTask(steps: number, changes: Partial<Task> = {}): Task {
  const [batch, size, hidden] = [8, 6, 16]
  const shapes = { "a.weight": [hidden, size], "a.bias": [hidden], "b.weight": [1, hidden], "b.bias": [1] }
  const parameters = new Map(Object.entries(shapes).map(([name, shape]) => [name, parameter(name, shape)]))
  const p = (name: string) => parameters.get(name)!
  const rows = batch / (changes.replicas ?? 1)
  const made = input("x", [rows, size])
    .linear(p("a.weight"), p("a.bias"))
    .silu()
    .linear(p("b.weight"), p("b.bias"))
  const loss = made
    .sub(input("y", [rows, 1]))
    .square()
    .mean([0, 1])
  return {
    name: "tiny",
    settings: { steps },
    objective: { parameters, loss },
    optimizer: adamw({ beta2: 0.99 }),
    steps,
    samplesPerStep: batch,
    clip: 1,
    rate: () => 0.01,
    averages: [0.9],
    first: () =>
      new Map(
        Object.entries(shapes).map(([name, shape]) => [
          name,
          streamOf(1, name)
            .normal(shape.reduce((a, b) => a * b, 1))
            .map((v) => v * 0.3),
        ]),
      ),
    batch: (index) => {
      const x = streamOf(2, `x ${index}`).normal(batch * size)
      const y = Float32Array.from({ length: batch }, (_, r) => Math.sin(x[r * size]!) * x[r * size + 1]!)
      return { x: f32(x, [batch, size]), y: f32(y, [batch, 1]) }
    },
    ...changes,
  }
}

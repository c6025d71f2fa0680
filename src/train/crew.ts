import type { Engine, Value } from "../runtime/engine.ts"
import { Machine, type MachineOptions, type Numbers } from "./machine.ts"
import type { Optimizer } from "./optimizer.ts"
import { gradientOf, type StepGraphs } from "./step.ts"

type Inputs = Readonly<Record<string, Value>>

/**
 * Copies of one network in training, each with an engine of its own: every batch is shared out by rows, the gradients
 * are exchanged and every copy makes the same update. On small networks two engines of one thread each are much
 * faster than one of two, which wait for each other at thousands of small nodes.
 */
export class Crew {
  private readonly machines: readonly Machine[]

  private constructor(machines: readonly Machine[]) {
    this.machines = machines
  }

  /** @param graphs made for as many replicas as there are engines, the loss of one replica's rows. */
  static async start(
    engines: readonly Engine[],
    graphs: StepGraphs,
    optimizer: Optimizer,
    values: ReadonlyMap<string, Float32Array>,
    options: MachineOptions = {},
  ): Promise<Crew> {
    return new Crew(
      await Promise.all(
        engines.map((engine) => Machine.start(engine, graphs, optimizer, values, { ...options, threads: 1 })),
      ),
    )
  }

  /** As `Machine.step`; the first dimension of all inputs is shared out. */
  async step(inputs: Inputs, step: number, rate: number, shares: readonly number[] = []): Promise<Numbers> {
    const count = this.machines.length
    const found = await Promise.all(this.machines.map((m, i) => m.gradients(rowsOf(inputs, i, count))))
    const exchanged = Object.fromEntries(
      found.flatMap(({ gradients }, i) =>
        Object.entries(gradients).map(([key, v]) => [gradientOf(key, i), v]),
      ),
    )
    const [updated] = await Promise.all(this.machines.map((m) => m.step(exchanged, step, rate, shares)))
    const names = Object.keys(found[0]!.numbers)
    const means = names.map((key) => [key, found.reduce((s, f) => s + f.numbers[key]!, 0) / count])
    return { ...updated!, ...Object.fromEntries(means) }
  }

  read: Machine["read"] = (wanted) => this.machines[0]!.read(wanted)
  probe: Machine["probe"] = (name, inputs, mean) => this.machines[0]!.probe(name, inputs, mean)

  async close(): Promise<void> {
    for (const machine of this.machines) await machine.close()
  }
}

function rowsOf(inputs: Inputs, part: number, parts: number): Inputs {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { data, shape }]) => {
      const rows = shape[0]! / parts
      const size = data.length / shape[0]!
      const own = data.slice(part * rows * size, (part + 1) * rows * size)
      return [name, { data: own, shape: [rows, ...shape.slice(1)] }]
    }),
  )
}

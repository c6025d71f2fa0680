import type { Engine, Value } from "../runtime/engine.ts"
import { Machine, type MachineOptions, type Numbers } from "./machine.ts"
import type { Optimizer } from "./optimizer.ts"
import { gradientOf, type StepGraphs } from "./step.ts"

type Inputs = Readonly<Record<string, Value>>

/**
 * Copies of one network in training, each with an engine of its own: every batch is shared out by rows, every copy
 * updates its share of the weights by the mean of all gradients and hands them to the others (Rajbhandari et al. 2020,
 * ZeRO stage 1). On small networks two engines of one thread each are much
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
        engines.map((engine, share) =>
          Machine.start(engine, graphs, optimizer, values, { ...options, threads: 1, share }),
        ),
      ),
    )
  }

  /** As `Machine.step`; the first dimension of all inputs is shared out. */
  async step(inputs: Inputs, step: number, rate: number, shares: readonly number[] = []): Promise<Numbers> {
    const count = this.machines.length
    const found = await Promise.all(this.machines.map((m, i) => m.gradients(rowsOf(inputs, i, count))))
    const all = found.map((f) => f.gradients)
    const squares = await Promise.all(this.machines.map((m, i) => m.mean(othersFor(i, all, m.learned()))))
    const norm = Math.sqrt(squares.reduce((a, b) => a + b))
    const sent = await Promise.all(this.machines.map((m) => m.update(norm, step, rate, shares)))
    this.machines.forEach((m, i) => {
      for (const [from, weights] of sent.entries()) if (from !== i) m.take(weights)
    })
    const names = Object.keys(found[0]!.numbers)
    const means = names.map((key) => [key, found.reduce((s, f) => s + f.numbers[key]!, 0) / count])
    return { ...Object.fromEntries(means), norm }
  }

  read: Machine["read"] = async (wanted) => {
    const parts = await Promise.all(this.machines.map((m) => m.read(wanted)))
    return new Map(parts.flatMap((p) => [...p]))
  }

  probe: Machine["probe"] = async (name, inputs, mean) => {
    const [first, ...others] = this.machines
    const theirs = mean === null ? [] : await Promise.all(others.map((m) => m.averages(mean)))
    return first!.probe(name, Object.assign({}, inputs, ...theirs), mean)
  }

  async close(): Promise<void> {
    for (const machine of this.machines) await machine.close()
  }
}

/** The gradients that the other replicas found for one's share. */
const othersFor = (
  index: number,
  found: readonly Readonly<Record<string, Value>>[],
  keys: readonly string[],
): Inputs =>
  Object.fromEntries(
    found.flatMap((gradients, from) =>
      from === index ? [] : keys.map((key) => [gradientOf(key, from), gradients[key]!]),
    ),
  )

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

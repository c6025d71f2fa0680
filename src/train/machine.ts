import { apply, input, toOnnx } from "../graph/index.ts"
import { type Engine, type Feed, f32, isRef, type Ref, type Value, value } from "../runtime/engine.ts"
import type { Optimizer } from "./optimizer.ts"
import { average, knobValues, next, type Slot, type Stage, type StepGraphs } from "./step.ts"

/**
 * Channels per block of onnxruntime's blocked convolutions on this processor, null where it has none: a picture of
 * one place and four channels is padded to a whole block.
 */
export async function blockSize(engine: Engine, device: "cpu" | "webgpu" = "cpu"): Promise<number | null> {
  if (device !== "cpu") return null
  for (const block of [16, 8]) {
    const x = input("x", [1, block, 1, 1])
    const w = input("w", [block, block, 1, 1])
    const attrs = { stride: 1, pads: [0, 0, 0, 0], groups: 1, block, back: false }
    const onnx = toOnnx({ outputs: { y: apply("blockedConv", [x, w], attrs) } })
    try {
      const session = await engine.create({ onnx, externals: [], device })
      const weights = Float32Array.from({ length: block * block }, (_, i) => i)
      const picture = Float32Array.from({ length: block }, (_, i) => 1 + (i % 3))
      const out = await engine.run(session, {
        x: f32(picture, [1, block, 1, 1]),
        w: f32(weights, [block, block, 1, 1]),
      })
      await engine.release(session)
      const want = Array.from({ length: block }, (_, o) =>
        picture.reduce((s, v, i) => s + v * weights[o * block + i]!, 0),
      )
      if (want.every((v, o) => value(out, "y").data[o] === v)) return block
    } catch {
      // this engine has no blocked convolutions, or not of this width
    }
  }
  return null
}

export interface Numbers {
  readonly loss: number
  /** Norm of all gradients together, before clipping. */
  readonly norm: number
  readonly [metric: string]: number
}

/**
 * A network in training: weights, optimiser state and averages live in the engine and are exchanged between two sets
 * of buffers, so a step copies nothing out but its numbers.
 */
export class Machine {
  private readonly engine: Engine
  private readonly graphs: StepGraphs
  private readonly optimizer: Optimizer
  private readonly sessions: { batch: number | null; step: number; probes: Map<string, number> }
  private state: Record<string, Feed>
  private spare: Record<string, Ref> = {}

  private constructor(
    engine: Engine,
    graphs: StepGraphs,
    optimizer: Optimizer,
    sessions: { batch: number | null; step: number; probes: Map<string, number> },
    state: Record<string, Feed>,
  ) {
    this.engine = engine
    this.graphs = graphs
    this.optimizer = optimizer
    this.sessions = sessions
    this.state = state
  }

  /** @param values every slot of a checkpoint, or the first weights alone. */
  static async start(
    engine: Engine,
    graphs: StepGraphs,
    optimizer: Optimizer,
    values: ReadonlyMap<string, Float32Array>,
    options: { device?: "cpu" | "webgpu"; threads?: number } = {},
  ): Promise<Machine> {
    const create = ({ onnx }: Stage) =>
      engine.create({
        onnx,
        externals: [],
        device: options.device ?? "cpu",
        threads: options.threads ?? 2,
        flush: true,
      })
    const sessions = {
      batch: graphs.batch ? await create(graphs.batch) : null,
      step: await create(graphs.step),
      probes: new Map<string, number>(),
    }
    for (const [name, stage] of Object.entries(graphs.probes)) sessions.probes.set(name, await create(stage))
    return new Machine(engine, graphs, optimizer, sessions, firstState(graphs.slots, values))
  }

  /** One batch's gradients added to the sums; only where gradients are accumulated. */
  async accumulate(inputs: Readonly<Record<string, Value>>): Promise<Numbers> {
    return this.run(this.sessions.batch!, this.graphs.batch!, inputs)
  }

  /** @param step counted from 1. @param shares of the new weights in each average. */
  async step(
    inputs: Readonly<Record<string, Value>>,
    step: number,
    rate: number,
    shares: readonly number[] = [],
  ): Promise<Numbers> {
    const knobs = knobValues(this.optimizer, step, rate, shares)
    const values = Object.entries(knobs).map(([name, v]) => [name, f32(Float32Array.of(v), [])])
    return this.run(this.sessions.step, this.graphs.step, { ...inputs, ...Object.fromEntries(values) })
  }

  private async run(session: number, stage: Stage, given: Readonly<Record<string, Value>>): Promise<Numbers> {
    const feeds = Object.fromEntries(stage.inputs.map(({ name }) => [name, given[name] ?? this.state[name]!]))
    const into = Object.fromEntries(
      stage.state.flatMap((key) => (this.spare[key] ? [[next(key), this.spare[key]!]] : [])),
    )
    const out = await this.engine.run(session, feeds, stage.state.map(next), into)
    for (const key of stage.state) {
      const old = this.state[key]!
      if (isRef(old)) this.spare[key] = old
      else delete this.spare[key]
      this.state[key] = out[next(key)]!
    }
    const numbers = Object.entries(out).filter(([, feed]) => !isRef(feed))
    return Object.fromEntries(
      numbers.map(([name, feed]) => [name, Number((feed as Value).data[0])]),
    ) as Numbers
  }

  /** Copies the state out by part (`NAME`, `NAME.m`, ..): all of it, or the parts that `wanted` names. */
  async read(wanted: (key: string) => boolean = () => true): Promise<Map<string, Float32Array>> {
    const slots = this.graphs.slots.filter((s) => s.parts.some((p) => wanted(p.key)))
    const refs = slots.filter((s) => isRef(this.state[s.key]!))
    const out: Record<string, Feed> = Object.fromEntries(slots.map((s) => [s.key, this.state[s.key]!]))
    if (refs.length > 0) {
      const outputs = Object.fromEntries(refs.map((s) => [next(s.key), input(s.key, s.shape)]))
      const session = await this.engine.create({ onnx: toOnnx({ outputs }), externals: [], device: "cpu" })
      const read = await this.engine.run(session, Object.fromEntries(refs.map((s) => [s.key, out[s.key]!])))
      await this.engine.release(session)
      for (const s of refs) out[s.key] = read[next(s.key)]!
    }
    return new Map(
      slots.flatMap((s) => {
        const data = value(out, s.key).data as Float32Array
        const cut = (at: number, shape: readonly number[]) => data.slice(at, at + sizeOf(shape))
        return s.parts.filter((p) => wanted(p.key)).map((p) => [p.key, cut(p.at, p.shape)] as const)
      }),
    )
  }

  /** Runs a further network on the present weights, or on those of moving average `mean`. */
  async probe(
    name: string,
    inputs: Readonly<Record<string, Value>>,
    mean: number | null,
  ): Promise<Record<string, Value>> {
    const stage = this.graphs.probes[name]!
    const suffix = mean === null ? "" : `.${average(mean)}`
    const weights = new Set(this.graphs.weights)
    const feeds = Object.fromEntries(
      stage.inputs.map(({ name: key }) => [
        key,
        weights.has(key) ? this.state[`${key}${suffix}`]! : inputs[key]!,
      ]),
    )
    return (await this.engine.run(this.sessions.probes.get(name)!, feeds)) as Record<string, Value>
  }

  async close(): Promise<void> {
    const refs = [...Object.values(this.state), ...Object.values(this.spare)].flatMap((f) =>
      isRef(f) ? [f.ref] : [],
    )
    await this.engine.free(refs)
    if (this.sessions.batch !== null) await this.engine.release(this.sessions.batch)
    await this.engine.release(this.sessions.step)
    for (const session of this.sessions.probes.values()) await this.engine.release(session)
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

function firstState(slots: readonly Slot[], values: ReadonlyMap<string, Float32Array>): Record<string, Feed> {
  return Object.fromEntries(
    slots.map(({ key, shape, parts }) => {
      const data = new Float32Array(sizeOf(shape))
      for (const part of parts) {
        const known = values.get(part.key) ?? (part.like === null ? undefined : values.get(part.like))
        if (known === undefined && part.like === part.key)
          throw new TypeError(`no first value of ${part.key}`)
        if (known === undefined) continue
        if (known.length !== sizeOf(part.shape))
          throw new TypeError(`${part.key} has ${known.length} values for ${sizeOf(part.shape)}`)
        data.set(known, part.at)
      }
      return [key, f32(data, shape)]
    }),
  )
}

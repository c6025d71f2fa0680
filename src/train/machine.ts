import { apply, input, parameter, type StoredTensor, toOnnx } from "../graph/index.ts"
import { type Engine, type Feed, f32, isRef, type Ref, type Value, value } from "../runtime/engine.ts"
import { gather } from "../runtime/gather.ts"
import type { Optimizer } from "./optimizer.ts"
import {
  average,
  clipFactor,
  clipping,
  found,
  knobValues,
  mean,
  next,
  type Objective,
  type Slot,
  type Stage,
  type StepGraphs,
  sent,
} from "./step.ts"

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

interface Session {
  readonly id: number
  readonly stage: Stage
}

type Inputs = Readonly<Record<string, Value>>

/** A loss of other sizes than the first. */
export interface Sized {
  readonly name: string
  make(): Pick<Objective, "loss" | "metrics">
}

export interface MachineOptions {
  readonly device?: "cpu" | "webgpu"
  readonly threads?: number
  /** Which of several replicas this is, 0. */
  readonly share?: number
  /** Weights that are not learned, by the names that the graphs leave open. */
  readonly held?: ReadonlyMap<string, StoredTensor>
}

/** Sessions for further sizes that stay built. */
const sizesKept = 6
/** Weights brought into the engine by one graph. */
const heldAtOnce = 64

/**
 * A network in training: weights, optimiser state and averages live in the engine and are exchanged between two sets
 * of buffers, so a step copies nothing out but its numbers.
 */
export class Machine {
  private readonly engine: Engine
  private readonly graphs: StepGraphs
  private readonly optimizer: Optimizer
  private readonly options: MachineOptions
  private readonly sessions = new Map<string, Session>()
  private readonly held: Record<string, Ref> = {}
  private state: Record<string, Feed>
  private spare: Record<string, Ref> = {}
  /** What one part of a replica's step leaves for the next. */
  private readonly passing: Record<string, Ref> = {}

  private constructor(
    engine: Engine,
    graphs: StepGraphs,
    optimizer: Optimizer,
    state: Record<string, Feed>,
    options: MachineOptions,
  ) {
    this.engine = engine
    this.graphs = graphs
    this.optimizer = optimizer
    this.state = state
    this.options = options
  }

  /** @param values every slot of a checkpoint, or the first weights alone. */
  static async start(
    engine: Engine,
    graphs: StepGraphs,
    optimizer: Optimizer,
    values: ReadonlyMap<string, Float32Array>,
    options: MachineOptions = {},
  ): Promise<Machine> {
    const { share = 0 } = options
    const known = graphs.slots.filter((s) => s.share === share || graphs.weights.includes(s.key))
    const machine = new Machine(engine, graphs, optimizer, firstState(known, values), options)
    const mine = graphs.shares[share]
    if (graphs.batch) await machine.session("batch ", () => graphs.batch!)
    if (mine) await machine.session("mean ", () => mine.mean)
    if (mine !== null) await machine.session("step ", () => mine?.step ?? graphs.step)
    return machine
  }

  /** A session by name, built when first needed; of those for further sizes only the last few are kept. */
  private async session(name: string, make: () => Stage): Promise<Session> {
    const known = this.sessions.get(name)
    if (known) {
      this.sessions.delete(name)
      this.sessions.set(name, known)
      return known
    }
    const extra = [...this.sessions].filter(([key]) => key.startsWith("size "))
    if (name.startsWith("size ") && extra.length >= sizesKept) {
      this.sessions.delete(extra[0]![0])
      await this.engine.release(extra[0]![1].id)
    }
    const stage = make()
    await this.hold(stage)
    const id = await this.engine.create({
      onnx: stage.onnx.slice(),
      externals: [],
      device: this.options.device ?? "cpu",
      threads: this.options.threads ?? 2,
      flush: true,
    })
    this.sessions.set(name, { id, stage })
    return this.sessions.get(name)!
  }

  /** Brings weights that are not learned into the engine, those a graph needs and only once. */
  private async hold(stage: Stage): Promise<void> {
    const values = this.options.held ?? new Map<string, StoredTensor>()
    const wanted = stage.inputs.flatMap(({ name }) =>
      values.has(name) && !this.held[name] ? [[name, values.get(name)!] as const] : [],
    )
    for (let from = 0; from < wanted.length; from += heldAtOnce) {
      const part = new Map(wanted.slice(from, from + heldAtOnce))
      const { weights, externals } = await gather(part, undefined)
      const outputs = Object.fromEntries([...part].map(([name, t]) => [next(name), parameter(name, t.shape)]))
      const onnx = toOnnx({ outputs }, weights)
      const id = await this.engine.create({ onnx, externals, device: "cpu", once: true })
      const out = await this.engine.run(id, {}, Object.keys(outputs))
      await this.engine.release(id)
      for (const name of part.keys()) this.held[name] = out[next(name)] as Ref
    }
  }

  /**
   * One batch's gradients added to the sums; only where gradients are accumulated.
   * @param size name of another loss than the first, and what makes it
   */
  async accumulate(inputs: Inputs, size?: Sized): Promise<Numbers> {
    return this.run(
      size
        ? await this.session(`size ${size.name}`, () => this.graphs.variant(size.make()))
        : await this.session("batch ", () => this.graphs.batch!),
      inputs,
    )
  }

  /** @param step counted from 1. @param shares of the new weights in each average. */
  async step(
    inputs: Inputs,
    step: number,
    rate: number,
    shares: readonly number[] = [],
    size?: Sized,
  ): Promise<Numbers> {
    const session = size
      ? await this.session(`size ${size.name}`, () => this.graphs.variant(size.make()))
      : await this.session("step ", () => this.graphs.step)
    return this.run(session, { ...inputs, ...this.knobs(step, rate, shares) })
  }

  private knobs(step: number, rate: number, shares: readonly number[]): Inputs {
    const knobs = knobValues(this.optimizer, step, rate, shares)
    return Object.fromEntries(Object.entries(knobs).map(([name, v]) => [name, f32(Float32Array.of(v), [])]))
  }

  /** One replica's rows of a batch: its numbers, and by slot the gradients that others will want. */
  async gradients(inputs: Inputs): Promise<{ numbers: Numbers; gradients: Record<string, Value> }> {
    const own = this.learned().map((key) => found + key)
    const out = await this.pass("batch ", inputs, own)
    const split = (inside: boolean) =>
      Object.entries(out).filter(([name]) => name.startsWith(found) === inside)
    const bySlot = split(true).map(([name, v]) => [name.slice(found.length), v])
    return { numbers: numbersOf(split(false)), gradients: Object.fromEntries(bySlot) }
  }

  /** Mean gradients of this replica's share, which stay here; returns the sum of their squares. */
  async mean(gradients: Inputs): Promise<number> {
    const own = this.learned().map((key) => mean + key)
    if (own.length === 0) return 0
    return Number((await this.pass("mean ", gradients, own)).squares!.data[0])
  }

  /** Updates this replica's share by the mean gradients, of which all together have that norm; returns new weights by slot. */
  async update(
    norm: number,
    step: number,
    rate: number,
    shares: readonly number[],
  ): Promise<Record<string, Value>> {
    if (this.learned().length === 0) return {}
    const { clip } = this.graphs
    const factor = clip === null ? {} : { [clipping]: f32(Float32Array.of(clipFactor(clip, norm)), []) }
    const out = await this.advance(await this.session("step ", missing), {
      ...this.knobs(step, rate, shares),
      ...factor,
    })
    return Object.fromEntries(
      Object.entries(out).flatMap(([name, feed]) =>
        name.startsWith(sent) ? [[name.slice(sent.length), feed as Value]] : [],
      ),
    )
  }

  /** New weights that another replica made. */
  take(weights: Readonly<Record<string, Value>>): void {
    Object.assign(this.state, weights)
  }

  /** Slots of the weights that this replica updates. */
  learned(): readonly string[] {
    return this.own((s) => this.graphs.weights.includes(s.key)).map((s) => s.key)
  }

  private own(which: (s: Slot) => boolean): readonly Slot[] {
    return this.graphs.slots.filter((s) => s.share === (this.options.share ?? 0) && which(s))
  }

  /** Runs a part of a step; outputs in `keep` stay in the engine under their names until it runs again. */
  private async pass(name: string, given: Inputs, keep: readonly string[]): Promise<Record<string, Value>> {
    const { id, stage } = await this.session(name, missing)
    const into = Object.fromEntries(
      keep.flatMap((key) => (this.passing[key] ? [[key, this.passing[key]!]] : [])),
    )
    const out = await this.engine.run(id, this.feeds(stage, given), keep, into)
    for (const key of keep) {
      this.passing[key] = out[key] as Ref
      delete out[key]
    }
    return out as Record<string, Value>
  }

  private feeds(stage: Stage, given: Inputs): Record<string, Feed> {
    return Object.fromEntries(
      stage.inputs.map(({ name }) => [
        name,
        given[name] ?? this.state[name] ?? this.passing[name] ?? this.held[name]!,
      ]),
    )
  }

  private async run(session: Session, given: Inputs): Promise<Numbers> {
    return numbersOf(Object.entries(await this.advance(session, given)))
  }

  /** Replaces the state; returns what else the stage gives. */
  private async advance({ id, stage }: Session, given: Inputs): Promise<Record<string, Feed>> {
    const into = Object.fromEntries(
      stage.state.flatMap((key) => (this.spare[key] ? [[next(key), this.spare[key]!]] : [])),
    )
    const out = await this.engine.run(id, this.feeds(stage, given), stage.state.map(next), into)
    for (const key of stage.state) {
      const old = this.state[key]!
      if (isRef(old)) this.spare[key] = old
      else delete this.spare[key]
      this.state[key] = out[next(key)]!
    }
    return Object.fromEntries(Object.entries(out).filter(([, feed]) => !isRef(feed)))
  }

  /** Copies the state out by part (`NAME`, `NAME.m`, ..): all of this replica's, or the parts that `wanted` names. */
  async read(wanted: (key: string) => boolean = () => true): Promise<Map<string, Float32Array>> {
    const slots = this.own((s) => s.parts.some((p) => wanted(p.key)))
    const out = await this.copies(slots)
    return new Map(
      slots.flatMap((s) => {
        const data = value(out, s.key).data as Float32Array
        const cut = (at: number, shape: readonly number[]) => data.slice(at, at + sizeOf(shape))
        return s.parts.filter((p) => wanted(p.key)).map((p) => [p.key, cut(p.at, p.shape)] as const)
      }),
    )
  }

  /** The share of a moving average that this replica has, by slot. */
  averages(which: number): Promise<Record<string, Feed>> {
    return this.copies(this.own((s) => s.key.endsWith(`.${average(which)}`)))
  }

  private async copies(slots: readonly Slot[]): Promise<Record<string, Feed>> {
    const refs = slots.filter((s) => isRef(this.state[s.key]!))
    const out: Record<string, Feed> = Object.fromEntries(slots.map((s) => [s.key, this.state[s.key]!]))
    if (refs.length > 0) {
      const outputs = Object.fromEntries(refs.map((s) => [next(s.key), input(s.key, s.shape)]))
      const session = await this.engine.create({ onnx: toOnnx({ outputs }), externals: [], device: "cpu" })
      const read = await this.engine.run(session, Object.fromEntries(refs.map((s) => [s.key, out[s.key]!])))
      await this.engine.release(session)
      for (const s of refs) out[s.key] = read[next(s.key)]!
    }
    return out
  }

  /** Runs a further network on the present weights, or on those of moving average `mean`. */
  async probe(
    name: string,
    inputs: Readonly<Record<string, Value>>,
    mean: number | null,
  ): Promise<Record<string, Value>> {
    const { id, stage } = await this.session(`probe ${name}`, () => this.graphs.probe(name))
    const suffix = mean === null ? "" : `.${average(mean)}`
    const weights = new Set(this.graphs.weights)
    const feeds = Object.fromEntries(
      stage.inputs.map(({ name: key }) => [
        key,
        weights.has(key)
          ? (this.state[key + suffix] ?? inputs[key + suffix]!)
          : (inputs[key] ?? this.held[key]!),
      ]),
    )
    return (await this.engine.run(id, feeds)) as Record<string, Value>
  }

  async close(): Promise<void> {
    const feeds = [this.state, this.spare, this.passing, this.held].flatMap((r): Feed[] => Object.values(r))
    const refs = feeds.flatMap((f) => (isRef(f) ? [f.ref] : []))
    await this.engine.free(refs)
    for (const { id } of this.sessions.values()) await this.engine.release(id)
  }
}

const missing = (): never => {
  throw new TypeError("this network is not a replica")
}
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

const numbersOf = (found: readonly (readonly [string, Feed])[]): Numbers =>
  Object.fromEntries(found.map(([name, feed]) => [name, Number((feed as Value).data[0])])) as Numbers

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

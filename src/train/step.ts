import {
  concat,
  type Dim,
  type Graph,
  gradients,
  graphNodes,
  input,
  lowerConvolutions,
  mergeLayouts,
  nameOf,
  rewrite,
  type StoredTensor,
  scalar,
  shareEqual,
  type Tensor,
  toOnnx,
} from "../graph/index.ts"
import { workingBytes } from "./memory.ts"
import type { Optimizer } from "./optimizer.ts"

/** What is to be learned: a scalar that follows from parameters and inputs. */
export interface Objective {
  /** Parameter nodes by checkpoint key; others in the graph stay as they are. */
  readonly parameters: ReadonlyMap<string, Tensor>
  readonly loss: Tensor
  /** Further scalars to report. */
  readonly metrics?: Readonly<Record<string, Tensor>>
}

export interface StepOptions {
  readonly optimizer: Optimizer
  /** Largest norm of all gradients together; null leaves them alone. */
  readonly clip?: number | null
  /** How many moving averages of the weights are kept. */
  readonly averages?: number
  /** Batches whose gradients are averaged before a step, 1. */
  readonly accumulate?: number
  /** Copies of the network that share every batch and exchange their gradients, 1. */
  readonly replicas?: number
  /** Make values again on the way back instead of keeping them (gradient checkpointing), false. */
  readonly recompute?: boolean
  /** Learning rate of a parameter relative to the others', 1. */
  readonly scale?: (name: string) => number
  /** Channels per block of the processor, as `blockSize` finds it. */
  readonly block: number | null
  /** Further networks on the same weights, without gradients: outputs by name. */
  readonly probes?: Readonly<Record<string, ProbeOutputs>>
  /** Values of parameters that are not learned, written into the graphs. */
  readonly frozen?: ReadonlyMap<string, StoredTensor>
  /** Names of further such parameters, which the engine holds once for all graphs. */
  readonly held?: ReadonlySet<string>
  /** Parameters that stand for the value of a learned one without being learned: their names, and whose value. */
  readonly aliases?: ReadonlyMap<string, string>
}

/** A parameter, or several small ones joined to one vector: thousands of tiny nodes cost more than their arithmetic. */
interface Unit {
  readonly key: string
  readonly share: number
  readonly shape: readonly number[]
  readonly scale: number
  readonly members: readonly { readonly name: string; readonly tensor: Tensor; readonly at: number }[]
}

export interface Slot {
  readonly key: string
  readonly shape: readonly number[]
  /** The replica that updates it, 0 where there is one. */
  readonly share: number
  /** What it holds: `NAME` for a weight, `NAME.m` and so on for its state; zeros at first unless `like` a weight. */
  readonly parts: readonly {
    readonly key: string
    readonly shape: readonly number[]
    readonly at: number
    readonly like: string | null
  }[]
}

/** One ONNX network with the names of what goes in and comes out. */
export interface Stage {
  readonly onnx: Uint8Array
  readonly inputs: readonly { name: string; shape: readonly Dim[] }[]
  /** State that is replaced: input `key`, output `next key`. */
  readonly state: readonly string[]
  /** Bytes of the values it makes, at the moment when there are most. */
  readonly working: number
}

/** One replica's part of a step: the mean of all replicas' gradients for its slots, and their update. */
export interface Share {
  /** Outputs `mean SLOT` and the sum of their squares. */
  readonly mean: Stage
  /** Outputs the new state, and each new weight once more as `sent SLOT` for the other replicas. */
  readonly step: Stage
}

/** The graphs of training: one that does it all, or one per batch and one per step. */
export interface StepGraphs {
  readonly slots: readonly Slot[]
  readonly batch: Stage | null
  readonly step: Stage
  /** What each of several replicas does after its batch; empty where there is one, null for one without slots. */
  readonly shares: readonly (Share | null)[]
  /** Largest norm of the gradients, which replicas find together. */
  readonly clip: number | null
  /** Names of the probes, and the graph of one, made when first asked for. */
  readonly probes: ReadonlySet<string>
  probe(name: string): Stage
  /** The graph of a batch for another loss of the same parameters: of other sizes. */
  variant(objective: Pick<Objective, "loss" | "metrics">): Stage
  /** Keys of the weights among the slots, which a probe may read from an average instead. */
  readonly weights: readonly string[]
}

export const next = (key: string): string => `next ${key}`
/** Before the slot's key: an output of a replica's batch. */
export const found = "gradient "
/** Before the slot's key: mean of the replicas' gradients, and a new weight on its way to the others. */
export const [mean, sent] = ["mean ", "sent "]
/** Gradient of a slot that another replica found. */
export const gradientOf = (key: string, i: number): string => `${found}${i} ${key}`
const knob = (name: string): string => `knob ${name}`
/** Factor by which replicas clip their gradients, an input of their steps. */
export const clipping = knob("clipping")
export const average = (i: number): string => `average ${i}`

/** Gradients, clipping by their global norm (Pascanu et al. 2013), update and moving averages as one or two graphs. */
export function stepGraphs(objective: Objective, options: StepOptions): StepGraphs {
  const units = unitsOf(objective, options)
  const accumulate = options.accumulate ?? 1
  const slots = slotsOf(units, options)
  const write = (outputs: Readonly<Record<string, Tensor>>) => stage(outputs, units, options)
  const probes = options.probes ?? {}
  const made = new Map<string, Stage>()
  const rest = {
    shares: [] as readonly (Share | null)[],
    clip: options.clip ?? null,
    weights: units.map((u) => u.key),
    probes: new Set(Object.keys(probes)),
    probe(name: string) {
      if (!made.has(name)) made.set(name, write(resolved(probes[name]!)))
      return made.get(name)!
    },
  }
  const whole = ({ loss, metrics }: Pick<Objective, "loss" | "metrics">) =>
    write({ loss, ...metrics, ...updates(units, unitGradients(loss, units, options), options) })
  if ((options.replicas ?? 1) > 1) return { slots, ...rest, ...replicated(objective, units, options) }
  if (accumulate === 1) return { slots, batch: null, step: whole(objective), variant: whole, ...rest }
  const sums = units.map(({ key, shape }) => input(`${key}.sum`, shape))
  const each = (of: (sum: Tensor, i: number) => Tensor) =>
    Object.fromEntries(units.map(({ key }, i) => [next(`${key}.sum`), of(sums[i]!, i)]))
  const part = ({ loss, metrics }: Pick<Objective, "loss" | "metrics">) => {
    const grads = unitGradients(loss, units, options)
    return write({ loss, ...metrics, ...each((sum, i) => sum.add(grads[i]!.mul(1 / accumulate))) })
  }
  const step = { ...updates(units, sums, options), ...each((sum) => sum.mul(0)) }
  return {
    slots: [...slots, ...units.map((u) => slot(u, "sum", u.shape, false))],
    batch: part(objective),
    step: write(step),
    variant: part,
    ...rest,
  }
}

/** One replica's gradients by slot, and the update of every replica's share of the slots. */
function replicated(
  objective: Objective,
  units: readonly Unit[],
  options: StepOptions,
): Pick<StepGraphs, "batch" | "step" | "variant" | "shares"> {
  const { replicas = 1 } = options
  const variant = ({ loss, metrics }: Pick<Objective, "loss" | "metrics">) => {
    const grads = unitGradients(loss, units, options)
    const bySlot = Object.fromEntries(units.map(({ key }, i) => [found + key, grads[i]!]))
    return stage({ loss, ...metrics, ...bySlot }, units, options)
  }
  const shares = Array.from({ length: replicas }, (_, i) => share(i, units, options))
  return { batch: variant(objective), step: shares.find((s) => s !== null)!.step, variant, shares }
}

function share(index: number, units: readonly Unit[], options: StepOptions): Share | null {
  const { replicas = 1 } = options
  const own = units.filter((u) => u.share === index)
  if (own.length === 0) return null
  const others = Array.from({ length: replicas }, (_, i) => i).filter((i) => i !== index)
  const means = own.map(({ key, shape }) => {
    const each = [found + key, ...others.map((i) => gradientOf(key, i))].map((name) => input(name, shape))
    return each.reduce((a, b) => a.add(b)).mul(1 / replicas)
  })
  const named = Object.fromEntries(own.map(({ key }, i) => [mean + key, means[i]!]))
  const factor = options.clip == null ? null : input(clipping, [])
  const grads = own.map(({ key, shape }) => input(mean + key, shape))
  const after = update(own, grads, factor, options)
  const copies = Object.fromEntries(own.map(({ key }) => [sent + key, after[next(key)]!]))
  return {
    mean: stage({ squares: squares(means), ...named }, units, options),
    step: stage({ ...after, ...copies }, units, options),
  }
}

/** Outputs of a probe, or what makes them when they are first needed. */
export type ProbeOutputs = Readonly<Record<string, Tensor>> | (() => Readonly<Record<string, Tensor>>)
const resolved = (outputs: ProbeOutputs) => (typeof outputs === "function" ? outputs() : outputs)

/** Below this many numbers a parameter is joined with others, up to the second number in all. */
const [small, joint] = [16384, 262144]
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

function unitsOf(
  { parameters }: Objective,
  { optimizer, scale = () => 1, replicas = 1 }: StepOptions,
): Unit[] {
  const alone: Unit[] = []
  const open = new Map<number, { unit: Unit; members: Unit["members"][number][]; size: number }>()
  let count = 0
  for (const [name, tensor] of parameters) {
    const shape = tensor.shape as number[]
    const rate = scale(name)
    if (!optimizer.elementwise || sizeOf(shape) >= small) {
      // flat: onnxruntime walks shapes that end in ones number by number
      const flat = optimizer.elementwise ? [sizeOf(shape)] : shape
      alone.push({ key: name, share: 0, shape: flat, scale: rate, members: [{ name, tensor, at: 0 }] })
      continue
    }
    let group = open.get(rate)
    if (!group || group.size >= joint) {
      const members: Unit["members"][number][] = []
      group = {
        unit: { key: `joint ${count++}`, share: 0, shape: [0], scale: rate, members },
        members,
        size: 0,
      }
      open.set(rate, group)
      alone.push(group.unit)
    }
    group.members.push({ name, tensor, at: group.size })
    group.size += sizeOf(shape)
  }
  const total = (u: Unit) => u.members.reduce((n, m) => n + sizeOf(m.tensor.shape as number[]), 0)
  return shared(
    alone.map((u) => (u.shape[0] === 0 ? { ...u, shape: [total(u)] } : u)),
    replicas,
  )
}

/** Each unit goes to the replica that has least so far, the largest first. */
function shared(units: readonly Unit[], replicas: number): Unit[] {
  const load = Array.from({ length: replicas }, () => 0)
  const share = new Map<Unit, number>()
  for (const unit of [...units].sort((a, b) => sizeOf(b.shape) - sizeOf(a.shape))) {
    const least = load.indexOf(Math.min(...load))
    load[least]! += sizeOf(unit.shape)
    share.set(unit, least)
  }
  return units.map((u) => ({ ...u, share: share.get(u)! }))
}

function unitGradients(loss: Tensor, units: readonly Unit[], { recompute }: StepOptions): Tensor[] {
  const grads = gradients(
    loss,
    units.flatMap((u) => u.members.map((m) => m.tensor)),
    { recompute },
  )
  return units.map(({ members, shape }) => {
    const own = grads.splice(0, members.length)
    return members.length === 1
      ? own[0]!.reshape(shape)
      : concat(
          own.map((g) => g.reshape([-1])),
          0,
        )
  })
}

function slot(unit: Unit, name: string, shape: readonly number[], asWeight: boolean): Slot {
  const suffix = name === "" ? "" : `.${name}`
  const whole = sizeOf(shape) === sizeOf(unit.shape)
  const parts = unit.members.map((m) => ({
    key: `${m.name}${suffix}`,
    shape: whole ? (m.tensor.shape as number[]) : shape,
    at: m.at,
    like: asWeight ? m.name : null,
  }))
  return { key: `${unit.key}${suffix}`, shape, share: unit.share, parts }
}

const slotsOf = (units: readonly Unit[], { optimizer, averages = 0 }: StepOptions): Slot[] =>
  units.flatMap((u) => [
    slot(u, "", u.shape, true),
    ...optimizer.slots(u.shape).map((s) => slot(u, s.name, s.shape, false)),
    ...Array.from({ length: averages }, (_, i) => slot(u, average(i), u.shape, true)),
  ])

const squares = (grads: readonly Tensor[]): Tensor => {
  const each = grads.map((g) =>
    g
      .square()
      .sum([...g.shape.keys()])
      .reshape([1]),
  )
  return concat(each, 0).sum([0])
}

function updates(
  units: readonly Unit[],
  grads: readonly Tensor[],
  options: StepOptions,
): Record<string, Tensor> {
  const norm = squares(grads).sqrt()
  const factor = options.clip == null ? null : scalar(options.clip).div(norm.add(clipEps)).min(1)
  return { norm, ...update(units, grads, factor, options) }
}

const clipEps = 1e-6
/** What gradients of this norm are multiplied by. */
export const clipFactor = (clip: number, norm: number): number => Math.min(1, clip / (norm + clipEps))

/** New state of the units from their gradients times `factor`. */
function update(
  units: readonly Unit[],
  grads: readonly Tensor[],
  factor: Tensor | null,
  { optimizer, averages = 0 }: StepOptions,
): Record<string, Tensor> {
  const knobs = Object.fromEntries(
    Object.keys(optimizer.knobs(1, 1)).map((name) => [name, input(knob(name), [])]),
  )
  const out: Record<string, Tensor> = {}
  units.forEach(({ key, shape, scale }, i) => {
    const p = input(key, shape)
    const slots = optimizer.slots(shape)
    const before = slots.map((s) => input(`${key}.${s.name}`, s.shape))
    const g = factor ? grads[i]!.mul(factor) : grads[i]!
    const { value, slots: after } = optimizer.update(p, g, before, knobs, scale)
    out[next(key)] = value
    slots.forEach((s, n) => {
      out[next(`${key}.${s.name}`)] = after[n]!
    })
    for (let n = 0; n < averages; n++) {
      const old = input(`${key}.${average(n)}`, shape)
      out[next(`${key}.${average(n)}`)] = old.add(value.sub(old).mul(input(knob(average(n)), [])))
    }
  })
  return out
}

/** Parameters become inputs, convolutions take their training forms, and the graph is written. */
function stage(
  outputs: Readonly<Record<string, Tensor>>,
  units: readonly Unit[],
  options: StepOptions,
): Stage {
  const learned = new Map(units.flatMap((u) => u.members.map((m) => [m.name, weightOf(u, m)])))
  const value = (node: Tensor): Tensor => {
    const name = options.aliases?.get(nameOf(node)) ?? nameOf(node)
    return learned.get(name) ?? (options.held?.has(name) ? input(name, node.shape) : node)
  }
  const open = rewrite({ outputs }, (node) => (node.op === "param" ? value(node) : node))
  const graph = shareEqual(mergeLayouts(lowerConvolutions(shareEqual(open), options.block)))
  const keys = Object.keys(outputs).filter((name) => name.startsWith("next "))
  return {
    onnx: toOnnx(graph, options.frozen),
    inputs: inputsOf(graph),
    state: keys.map((name) => name.slice("next ".length)),
    working: workingBytes(graph),
  }
}

function weightOf(unit: Unit, { name, tensor, at }: Unit["members"][number]): Tensor {
  const shape = tensor.shape as number[]
  if (unit.key === name) return input(name, unit.shape).reshape(shape)
  return input(unit.key, unit.shape)
    .slice(0, at, at + sizeOf(shape))
    .reshape(shape)
}

const inputsOf = (graph: Graph): { name: string; shape: readonly Dim[] }[] =>
  graphNodes(graph)
    .filter((n) => n.op === "input")
    .map((n) => ({ name: nameOf(n), shape: n.shape }))

/** Values of a step's knobs by input name: the optimiser's, and the averages' shares of the new weights. */
export function knobValues(
  optimizer: Optimizer,
  step: number,
  rate: number,
  shares: readonly number[],
): Record<string, number> {
  const own = Object.entries(optimizer.knobs(step, rate)).map(([name, v]) => [knob(name), v])
  return Object.fromEntries([...own, ...shares.map((v, i) => [knob(average(i)), v])])
}

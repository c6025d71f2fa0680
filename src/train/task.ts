import type { StoredTensor } from "../graph/index.ts"
import type { Picture } from "../image/pixels.ts"
import type { Engine, Value } from "../runtime/engine.ts"
import type { Optimizer } from "./optimizer.ts"
import type { Objective, ProbeOutputs, StepGraphs } from "./step.ts"

export type Inputs = Readonly<Record<string, Value>>

/** Runs one of a task's `probes` on the current weights, or on those of a moving average. */
export type Probe = (name: string, inputs: Inputs, average: number | null) => Promise<Record<string, Value>>

/**
 * One training: a pure function of its settings. Batches are made from their number alone, so a run that was killed
 * goes on with the very numbers it would have seen.
 */
export interface Task {
  readonly name: string
  /** Everything that determines the numbers; a checkpoint of other settings is refused. */
  readonly settings: unknown
  readonly objective: Objective
  readonly optimizer: Optimizer
  readonly steps: number
  /** Pictures or captions per step, for the report. */
  readonly samplesPerStep: number
  readonly clip: number | null
  readonly accumulate?: number
  /** Copies of the network that share every batch, 1; `objective` is then the loss of one copy's rows. */
  readonly replicas?: number
  /** Make values again on the way back instead of keeping them. */
  readonly recompute?: boolean
  /** Rate at a step, counted from 1. */
  readonly rate: (step: number) => number
  /** Learning rate of a parameter relative to the others'. */
  readonly scale?: (name: string) => number
  /** Decays of the moving averages. */
  readonly averages: readonly number[]
  readonly frozen?: ReadonlyMap<string, StoredTensor>
  /** Values of parameters that are not learned and that the engine holds once for all graphs. */
  readonly held?: ReadonlyMap<string, StoredTensor>
  /** Parameters that stand for the value of a learned one without being learned. */
  readonly aliases?: ReadonlyMap<string, string>
  /** For batches of several sizes: the size of a batch by its name, and the loss of a size; `objective` is one of them. */
  readonly sizes?: {
    readonly first: string
    of(index: number): string
    loss(name: string): Pick<Objective, "loss" | "metrics">
  }
  first(): Map<string, Float32Array> | Promise<Map<string, Float32Array>>
  /** Inputs of batch `index`, counted from 0. */
  batch(index: number): Inputs | Promise<Inputs>
  /** Other results of the same weights: outputs by name, for validation and samples. */
  readonly probes?: Readonly<Record<string, ProbeOutputs>>
  validate?(probe: Probe): Promise<Record<string, number>>
  sample?(probe: Probe): Promise<Picture>
}

export interface RunOptions {
  /** Holds checkpoints, log, samples and report. */
  readonly folder: string
  /** Steps between checkpoints, validations and samples; `log` divides `checkpoint`. */
  readonly every: {
    readonly checkpoint: number
    readonly log: number
    readonly validate: number
    readonly sample: number
  }
  readonly keep?: number
  readonly threads?: number
  /** Makes an engine for each replica. */
  readonly helper?: () => Engine
  /** The task's graphs, where they are made already. */
  readonly graphs?: StepGraphs
  readonly signal?: AbortSignal
}

/** What the caller sees of a step. */
export interface TrainStep {
  readonly step: number
  readonly steps: number
  readonly loss: number
  readonly rate: number
  readonly samplesPerSecond: number
  /** Of the whole rest, at the present speed. */
  readonly secondsLeft: number
}

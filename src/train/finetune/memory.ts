import type { StepGraphs } from "../step.ts"
import type { Task } from "../task.ts"

/** Bytes that a training will need, by what for. */
export interface MemoryEstimate {
  /** Numbers that are learned. */
  readonly parameters: number
  /** Weights that are not learned. */
  readonly held: number
  /** Learned weights, optimiser and averages, twice: a step writes to the other half. */
  readonly state: number
  /** Activations and gradients of one batch. */
  readonly working: number
  /** All of it, with the engine and a checkpoint on its way to the disk. */
  readonly total: number
}

/** The engine, Node, and what a data set's pictures pass through. */
const base = 250 * 2 ** 20

/**
 * What a training will need, from its graphs alone: what is kept is counted exactly, what a batch takes by the order of
 * its nodes, so the engine's own choices can move it.
 */
export function estimateMemory(task: Task, { slots, batch, step }: StepGraphs): MemoryEstimate {
  const size = (shape: readonly unknown[]) => shape.reduce<number>((n, d) => n * Number(d), 4)
  const names = new Set([...(batch ?? step).inputs].map((i) => i.name))
  const held = [...(task.held ?? [])].reduce((n, [name, t]) => n + (names.has(name) ? size(t.shape) : 0), 0)
  const slotted = slots.reduce((n, s) => n + size(s.shape), 0)
  const parameters = [...task.objective.parameters.values()].reduce((n, p) => n + size(p.shape) / 4, 0)
  const working = Math.max(batch?.working ?? 0, step.working)
  return { parameters, held, state: 2 * slotted, working, total: base + held + 3 * slotted + working }
}

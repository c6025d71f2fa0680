import { mkdtemp, rm } from "node:fs/promises"
import { join } from "node:path"
import type { Contender } from "./bench-peers.ts"
import { type Command, Resident, runToEnd } from "./bench-process.ts"

export interface BenchSettings {
  readonly model: string
  readonly prompt: string
  readonly sizes: readonly number[]
  readonly steps: number
  readonly repeats: number
  /** Folder for pictures. */
  readonly scratch: string
}

/** What was measured: numbers by measure and contender, in seconds or bytes, one per repeat. */
export type Figures = Map<string, { unit: "s" | "bytes"; by: Map<string, number[]> }>

type Tell = (what: string) => void

/**
 * Measures all contenders in turns: repeat by repeat, one after the other, so that a busy minute of the machine falls
 * on all of them. The first round of each measure warms up page caches and is not counted.
 */
export async function measure(
  contenders: readonly Contender[],
  settings: BenchSettings,
  tell: Tell,
): Promise<Figures> {
  const figures: Figures = new Map()
  await measureWork(contenders, settings, note(figures, tell), tell)
  await measureStarts(contenders, settings, note(figures, tell), tell)
  await measureCommands(contenders, settings, note(figures, tell), tell)
  return figures
}

type Note = (measure: string, unit: "s" | "bytes", who: string, value: number | undefined) => void

/** Keeps a figure, and tells it at once: a run takes a quarter of an hour. */
const note =
  (figures: Figures, tell: Tell): Note =>
  (name, unit, who, value) => {
    if (value === undefined) return
    tell(`${who}: ${name}: ${unit === "s" ? `${value.toFixed(2)} s` : `${(value / 2 ** 30).toFixed(2)} GB`}`)
    const row = figures.get(name) ?? { unit, by: new Map<string, number[]>() }
    row.by.set(who, [...(row.by.get(who) ?? []), value])
    figures.set(name, row)
  }

/** Steps and decodes of processes that stay, and the memory they hold when both have been done. */
async function measureWork(
  contenders: readonly Contender[],
  { model, prompt, sizes, repeats }: BenchSettings,
  put: Note,
  tell: Tell,
): Promise<void> {
  const residents = contenders.map((c) => ({ who: c.name, process: new Resident(c.serve(model, prompt)) }))
  try {
    for (const { process } of residents) await process.versions()
    for (const size of sizes) {
      for (let round = 0; round <= repeats; round++) {
        for (const { who, process } of residents) {
          tell(`${who}: step and decode at ${size}, ${round === 0 ? "warm-up" : `${round} of ${repeats}`}`)
          const step = await process.ask(`step ${size}`)
          const decode = await process.ask(`decode ${size}`)
          if (round === 0) continue
          put(`guided step, ${size}x${size}`, "s", who, step)
          put(`VAE decode, ${size}x${size}`, "s", who, decode)
        }
      }
      for (const { who, process } of residents)
        put(`memory after steps and decodes, ${size}x${size}`, "bytes", who, process.memory("VmRSS"))
    }
  } finally {
    for (const { process } of residents) await process.end()
  }
}

/** From process start until the first step is done, and less one such step: until it began. */
async function measureStarts(
  contenders: readonly Contender[],
  { model, prompt, sizes, repeats, scratch }: BenchSettings,
  put: Note,
  tell: Tell,
): Promise<void> {
  const size = sizes[0]!
  const once = async (who: string, command: Command, measures: [done: string, begun: string]) => {
    const process = new Resident(command)
    try {
      const first = await process.versions().then(() => process.ask(`step ${size}`))
      const done = process.age
      const step = await process.ask(`step ${size}`)
      put(measures[0], "s", who, done)
      put(measures[1], "s", who, Math.max(done - Math.min(first, step), 0))
    } finally {
      await process.end()
    }
  }
  for (let round = 0; round < repeats; round++)
    for (const contender of contenders) {
      tell(`${contender.name}: start, ${round + 1} of ${repeats}`)
      const command = contender.serve(model, prompt)
      await once(contender.name, command, ["start to first step done", "start to first step begun"])
      if (!command.env?.XDG_CACHE_HOME) continue
      // weights are read through once when a model is seen for the first time
      const empty = await mkdtemp(join(scratch, "cache-"))
      const unseen = { ...command, env: { ...command.env, XDG_CACHE_HOME: empty } }
      await once(contender.name, unseen, [
        "start to first step done, unseen model",
        "start to first step begun, unseen model",
      ])
      await rm(empty, { recursive: true })
    }
}

/** The whole command: from process start to the picture on disk, and its largest memory. */
async function measureCommands(
  contenders: readonly Contender[],
  { model, prompt, sizes, steps, repeats, scratch }: BenchSettings,
  put: Note,
  tell: Tell,
): Promise<void> {
  const size = sizes[0]!
  for (let round = 0; round < repeats; round++)
    for (const contender of contenders) {
      tell(`${contender.name}: whole command, ${round + 1} of ${repeats}`)
      const out = join(scratch, `${contender.name}.png`)
      const { seconds, peak } = await runToEnd(contender.draw({ model, prompt, size, steps, out }))
      put(`command to PNG, ${steps} steps, ${size}x${size}`, "s", contender.name, seconds)
      put(`largest memory of that command`, "bytes", contender.name, peak)
    }
}

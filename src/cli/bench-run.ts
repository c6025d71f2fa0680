import { mkdtemp, rm } from "node:fs/promises"
import { join } from "node:path"
import type { Contender } from "./bench-peers.ts"
import { type Command, Resident, runToEnd } from "./bench-process.ts"

export interface BenchSettings {
  readonly model: string
  readonly prompt: string
  readonly sizes: readonly number[]
  /** Pictures drawn at once, of the first size, whose steps are measured. */
  readonly batches: readonly number[]
  readonly steps: number
  readonly cfg: number
  readonly repeats: number
  readonly parts: readonly Part[]
  /** Folder for pictures. */
  readonly scratch: string
}

/** What can be measured: work of processes that stay, starts, whole commands. */
export const parts = ["work", "starts", "commands"] as const
export type Part = (typeof parts)[number]

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
  const measures = { work: measureWork, starts: measureStarts, commands: measureCommands }
  for (const part of parts)
    if (settings.parts.includes(part)) await measures[part](contenders, settings, note(figures, tell), tell)
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
  settings: BenchSettings,
  put: Note,
  tell: Tell,
): Promise<void> {
  const { model, prompt, sizes, repeats, batches } = settings
  const residents = contenders.map((c) => ({ who: c.name, process: new Resident(c.serve(model, prompt)) }))
  const inTurns = async (measures: readonly (readonly [name: string, line: string])[]) => {
    for (let round = 0; round <= repeats; round++)
      for (const { who, process } of residents)
        for (const [name, line] of measures) {
          tell(`${who}: ${name}, ${round === 0 ? "warm-up" : `${round} of ${repeats}`}`)
          const taken = await process.ask(line)
          if (round > 0) put(name, "s", who, taken)
        }
  }
  try {
    for (const { process } of residents) await process.versions()
    for (const size of sizes) {
      const side = `${size}x${size}`
      await inTurns([
        [`guided step, ${side}`, `step ${size} 1`],
        [`VAE decode, ${side}`, `decode ${size}`],
      ])
      for (const { who, process } of residents)
        put(`memory after steps and decodes, ${side}`, "bytes", who, process.memory("VmRSS"))
    }
    for (const batch of batches)
      await inTurns([[`guided step of ${batch}, ${sizes[0]}x${sizes[0]}`, `step ${sizes[0]} ${batch}`]])
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
      const first = await process.versions().then(() => process.ask(`step ${size} 1`))
      const done = process.age
      const step = await process.ask(`step ${size} 1`)
      put(measures[0], "s", who, done)
      put(measures[1], "s", who, Math.max(done - Math.min(first ?? done, step ?? done), 0))
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
  { model, prompt, sizes, steps, cfg, repeats, scratch }: BenchSettings,
  put: Note,
  tell: Tell,
): Promise<void> {
  const size = sizes[0]!
  const name = `command to PNG, ${steps} steps${cfg > 1 ? "" : " of one row"}, ${size}x${size}`
  for (let round = 0; round < repeats; round++)
    for (const contender of contenders) {
      tell(`${contender.name}: whole command, ${round + 1} of ${repeats}`)
      const out = join(scratch, `${contender.name}.png`)
      const { seconds, peak } = await runToEnd(contender.draw({ model, prompt, size, steps, cfg, out }))
      put(name, "s", contender.name, seconds)
      put(`largest memory of that command`, "bytes", contender.name, peak)
    }
}

import { type Command, Option } from "commander"
import type { TrainKind, TrainSettings } from "../training.ts"
import { sharedRows } from "./train-rows.ts"
import { kindRows } from "./train-rows-kinds.ts"

const rows = [...sharedRows, ...kindRows]

/** Adds a kind's options, each with its default in the help. */
export function addOptions(command: Command, kind: TrainKind, defaults: TrainSettings): void {
  for (const row of rows) {
    if (row.kinds && !row.kinds.includes(kind)) continue
    const value = defaults[row.key]
    const plain = typeof value === "string" || typeof value === "number" ? String(value) : ""
    const shown = row.text.includes("(default:")
      ? ""
      : ` (default: ${plain === "" ? (row.absent ?? "none") : plain})`
    const option = new Option(row.flag, `${row.text}${shown}`)
    if (row.choices) option.choices([...row.choices])
    else if (row.parse) option.argParser(row.parse as (text: string, before: unknown) => unknown)
    command.addOption(option)
  }
}

/** The settings among parsed flags: fields by the names commander gives their flags. */
export function settingsFrom(flags: Readonly<Record<string, unknown>>): Partial<TrainSettings> {
  const found = rows.map(({ key, flag }) => {
    const long = /--([a-z0-9-]+)/.exec(flag)![1]!.replace(/^no-/, "")
    return [key, flags[long.replace(/-([a-z0-9])/g, (_, c: string) => c.toUpperCase())]] as const
  })
  return Object.fromEntries(found.filter(([, v]) => v !== undefined)) as Partial<TrainSettings>
}

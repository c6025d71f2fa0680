import { readFile, writeFile } from "node:fs/promises"
import { AquatintError, type Examination } from "../index.ts"
import type { Figures } from "./bench-run.ts"

export interface Row {
  measure: string
  unit: "s" | "bytes"
  /** By contender: minimum and median over the repeats, and its median over aquatint's. */
  results: Record<string, { min: number; median: number; ratio: number | null }>
}

export interface BenchReport {
  when: string
  machine: Examination["machine"]
  versions: Record<string, string>
  model: string
  command: string
  repeats: number
  /** Processes that wanted a core when the run began, of this many cores. */
  load: { before: number; cores: number }
  rows: Row[]
  /** Peers that were asked for and could not be measured, with the reason. */
  missing: Record<string, string>
}

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}

export function rowsOf(figures: Figures): Row[] {
  return [...figures].map(([measure, { unit, by }]) => {
    const own = by.get("aquatint")
    const results = [...by].map(([who, values]) => {
      const middle = median(values)
      return [
        who,
        { min: Math.min(...values), median: middle, ratio: own ? middle / median(own) : null },
      ] as const
    })
    return { measure, unit, results: Object.fromEntries(results) }
  })
}

const show = (value: number, unit: Row["unit"]) =>
  unit === "s" ? `${value.toFixed(value < 10 ? 2 : 1)} s` : `${(value / 2 ** 30).toFixed(2)} GiB`

/** The report as Markdown. */
export function markdown(report: BenchReport): string {
  const names = [...new Set(report.rows.flatMap(({ results }) => Object.keys(results)))]
  const cells = (row: Row) =>
    names.map((name) => {
      const found = row.results[name]
      if (!found) return ""
      const ratio = name === "aquatint" || found.ratio === null ? "" : `, **${found.ratio.toFixed(2)}x**`
      return `${show(found.min, row.unit)} / ${show(found.median, row.unit)}${ratio}`
    })
  const { machine, load } = report
  const busy = load.before > load.cores / 2
  const versions = Object.entries(report.versions).map(([name, v]) => `${name} ${v}`)
  const lines = [
    `${report.when.slice(0, 10)}, ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGb} GB, ${machine.platform} ${machine.arch}; ${versions.join(", ")}.`,
    `Model: ${report.model}. Rounds in turns: ${report.repeats}. \`${report.command}\``,
    ...(busy
      ? [`The machine was busy: load ${load.before.toFixed(1)} before the run. Do not trust these figures.`]
      : []),
    "",
    `| minimum / median | ${names.join(" | ")} |`,
    `| --- |${" --- |".repeat(names.length)}`,
    ...report.rows.map((row) => `| ${row.measure} | ${cells(row).join(" | ")} |`),
    "",
    "A ratio is the peer's median over aquatint's: above 1, aquatint is faster or smaller.",
    ...Object.entries(report.missing).map(([name, why]) => `${name} was not measured: ${why}.`),
  ]
  return `${lines.join("\n")}\n`
}

const [begin, end] = ["<!-- bench:begin -->", "<!-- bench:end -->"]

/** Puts the report between the marks of a Markdown file. @throws BENCH_MARKS when it has none */
export async function writeInto(path: string, report: BenchReport): Promise<void> {
  const text = await readFile(path, "utf8").catch(() => "")
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from)
    throw new AquatintError("BENCH_MARKS", `${path} has no lines ${begin} and ${end}`, {
      hint: "add both lines where the figures belong",
      file: path,
    })
  await writeFile(path, `${text.slice(0, from + begin.length)}\n${markdown(report)}${text.slice(to)}`)
}

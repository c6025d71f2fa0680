import { fail } from "../../errors.ts"
import { writeWhole } from "../checkpoint.ts"
import { type Dataset, reportPath } from "./dataset.ts"
import type { Problem } from "./entry.ts"

export type OnBad = "skip" | "stop"

/** Writes what was wrong with a data set to `data-report.json` in a folder. */
export async function writeDataReport(
  folder: string,
  data: Dataset,
  problems: readonly Problem[],
): Promise<void> {
  const report = { dataset: data.path, used: data.items.length, bad: problems.length, problems }
  await writeWhole(reportPath(folder), `${JSON.stringify(report, null, 2)}\n`)
}

/** Bad entries as the caller chose: they are left out, or nothing begins. @throws DATA_BAD */
export function judge(problems: readonly Problem[], onBad: OnBad, path: string): void {
  if (onBad === "skip" || problems.length === 0) return
  const shown = problems.slice(0, 8).map((p) => `  → ${p.where}: ${p.code}: ${p.what}`)
  const more = problems.length > 8 ? [`  → and ${problems.length - 8} more`] : []
  fail("DATA_BAD", [`${path} has ${problems.length} bad entries`, ...shown, ...more].join("\n"), {
    file: path,
    hint: "mend them, or leave them out with --on-bad skip",
    details: { problems },
  })
}

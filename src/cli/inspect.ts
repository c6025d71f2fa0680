import type { Command } from "commander"
import { inspect, textReport } from "../index.ts"
import { clean } from "./errors.ts"

/** Adds `inspect`: what a model file or folder is, from its headers. */
export function addInspect(top: Command): void {
  top
    .command("inspect")
    .description("tell what a model file or folder is, from its headers alone")
    .argument("<path>", "model file or folder")
    .option("--json", "print one JSON object and nothing else (default: off)")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(async (path: string, options: { json?: boolean }) => {
      const found = await inspect(path)
      process.stdout.write(options.json ? `${JSON.stringify(found)}\n` : `${clean(textReport(found))}\n`)
    })
}

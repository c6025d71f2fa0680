import type { Command } from "commander"
import { examine } from "../index.ts"

/** Adds `doctor`: the machine, the devices that work and why others do not. */
export function addDoctor(top: Command): void {
  top
    .command("doctor")
    .description("tell what this machine can do: devices that work, and why others do not")
    .option("--json", "print one JSON object and nothing else (default: off)")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(async (options: { json?: boolean }) => {
      const found = await examine()
      if (options.json) return void process.stdout.write(`${JSON.stringify(found)}\n`)
      const { machine, devices, chosen } = found
      const lines = [
        `${machine.platform} ${machine.arch}, ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGb} GB (${machine.freeGb} free), Node ${machine.node}`,
        ...devices.map((d) => `${d.works ? "✓" : "✗"} ${d.device.padEnd(7)} ${d.detail}`),
        `runs on ${chosen.device}: ${chosen.reason}`,
      ]
      process.stdout.write(`${lines.join("\n")}\n`)
    })
}

import { type Command, Option } from "commander"
import { type ConvertOptions, type ConvertResult, convert } from "../index.ts"
import { clean } from "./errors.ts"

interface Flags {
  dtype?: NonNullable<ConvertOptions["dtype"]>
  force?: boolean
  json?: boolean
}

/** Adds `convert`: between single files, folders and pickled checkpoints. */
export function addConvert(top: Command): void {
  top
    .command("convert")
    .description(
      "convert between single files, diffusers folders and pickled checkpoints, which are read as data",
    )
    .argument(
      "<source>",
      "model file (.safetensors, .ckpt, .pt, .pth, .bin), diffusers folder, or built-in name",
    )
    .argument(
      "<destination>",
      "a name ending in .safetensors is one file in LDM keys, any other a diffusers folder",
    )
    .addOption(
      new Option("--dtype <type>", "type of float tensors (default: each keeps its own)").choices([
        "fp32",
        "fp16",
        "bf16",
      ]),
    )
    .option("--force", "replace what stands at the destination (default: off)")
    .option("--json", "print one JSON object and nothing else (default: off)")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(run)
}

async function run(source: string, destination: string, flags: Flags): Promise<void> {
  const began = performance.now()
  const conversion = convert(source, destination, { dtype: flags.dtype, force: flags.force })
  if (process.stderr.isTTY) await show(conversion)
  const result = await conversion
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(result)}\n`)
    return
  }
  process.stdout.write(`${clean(line(result, (performance.now() - began) / 1000))}\n`)
  for (const note of result.notes) process.stderr.write(`  note: ${clean(note)}\n`)
}

const size = (bytes: number) =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`

function line({ path, format, family, tensors, bytes }: ConvertResult, seconds: number): string {
  const kind = [family === "unknown" ? "" : family, format].filter(Boolean).join(" ")
  return `${path}: ${kind}, ${tensors} tensors, ${size(bytes)} in ${seconds.toFixed(1)} s`
}

/** One line on the terminal, at most ten times a second. */
async function show(conversion: ReturnType<typeof convert>): Promise<void> {
  let last = 0
  try {
    for await (const step of conversion) {
      const now = performance.now()
      if (now - last < 100) continue
      last = now
      const percent = Math.round(step.progress * 100)
      process.stderr.write(`\r\x1b[2K${step.phase} ${percent}% of ${size(step.total)}  ${clean(step.file)}`)
    }
  } finally {
    if (last > 0) process.stderr.write("\r\x1b[2K")
  }
}

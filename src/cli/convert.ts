import { type Command, Option } from "commander"
import {
  AquatintError,
  adapterDialects,
  type ConvertOptions,
  type ConvertResult,
  convert,
  type LoraRequest,
  type Strength,
} from "../index.ts"
import { lora } from "./adapters.ts"
import { clean } from "./errors.ts"

interface Flags {
  keys?: NonNullable<ConvertOptions["keys"]>
  dtype?: NonNullable<ConvertOptions["dtype"]>
  lora?: LoraRequest[]
  merge?: { with: string; weight?: number }
  difference?: string
  blockWeights?: number[]
  extract?: string
  rank?: number
  convRank?: number
  force?: boolean
  json?: boolean
}

/** Adds `convert`: between single files, folders and pickled checkpoints. */
export function addConvert(top: Command): void {
  addEdits(top.command("convert"))
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
      new Option(
        "--dtype <type>",
        "type of float tensors; int8: codes for the U-Net's wide layers, the rest fp16 (default: each keeps its own)",
      ).choices(["fp32", "fp16", "bf16", "int8"]),
    )
    .addOption(
      new Option("--keys <dialect>", "a LoRA's keys become this program's (default: as they are)").choices(
        adapterDialects,
      ),
    )
    .option("--force", "replace what stands at the destination (default: off)")
    .option("--json", "print one JSON object and nothing else (default: off)")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(run)
}

/** What can be done to the weights on their way. */
function addEdits(command: Command): Command {
  return command
    .option("--lora <path[=weight]>", "make an adapter part of the weights (repeatable; default: none)", lora)
    .option(
      "--merge <model[=weight]>",
      "mix another model in: (1 - weight) source + weight other (default: 0.5)",
      mixture,
    )
    .option("--difference <model>", "with --merge: source + weight (other - this model) (default: none)")
    .option(
      "--block-weights <list>",
      "with --merge: 25 numbers for the U-Net's blocks (SDXL: 19); the weight of --merge is the other parts' (default: one weight)",
      numbers,
    )
    .option("--extract <base>", "write a LoRA of what the source has beyond this model (default: off)")
    .option("--rank <n>", "with --extract: rank of linear layers (default: 16)", number)
    .option("--conv-rank <n>", "with --extract: rank of larger convolutions (default: left out)", number)
}

async function run(source: string, destination: string, flags: Flags): Promise<void> {
  const began = performance.now()
  const conversion = convert(source, destination, asked(flags))
  if (process.stderr.isTTY) await show(conversion)
  const result = await conversion
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(result)}\n`)
    return
  }
  process.stdout.write(`${clean(line(result, (performance.now() - began) / 1000))}\n`)
  for (const note of result.notes) process.stderr.write(`  note: ${clean(note)}\n`)
}

function asked(flags: Flags): ConvertOptions {
  const { dtype, force, merge, difference, blockWeights: blocks, extract, rank, convRank } = flags
  if (!merge && (difference !== undefined || blocks))
    refuse(difference === undefined ? "--block-weights" : "--difference", "--merge")
  if (extract === undefined && (rank ?? convRank) !== undefined) refuse("--rank", "--extract")
  return {
    dtype,
    force,
    keys: flags.keys,
    loras: flags.lora?.map(({ file, weight }) => ({ file: String(file), weight: constant(weight) })),
    ...(merge ? { merge: { ...merge, difference, blocks } } : {}),
    ...(extract === undefined ? {} : { extract: { from: extract, rank, convRank } }),
  }
}

function refuse(option: string, other: string): never {
  throw new AquatintError("USAGE", `${option} stands without ${other}`, {
    hint: "see aquatint convert --help",
  })
}

function constant(weight: Strength | undefined): number | undefined {
  if (weight === undefined || typeof weight === "number") return weight
  throw new AquatintError("USAGE", "a weight that follows the run cannot become part of the weights", {
    hint: "name one number: --lora PATH=0.8",
  })
}

function number(text: string): number {
  const value = Number(text)
  if (text.trim() === "" || !Number.isFinite(value))
    throw new AquatintError("USAGE", `${text} is no number`, { hint: "see aquatint convert --help" })
  return value
}

const numbers = (text: string): number[] => text.split(",").map(number)

/** `PATH[=WEIGHT]`; a `=` whose right side is no number belongs to the path. */
function mixture(text: string): { with: string; weight?: number } {
  const [, path, weight] = /^(.+)=(-?[\d.]+)$/.exec(text) ?? []
  return path === undefined ? { with: text } : { with: path, weight: number(weight!) }
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

import type { Command } from "commander"
import {
  AquatintError,
  type LibraryEntry,
  listLibrary,
  pullModel,
  removeFromLibrary,
  shortPath,
} from "../index.ts"
import { Meter } from "./meter.ts"

interface Common {
  json?: boolean
}

/** Adds `models list`, `models pull` and `models remove`. */
export function addModels(top: Command): void {
  const models = top
    .command("models")
    .description("the models on this machine, and those of Hugging Face and Civitai")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
  const add = (name: string, about: string): Command =>
    models
      .command(name)
      .description(about)
      .option("--json", "print one JSON object and nothing else (default: off)")
      .exitOverride()
      .configureOutput({ writeErr: () => {} })
      .allowExcessArguments(false)
  add("list", "what is here: our library, Hugging Face's cache, and other programs' folders")
    .option(
      "--tree <folder...>",
      "a folder of AUTOMATIC1111 or ComfyUI, read in place (default: those of AQUATINT_TREES)",
    )
    .action(list)
  add("pull", "fetch a model; give the same command again to go on after a break")
    .argument("<name>", "org/name, org/name:FILE.safetensors, civitai:VERSION, or a Civitai or hub address")
    .option("--revision <name>", "branch, tag or commit of the hub repository", "main")
    .option(
      "--variant <name>",
      "weights of this variant where there are several, such as fp16 (default: the plain ones)",
    )
    .option("--offline", "use the network for nothing (default: off, or HF_HUB_OFFLINE)")
    .action(pull)
  add("remove", "remove a fetched model; other programs' files are never touched")
    .argument("<name>", "as `models list` shows it")
    .action(remove)
}

async function list({ tree, json }: Common & { tree?: string[] }): Promise<void> {
  const entries = await listLibrary(tree)
  if (json) process.stdout.write(`${JSON.stringify({ models: entries })}\n`)
  else if (entries.length === 0)
    process.stdout.write("no models yet: `aquatint models pull org/name` fetches one\n")
  else for (const entry of entries) process.stdout.write(`${line(entry)}\n`)
}

const line = ({ name, kind, bytes, path }: LibraryEntry): string =>
  `${name.padEnd(44)} ${kind.padEnd(10)} ${gigabytes(bytes).padStart(8)}  ${shortPath(path)}`
const gigabytes = (bytes: number): string =>
  bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`

async function pull(
  name: string,
  { json, offline, ...ask }: Common & { revision: string; variant?: string; offline?: boolean },
): Promise<void> {
  if (offline || process.env.HF_HUB_OFFLINE === "1")
    throw new AquatintError("OFFLINE", `${name} is not fetched: --offline`, {
      hint: "leave --offline out, or see `aquatint models list` for what is here",
    })
  const meter = json || !process.stderr.isTTY ? null : new Meter(process.stderr)
  const stop = new AbortController()
  process.once("SIGINT", () => stop.abort())
  try {
    const path = await pullModel(name, {
      ...ask,
      signal: stop.signal,
      progress: (file, done, all) => meter?.line(file, all ? done / all : 0, gigabytes(done)),
    })
    meter?.done()
    process.stdout.write(json ? `${JSON.stringify({ name, path })}\n` : `${path}\n`)
  } finally {
    meter?.done()
  }
}

async function remove(name: string, { json }: Common): Promise<void> {
  const freed = await removeFromLibrary(name)
  process.stdout.write(
    json ? `${JSON.stringify({ name, freed })}\n` : `${name} removed, ${gigabytes(freed)} free again\n`,
  )
}

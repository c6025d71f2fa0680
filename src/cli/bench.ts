import { mkdtemp, readFile, rm, stat } from "node:fs/promises"
import { cpus, loadavg, tmpdir } from "node:os"
import { basename, join, resolve } from "node:path"
import { type Command, InvalidArgumentError } from "commander"
import { AquatintError, examine, version, writeRandomModel } from "../index.ts"
import { layouts } from "./bench-model.ts"
import { type Contender, findPeer, ours, peerNames } from "./bench-peers.ts"
import { type BenchReport, markdown, rowsOf, writeInto } from "./bench-report.ts"
import { measure, type Part, parts } from "./bench-run.ts"
import { Meter } from "./meter.ts"
import { wholeNumber } from "./options.ts"

interface Options {
  model?: string
  quick?: boolean
  sizes?: number[]
  batches: number[]
  steps: number
  cfg: number
  repeats: number
  parts: readonly Part[]
  peers: string[]
  python: string
  json?: boolean
  markdown?: string
}

const whole = wholeNumber(1, 1000)

const sizes = (text: string): number[] =>
  text.split(",").map((part) => {
    const value = Number(part)
    if (!/^\d+$/.test(part) || value < 64 || value > 4096 || value % 64 !== 0)
      throw new InvalidArgumentError(`${part} is not a multiple of 64 from 64 to 4096`)
    return value
  })

const batches = (text: string): number[] => text.split(",").map(whole)

const guidance = (text: string): number => {
  const value = Number(text)
  if (text.trim() === "" || !(value >= 1 && value <= 100))
    throw new InvalidArgumentError(`${text} is not a number from 1 to 100`)
  return value
}

const someParts = (text: string): Part[] =>
  text
    .split(",")
    .map((name) => parts.find((p) => p === name) ?? refuse(`${name} is not one of ${parts.join(", ")}`))

const refuse = (why: string): never => {
  throw new InvalidArgumentError(why)
}

const names = (text: string): string[] => {
  if (text === "none") return []
  const unknown = text.split(",").find((name) => !peerNames.includes(name))
  if (unknown !== undefined)
    throw new InvalidArgumentError(`${unknown} is not one of ${peerNames.join(", ")}`)
  return text.split(",")
}

/** Adds `bench`: speed and memory on this machine, ours and that of peers, in one run. */
export function addBench(top: Command): void {
  top
    .command("bench")
    .description("measure speed and memory here, against peers that are installed")
    .option(
      "-m, --model <path>",
      "diffusers folder or .safetensors (default: SD 1.5's layout, random weights)",
    )
    .option("--quick", "a small model at 128x128, one repeat: shows that everything runs (default: off)")
    .option("--sizes <pixels,...>", "sides of the pictures (default: 512)", sizes)
    .option("--batches <n,...>", "pictures at once, whose steps are measured at the first size", batches, [])
    .option("--steps <n>", "denoising steps of the whole command", whole, 4)
    .option("--cfg <n>", "its guidance scale; 1 draws one row a step, as distilled models do", guidance, 7.5)
    .option("--parts <names>", `what to measure, of ${parts.join(", ")}`, someParts, [...parts])
    .option("--repeats <n>", "rounds that count", whole, 3)
    .option("--peers <names>", `of ${peerNames.join(", ")}, or none`, names, ["diffusers-fp32"])
    .option("--python <program>", "the Python that has the peers", "python3")
    .option("--markdown <file>", "put the report between the bench marks of this file (default: none)")
    .option("--json", "print one JSON object and nothing else (default: off)")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(bench)
}

async function bench(options: Options): Promise<void> {
  if (options.model !== undefined && !(await stat(options.model).catch(() => null)))
    throw new AquatintError("MODEL_NOT_FOUND", `${options.model} is no file or folder`, {
      hint: "leave --model out for a model of random weights",
    })
  const scratch = await mkdtemp(join(tmpdir(), "aquatint-bench-"))
  const meter = options.json || !process.stderr.isTTY ? null : new Meter(process.stderr)
  const tell = (what: string) =>
    meter ? meter.line("bench", 0, what) : options.json || process.stderr.write(`${what}\n`)
  try {
    const report = await run(options, scratch, tell)
    meter?.done()
    if (options.markdown) await writeInto(options.markdown, report)
    process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : markdown(report))
  } finally {
    meter?.done()
    await rm(scratch, { recursive: true, force: true })
  }
}

async function run(options: Options, scratch: string, tell: (what: string) => void): Promise<BenchReport> {
  const model = options.model === undefined ? await ownModel(options, scratch, tell) : resolve(options.model)
  const load = { before: loadavg()[0]!, cores: cpus().length }
  const contenders: Contender[] = [ours(join(scratch, "cache"))]
  const missing: Record<string, string> = {}
  for (const name of options.peers) {
    const peer = await findPeer(name, { python: options.python, cache: join(scratch, "cache") })
    if (typeof peer === "string") missing[name] = peer
    else contenders.push(peer)
  }
  const repeats = options.quick ? 1 : options.repeats
  const figures = await measure(
    contenders,
    {
      model,
      prompt: "a lighthouse at sunset, oil painting",
      sizes: options.sizes ?? [options.quick ? 128 : 512],
      batches: options.batches,
      steps: options.steps,
      cfg: options.cfg,
      parts: options.parts,
      repeats,
      scratch,
    },
    tell,
  )
  return {
    when: new Date().toISOString(),
    machine: (await examine()).machine,
    versions: Object.assign(
      { aquatint: version, ...(await engineVersion()) },
      ...contenders.map((c) => c.versions),
    ),
    model: options.model
      ? basename(model)
      : `${options.quick ? "a small" : "SD 1.5's"} layout, random fp16 weights`,
    command: commandLine(),
    repeats,
    load,
    rows: rowsOf(figures),
    missing,
  }
}

async function ownModel({ quick }: Options, scratch: string, tell: (what: string) => void): Promise<string> {
  tell("writing a model of random weights")
  const folder = join(scratch, "model")
  await writeRandomModel(folder, quick ? layouts.quick : layouts.sd15)
  return folder
}

async function engineVersion(): Promise<Record<string, string>> {
  try {
    const path = new URL(import.meta.resolve("onnxruntime-node/package.json"))
    return { "onnxruntime-node": JSON.parse(await readFile(path, "utf8")).version }
  } catch {
    return {}
  }
}

/** As it was called, with names in place of paths. */
const commandLine = (): string =>
  ["aquatint", ...process.argv.slice(2).map((arg) => (arg.includes("/") ? basename(arg) : arg))].join(" ")

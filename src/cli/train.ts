import { rm } from "node:fs/promises"
import { join, resolve } from "node:path"
import type { Command } from "commander"
import type { MemoryEstimate, TrainKind, TrainOptions, TrainProgress } from "../training.ts"
import { clean } from "./errors.ts"
import { clock, Meter } from "./meter.ts"
import { stopOnSignals } from "./signals.ts"
import { addEmbedded } from "./train-embedded.ts"
import { addOptions, settingsFrom } from "./train-options.ts"

interface Flags {
  model: string
  data: string
  out: string
  restart?: boolean
  json?: boolean
}

const texts: Record<TrainKind, string> = {
  lora: "learn a style or a subject as a small file beside the model (Hu et al. 2022)",
  "text-to-image": "train the whole U-Net on captioned pictures",
  vae: "train the autoencoder on pictures",
  dreambooth:
    "learn a subject from a few pictures, its class preserved (Ruiz et al. 2023); rank 0 trains the whole U-Net",
  "textual-inversion": "learn a new word from a few pictures (Gal et al. 2023)",
  controlnet: "learn to follow a second picture (Zhang et al. 2023)",
  distill: "teach a student to draw in few steps (latent consistency, Luo et al. 2023)",
}

/** Adds `train KIND`. @param asked whether the command line names it: only then defaults are looked up */
export async function addTrain(top: Command, asked: boolean): Promise<void> {
  const train = top
    .command("train")
    .description("train a model, or something beside it, on your own pictures")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
  if (!asked) return
  const { trainKinds, defaultsOf, embeddedStages } = await import("../training.ts")
  addEmbedded(train, embeddedStages)
  for (const kind of trainKinds) {
    const command = train
      .command(kind)
      .description(texts[kind])
      .requiredOption(
        "-m, --model <name>",
        "diffusers folder, .safetensors file or built-in name to begin with",
      )
      .requiredOption(
        "-d, --data <path>",
        "folder of captioned pictures, or a .jsonl, .csv, .parquet or .tar file",
      )
      .requiredOption(
        "-o, --out <folder>",
        "checkpoints, samples, report, result; a stopped run goes on there",
      )
    addOptions(command, kind, defaultsOf(kind))
    command
      .option("--restart", "forget an earlier run in the folder (default: off)")
      .option("--json", "print one JSON object and nothing else (default: off)")
      .exitOverride()
      .configureOutput({ writeErr: () => {} })
      .allowExcessArguments(false)
      .action((flags: Flags) => run(kind, flags))
  }
}

async function run(kind: TrainKind, flags: Flags): Promise<void> {
  const { training } = await import("../training.ts")
  const out = resolve(flags.out)
  if (flags.restart)
    for (const name of ["checkpoints", "log.jsonl"])
      await rm(join(out, name), { recursive: true, force: true })
  const options = {
    ...settingsFrom(flags as unknown as Record<string, unknown>),
    kind,
    model: flags.model,
    data: flags.data,
    out,
  } as TrainOptions
  const signal = stopOnSignals()
  const view = new View(flags.json === true)
  const began = performance.now()
  try {
    for await (const p of training(options, { signal })) view.show(p)
  } finally {
    view.meter?.done()
  }
  view.end(kind, out, (performance.now() - began) / 1000)
  if (signal.aborted) process.exitCode = 130
}

const size = (bytes: number): string =>
  bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`

/** What the user sees of a training. */
class View {
  readonly meter: Meter | null
  private readonly json: boolean
  private shown = 0
  private last: Extract<TrainProgress, { phase: "train" }> | null = null
  private plan: Extract<TrainProgress, { phase: "plan" }> | null = null
  private files: readonly string[] = []

  constructor(json: boolean) {
    this.json = json
    this.meter = json || !process.stderr.isTTY ? null : new Meter(process.stderr)
  }

  show(p: TrainProgress): void {
    if (p.phase === "train") this.step(p)
    else if (p.phase === "plan") this.begin(p)
    else if (p.phase === "done") this.files = p.files
    else this.meter?.show(p.phase, p.done, p.count)
  }

  private begin(plan: Extract<TrainProgress, { phase: "plan" }>): void {
    this.plan = plan
    this.meter?.done()
    if (this.json) return
    for (const { code, what, where } of plan.problems.slice(0, 20))
      this.say(`bad entry[${code}]: ${where}: ${what}`)
    if (plan.problems.length > 20) this.say(`and ${plan.problems.length - 20} more: see data-report.json`)
    this.say(`${plan.pictures} pictures, ${plan.validation} held out`)
    this.say(memoryLine(plan.memory))
  }

  private step(p: Extract<TrainProgress, { phase: "train" }>): void {
    this.last = p
    const now = performance.now()
    // without a terminal a line now and then
    const pause = this.meter ? 100 : 10_000
    if (this.json || (now - this.shown < pause && p.step < p.steps)) return
    this.shown = now
    const tail = `${p.step}/${p.steps}  loss ${p.loss.toPrecision(4)}  ${p.samplesPerSecond.toFixed(2)} samples/s  ${clock(p.secondsLeft)} left`
    if (this.meter) this.meter.line("train", p.step / p.steps, tail)
    else this.say(`train ${tail}`)
  }

  private say(text: string): void {
    process.stderr.write(`${clean(text)}\n`)
  }

  end(kind: TrainKind, out: string, seconds: number): void {
    const { last, plan, files } = this
    const facts = {
      kind,
      path: out,
      files,
      steps: last?.step ?? null,
      loss: last?.loss ?? null,
      samplesPerSecond: last?.samplesPerSecond ?? null,
      seconds,
      pictures: plan?.pictures ?? 0,
      validation: plan?.validation ?? 0,
      memory: plan?.memory ?? null,
      bad: plan?.problems ?? [],
      report: join(out, "report.html"),
    }
    if (this.json) process.stdout.write(`${JSON.stringify(facts)}\n`)
    else if (files.length === 0)
      this.say(`stopped at step ${last?.step ?? 0}; the same command goes on from there`)
    else process.stdout.write(`${files.map((f) => clean(f)).join("\n")}\n`)
  }
}

const memoryLine = ({ parameters, held, state, working, total }: MemoryEstimate): string =>
  `${(parameters / 1e6).toFixed(2)} million parameters to learn; about ${size(total)} of memory: ` +
  `${size(held)} frozen weights, ${size(state)} state, ${size(working)} for a batch`

import { resolve } from "node:path"
import { type Command, Option } from "commander"
import { Meter } from "./meter.ts"
import { number } from "./options.ts"

interface Draw {
  count: number
  size: number
  seed: number
  format: "imagefolder" | "captions"
  split: "train" | "evaluation"
  language?: "en" | "de"
  json?: boolean
}

/** Adds `dataset draw`: captioned scenes of the built-in corpus. */
export function addDataset(top: Command): void {
  const dataset = top
    .command("dataset")
    .description("make data sets")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
  dataset
    .command("draw")
    .description("draw captioned pictures of the built-in corpus (CC0) into a new folder")
    .argument("<folder>", "folder to make; a run that was stopped goes on with the same options")
    .option("--count <n>", "pictures", number, 1000)
    .option("--size <pixels>", "width and height", number, 256)
    .option("--seed <n>", "another seed, other pictures", number, 1)
    .addOption(
      new Option("--format <name>", "metadata.jsonl, or a .txt beside each picture")
        .choices(["imagefolder", "captions"])
        .default("imagefolder"),
    )
    .addOption(
      new Option("--split <name>", "combinations of evaluation are never in train")
        .choices(["train", "evaluation"])
        .default("train"),
    )
    .addOption(
      new Option("--language <code>", "of captions (default: three parts English, one German)").choices([
        "en",
        "de",
      ]),
    )
    .option("--json", "print one JSON object and nothing else (default: off)")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(draw)
}

async function draw(folder: string, options: Draw): Promise<void> {
  const { drawDataset } = await import("../training.ts")
  const out = resolve(folder)
  const meter = options.json || !process.stderr.isTTY ? null : new Meter(process.stderr)
  const began = performance.now()
  try {
    for await (const { done, count } of drawDataset({ ...options, out })) meter?.show("draw", done, count)
  } finally {
    meter?.done()
  }
  const seconds = (performance.now() - began) / 1000
  const facts = { path: out, count: options.count, seconds, perSecond: options.count / seconds }
  process.stdout.write(
    options.json
      ? `${JSON.stringify(facts)}\n`
      : `${out}  ${options.count} pictures  ${facts.perSecond.toFixed(0)} per second\n`,
  )
}

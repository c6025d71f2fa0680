import { resolve } from "node:path"
import type { Command } from "commander"
import { clock, Meter } from "./meter.ts"
import { stopOnSignals } from "./signals.ts"

/** Adds `train embedded`. @param stages their names in order */
export function addEmbedded(train: Command, stages: readonly string[]): void {
  train
    .command("embedded")
    .description("train the built-in model from nothing, stage by stage, on scenes that aquatint draws")
    .argument("[stages...]", `some of ${stages.join(", ")} (default: all)`)
    .requiredOption("-o, --out <folder>", "a folder per stage; a stopped run goes on there")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .action((asked: string[], flags: { out: string }) => run(asked, resolve(flags.out)))
}

async function run(stages: readonly string[], out: string): Promise<void> {
  const { trainEmbedded } = await import("../training.ts")
  const signal = stopOnSignals()
  const meter = process.stderr.isTTY ? new Meter(process.stderr) : null
  let shown = 0
  try {
    for await (const { stage, step, steps, loss, samplesPerSecond, secondsLeft } of trainEmbedded(out, {
      ...(stages.length > 0 ? { stages } : {}),
      signal,
    })) {
      const now = performance.now()
      // without a terminal a line now and then
      if (now - shown < (meter ? 100 : 10_000) && step < steps) continue
      shown = now
      const parts = [
        `${step}/${steps}`,
        loss === undefined ? "" : `loss ${loss.toPrecision(4)}`,
        samplesPerSecond === undefined ? "" : `${samplesPerSecond.toFixed(1)} samples/s`,
        secondsLeft === undefined ? "" : `${clock(secondsLeft)} left`,
      ]
      const tail = parts.filter(Boolean).join("  ")
      if (meter) meter.line(stage, step / steps, tail)
      else process.stderr.write(`${stage} ${tail}\n`)
    }
  } finally {
    meter?.done()
  }
  if (signal.aborted) process.exitCode = 130
}

#!/usr/bin/env node
import { Command, CommanderError } from "commander"
import { version } from "../index.ts"
import { addBench } from "./bench.ts"
import { addConvert } from "./convert.ts"
import { addDataset } from "./dataset.ts"
import { addDoctor } from "./doctor.ts"
import { report } from "./errors.ts"
import { addEvaluate } from "./evaluate.ts"
import { addGenerate } from "./generate.ts"
import { addInspect } from "./inspect.ts"
import { addModels } from "./models.ts"
import { addServe } from "./serve.ts"
import { addTrain } from "./train.ts"

async function program(args: readonly string[]): Promise<Command> {
  const top = new Command("aquatint")
    .description("Stable Diffusion in TypeScript: a sentence becomes a picture")
    .version(version)
    .showHelpAfterError(false)
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
  addGenerate(top)
  addInspect(top)
  addConvert(top)
  addModels(top)
  addDataset(top)
  addEvaluate(top)
  await addTrain(top, args.includes("train"))
  addBench(top)
  addDoctor(top)
  addServe(top)
  return top
}

/** `aquatint "a prompt"` is short for `aquatint generate "a prompt"`. */
function withCommand(top: Command, args: string[]): string[] {
  const known = ["help", ...top.commands.map((c) => c.name())]
  const first = args.find((a) => !a.startsWith("-"))
  if (
    args.length === 0 ||
    (first !== undefined && known.includes(first)) ||
    ["-h", "--help", "-V", "--version"].includes(args[0]!)
  )
    return args
  return ["generate", ...args]
}

async function main(args: string[]): Promise<void> {
  const top = await program(args)
  if (args.length === 0) return top.outputHelp()
  try {
    await top.parseAsync(withCommand(top, args), { from: "user" })
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return
    process.exitCode = report(error, args.includes("--json"))
  }
}

// a reader that went away (`| head`) is no error
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0)
})

// nothing of a result is written before it is whole, and the engine's process ends with this one
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)
  process.once(signal, () => process.exit(code))

await main(process.argv.slice(2))

import { stat } from "node:fs/promises"
import type { Command } from "commander"
import { builtInFolder, isBuiltIn, type Picture, StableDiffusion } from "../index.ts"
import type { Evaluation } from "../training.ts"
import { Meter } from "./meter.ts"
import { number, wholeNumber } from "./options.ts"

interface Options {
  prompts: number
  seed: number
  own: number
  reconstructions: number
  steps?: number
  cfg?: number
  json?: boolean
}

/** Adds `evaluate`: how well a model of the corpus' world draws what it is asked for. */
export function addEvaluate(top: Command): void {
  top
    .command("evaluate")
    .description("score a model of the built-in corpus on held-out prompts, English and German")
    .argument("[model]", "diffusers folder (default: the embedded model)", "embedded")
    .option("--prompts <n>", "prompts, an even share in each language", wholeNumber(2, 100_000), 500)
    .option("--seed <n>", "of the prompts and of their pictures", wholeNumber(0, 2 ** 31 - 1), 1)
    .option("--own <n>", "pictures on which the classifier itself is examined", wholeNumber(1, 100_000), 1000)
    .option("--reconstructions <n>", "pictures for the autoencoder", wholeNumber(1, 10_000), 48)
    .option("--steps <n>", "denoising steps (default: the model's own)", number)
    .option("--cfg <n>", "guidance scale (default: the model's own)", number)
    .option("--json", "print one JSON object and nothing else (default: off)")
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(run)
}

async function run(model: string, options: Options): Promise<void> {
  const { evaluate, spawnEngine } = await import("../training.ts")
  const sd = await StableDiffusion.load(model, { device: "cpu" })
  const engine = spawnEngine()
  const meter = options.json || !process.stderr.isTTY ? null : new Meter(process.stderr)
  const folder = isBuiltIn(model) ? builtInFolder(model) : model
  const { steps, cfg } = options
  const draw = async (prompt: string, seed: number): Promise<Picture> => {
    const { images } = await sd.generate({ prompt, seed, steps, cfg, promptSyntax: "plain" })
    return images[0]!.picture
  }
  try {
    const { width: size } = await draw("", 0)
    const found = await evaluate(engine, {
      ...options,
      size,
      draw,
      folder: (await stat(folder)).isDirectory() ? folder : undefined,
      tell: (what, done, of) => meter?.show(what, done, of),
    })
    meter?.done()
    process.stdout.write(options.json ? `${JSON.stringify(found)}\n` : text(found))
  } finally {
    meter?.done()
    await engine.close()
    await sd.release()
  }
}

const percent = (v: number) => `${(100 * v).toFixed(1)} %`

/** The same as a table of words and numbers. */
function text(found: Evaluation): string {
  const line = (name: string, s: { share: number; low: number; high: number; of: number }) =>
    `  ${name.padEnd(16)} ${percent(s.share).padStart(7)}  (${percent(s.low)} to ${percent(s.high)}, ${s.of})`
  const part = (title: string, shares: Partial<Record<string, Parameters<typeof line>[1]>>) => [
    title,
    ...Object.entries(shares).map(([name, s]) => line(name, s!)),
  ]
  const rest = [
    `Fréchet distance of features ${found.frechet.toFixed(2)} (fresh pictures among themselves ${found.frechetFloor.toFixed(2)})`,
    `feature distance of pictures: same prompt ${found.diversity.samePrompt.toFixed(2)}, different prompts ${found.diversity.differentPrompts.toFixed(2)}`,
    ...Object.entries(found.reconstruction ?? {}).map(
      ([style, s]) =>
        `autoencoder, ${style}: ${s.mean.toFixed(2)} dB (${s.low.toFixed(2)} to ${s.high.toFixed(2)})`,
    ),
  ]
  const refused = found.refused.length
    ? [`not judged, since the classifier is right less than 97 % of the time: ${found.refused.join(", ")}`]
    : []
  return `${[
    ...part("all prompts", found.all),
    ...part("English", found.composition.en),
    ...part("German", found.composition.de),
    ...refused,
    ...part("the classifier itself, on corpus pictures", found.classifier),
    ...rest,
  ].join("\n")}\n`
}

import { mkdir, readFile, stat } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { fail } from "../errors.ts"
import type { Engine } from "../runtime/engine.ts"
import { writeSafetensors } from "../weights/write.ts"
import { readState } from "./checkpoint.ts"
import { textTask } from "./stages/text.ts"
import { vaeTask } from "./stages/vae.ts"
import { readWords, writeWords } from "./stages/words.ts"
import type { RunOptions, Task, TrainStep } from "./task.ts"
import { train, trainedWeights } from "./trainer.ts"

const rate = z.object({
  rate: z.number().positive(),
  warmup: z.number().nonnegative().optional(),
  shape: z.enum(["constant", "cosine"]),
  floor: z.number().min(0).max(1).optional(),
})
const count = z.number().int().positive()
const model = z.record(z.string(), z.unknown())
const training = {
  seed: z.number().int(),
  steps: count,
  batch: count,
  rate,
  beta2: z.number().min(0).max(1),
  decay: z.number().nonnegative(),
  clip: z.number().positive(),
  average: z.number().min(0).max(1),
  every: z.object({
    checkpoint: count,
    log: count,
    validate: z.number().int().nonnegative(),
    sample: z.number().int().nonnegative(),
  }),
}
const lossWeights = z.object({ differences: z.number(), coarse: z.number(), kl: z.number() })

const schema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("words"),
    size: count,
    context: count,
    captions: count,
    seed: z.number().int(),
  }),
  z.object({ kind: z.literal("text"), words: z.string(), model, ...training }),
  z.object({
    kind: z.literal("vae"),
    from: z.string().optional(),
    model,
    crop: count,
    whole: z.number().min(0).max(1),
    loss: lossWeights,
    ...training,
  }),
])

export type StageConfig = z.infer<typeof schema>
type Training = Exclude<StageConfig, { kind: "words" }>

/** Reads a stage's settings. @throws TRAIN_CONFIG naming the field. */
export function stageConfig(json: unknown, name: string): StageConfig {
  const done = schema.safeParse(json)
  if (done.success) return done.data
  const issue = done.error.issues[0]!
  return fail("TRAIN_CONFIG", `stage ${name}: ${issue.path.join(".") || "settings"}: ${issue.message}`, {
    hint: "compare with assets/training",
  })
}

/** The stage's settings as they come with the package. */
export async function bundledStage(name: string): Promise<StageConfig> {
  const url = new URL(`../../assets/training/${name}.json`, import.meta.url)
  const text = await readFile(url, "utf8").catch(() =>
    fail("TRAIN_STAGE", `there is no stage ${name}`, { hint: `stages are ${stageNames.join(", ")}` }),
  )
  return stageConfig(JSON.parse(text), name)
}

/** The embedded model's stages in their order; each needs what comes before it. */
export const stageNames = ["words", "text", "vae", "vae-settle"] as const

/**
 * Runs one stage of the embedded model in `root/NAME`, going on where it stopped, and leaves its weights there as
 * `model.safetensors` (those of the moving average). A finished stage ends at once.
 * @throws TRAIN_NEEDS when a stage it builds on is not finished.
 */
export async function* runStage(
  engine: Engine,
  root: string,
  name: string,
  config: StageConfig,
  options: Pick<RunOptions, "signal" | "threads"> = {},
): AsyncGenerator<TrainStep> {
  const folder = join(root, name)
  await mkdir(folder, { recursive: true })
  if (config.kind === "words") return writeWords(folder, config)
  if (await exists(join(folder, "model.safetensors"))) return
  const task = await taskOf(root, name, config)
  yield* train(engine, task, { folder, every: config.every, ...options })
  if (!options.signal?.aborted) await writeResult(folder, task)
}

async function taskOf(root: string, name: string, config: Training): Promise<Task> {
  if (config.kind === "text") return textTask(config, await readWords(join(root, config.words)))
  return vaeTask(config, name, config.from ? await result(root, config.from) : undefined)
}

/** Weights that a finished stage left behind. */
export async function result(root: string, name: string): Promise<Map<string, Float32Array>> {
  const path = join(root, name, "model.safetensors")
  if (!(await exists(path)))
    fail("TRAIN_NEEDS", `stage ${name} is not finished in ${root}`, { file: path, hint: `run ${name} first` })
  return readState(path)
}

async function writeResult(folder: string, task: Task): Promise<void> {
  const weights = await trainedWeights(folder, task, 0)
  const tensors = [...weights].map(([name, data]) => ({
    name,
    dtype: "F32" as const,
    shape: task.objective.parameters.get(name)!.shape as number[],
    bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  }))
  await writeSafetensors(join(folder, "model.safetensors"), tensors)
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

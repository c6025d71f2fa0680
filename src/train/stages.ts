import { mkdir, readFile, stat } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { fail } from "../errors.ts"
import { AutoencoderKL, vaeConfig } from "../models/index.ts"
import { expected } from "../nn/index.ts"
import type { Engine } from "../runtime/engine.ts"
import { writeSafetensors } from "../weights/write.ts"
import { readState, writeWhole } from "./checkpoint.ts"
import type { Evaluation } from "./evaluation.ts"
import { embeddedCard, stageRecord } from "./stages/card.ts"
import { classifierTask } from "./stages/classifier.ts"
import { type ModelParts, writeModelFolder } from "./stages/folder.ts"
import { encodeLatents, openLatents, whitened } from "./stages/latents.ts"
import { textModel, textTask } from "./stages/text.ts"
import { unetTask } from "./stages/unet.ts"
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

/** A U-Net stage's weights with what belongs to them, as the folder of a model. */
const folderStage = z.object({
  kind: z.literal("folder"),
  unet: z.string(),
  /** The autoencoder, where it is not the one of the latents. */
  vae: z.string().optional(),
  /** Take the newest checkpoint where the U-Net's stage is still under way. */
  unfinished: z.boolean().optional(),
  size: count,
  defaults: z.object({ steps: count, cfg: z.number() }),
  /** A folder stage beside which this one stands: what is no part of the U-Net comes from there. */
  lender: z.string().optional(),
})

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
    decoderOnly: z.boolean().optional(),
    ...training,
  }),
  z.object({
    kind: z.literal("classifier"),
    model: z.object({ channels: z.array(count).min(1), groups: count, size: count }),
    disturb: z.number().nonnegative(),
    ...training,
  }),
  z.object({ kind: z.literal("whiten"), from: z.string(), model, seed: z.number().int() }),
  z.object({
    kind: z.literal("latents"),
    vae: z.string(),
    model,
    seed: z.number().int(),
    size: count,
    count,
    validation: count,
  }),
  z.object({
    kind: z.literal("unet"),
    words: z.string(),
    latents: z.string(),
    /** The text stage, for a fresh U-Net; or the U-Net stage it goes on from. */
    text: z.string().optional(),
    from: z.string().optional(),
    model,
    textRate: z.number().nonnegative(),
    dropout: z.number().min(0).max(1),
    region: z.number().positive(),
    pairsEvery: count.optional(),
    gamma: z.number().positive().optional(),
    teacher: z.object({ of: z.string(), guidance: z.number().min(1) }).optional(),
    replicas: count.optional(),
    ...training,
  }),
  folderStage,
])

export type StageConfig = z.infer<typeof schema>
type Training = Extract<StageConfig, { every: unknown }>
type Of<K extends StageConfig["kind"]> = Extract<StageConfig, { kind: K }>

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
  const known = /^[a-z0-9-]+$/.test(name) ? readFile(url, "utf8") : Promise.reject()
  const text = await known.catch(() =>
    fail("TRAIN_STAGE", `there is no stage ${name}`, { hint: `stages are ${stageNames.join(", ")}` }),
  )
  return stageConfig(JSON.parse(text), name)
}

/** The embedded model's stages in their order; each needs what comes before it. */
export const stageNames = [
  "words",
  "text",
  "vae",
  "vae-white",
  "vae-settle",
  "latents-128",
  "unet-128",
  "unet-128-settle",
  "latents-256",
  "unet-256",
  "unet-256-settle",
  "embedded",
  "student",
  "embedded-fast",
  "classifier",
] as const

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
  options: Pick<RunOptions, "signal" | "threads" | "helper"> = {},
): AsyncGenerator<StageStep> {
  const folder = join(root, name)
  await mkdir(folder, { recursive: true })
  if (config.kind === "words") return writeWords(folder, config)
  if (await exists(join(folder, "model.safetensors"))) return
  if (config.kind === "latents") return yield* latentStage(engine, root, folder, config, options.signal)
  if (config.kind === "whiten") {
    const weights = await whitened(engine, config.model, await result(root, config.from), config.seed)
    return writeWeights(folder, weights, expected(new AutoencoderKL(vaeConfig(config.model))))
  }
  if (config.kind === "folder") {
    const parts = await partsOf(root, config)
    const card = config.lender ? undefined : await cardOf(root, config, parts)
    return writeModelFolder(folder, { ...parts, card })
  }
  const task = await taskOf(root, name, config)
  yield* train(engine, task, { folder, every: config.every, ...options })
  if (options.signal?.aborted) return
  const shapes = new Map([...task.objective.parameters].map(([key, p]) => [key, p.shape as number[]]))
  if (config.kind === "classifier")
    await writeWhole(join(folder, "config.json"), JSON.stringify(config.model))
  const base = config.kind === "vae" && config.from ? await result(root, config.from) : new Map()
  if (config.kind === "vae")
    for (const [key, shape] of expected(new AutoencoderKL(vaeConfig(config.model))))
      shapes.set(key, [...shape])
  await writeWeights(folder, new Map([...base, ...(await trainedWeights(folder, task, 0))]), shapes)
}

/** Progress of any stage; what only training has is absent elsewhere. */
export type StageStep = Pick<TrainStep, "step" | "steps"> & Partial<TrainStep>

async function* latentStage(
  engine: Engine,
  root: string,
  folder: string,
  config: Of<"latents">,
  signal?: AbortSignal,
): AsyncGenerator<StageStep> {
  for await (const { done, count: all } of encodeLatents(
    engine,
    config.model,
    await result(root, config.vae),
    folder,
    config,
  )) {
    yield { step: done, steps: all }
    if (signal?.aborted) return
  }
}

async function taskOf(root: string, name: string, config: Training): Promise<Task> {
  if (config.kind === "text") return textTask(config, await readWords(join(root, config.words)))
  if (config.kind === "vae")
    return vaeTask(config, name, config.from ? await result(root, config.from) : undefined)
  if (config.kind === "classifier") return classifierTask(config, name)
  const words = await readWords(join(root, config.words))
  const stored = await stageOf(config.latents, "latents")
  const textStage = await stageOf("text", "text")
  const folder = join(root, config.latents)
  return unetTask({ ...config, textModel: textModel(textStage, words) }, name, {
    words,
    latents: stored,
    train: await openLatents(folder, "train"),
    validation: await openLatents(folder, "validation"),
    vae: { model: stored.model, weights: await result(root, stored.vae) },
    from: await startOf(root, config),
    ...(config.teacher ? { teacher: await result(root, config.teacher.of) } : {}),
  })
}

/** The networks of a U-Net stage: its own two, and the autoencoder of the latents it learned from. */
async function partsOf(root: string, stage: Of<"folder">): Promise<ModelParts> {
  const { unet, size, defaults, lender, vae: own } = stage
  const config = await stageOf(unet, "unet")
  const early = stage.unfinished && !(await exists(join(root, unet, "model.safetensors")))
  const weights = early
    ? await trainedWeights(join(root, unet), await taskOf(root, unet, config), 0)
    : await result(root, unet)
  const { vae, model } = await stageOf(config.latents, "latents")
  const words = join(root, config.words)
  const of = (prefix: string) =>
    new Map(
      [...weights].flatMap(([key, d]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), d]] : [])),
    )
  const textConfig = textModel(await stageOf("text", "text"), await readWords(words))
  return {
    unet: { config: config.model, weights: of("unet.") },
    text: { config: textConfig, weights: of("text.") },
    vae: { config: model, weights: await result(root, own ?? vae) },
    words,
    size,
    defaults,
    lender,
  }
}

async function cardOf(root: string, config: Of<"folder">, parts: ModelParts): Promise<string> {
  const records = await Promise.all(
    stageNames.map(async (name) => {
      const stage = await bundledStage(name)
      return "batch" in stage && stage.kind !== "classifier" ? stageRecord(root, name, stage.batch) : null
    }),
  )
  const count = ({ weights }: { weights: ReadonlyMap<string, Float32Array> }) =>
    [...weights.values()].reduce((sum, d) => sum + d.length, 0)
  const scores = async (name: string) => {
    const text = await readFile(join(root, name), "utf8").catch(() => null)
    return text === null ? null : (JSON.parse(text) as Evaluation)
  }
  const fast = await stageOf("embedded-fast", "folder")
  const hasStudent = await exists(join(root, fast.unet, "model.safetensors"))
  return embeddedCard({
    size: config.size,
    parameters: { unet: count(parts.unet), vae: count(parts.vae), text_encoder: count(parts.text) },
    defaults: config.defaults,
    stages: records.filter((r) => r !== null),
    evaluation: await scores("evaluation.json"),
    ...(hasStudent
      ? { student: { defaults: fast.defaults, evaluation: await scores("evaluation-fast.json") } }
      : {}),
  })
}

/** Weights of the U-Net stage before, or of the text encoder alone. */
async function startOf(root: string, { from, text }: Of<"unet">): Promise<Map<string, Float32Array>> {
  if (from !== undefined) return result(root, from)
  const weights = text === undefined ? new Map<string, Float32Array>() : await result(root, text)
  return new Map(
    [...weights].filter(([key]) => !key.startsWith("heads.")).map(([key, d]) => [`text.${key}`, d]),
  )
}

async function stageOf<K extends StageConfig["kind"]>(name: string, kind: K): Promise<Of<K>> {
  const config = await bundledStage(name)
  return config.kind === kind
    ? (config as Of<K>)
    : fail("TRAIN_STAGE", `stage ${name} is not of the kind ${kind}`, { blame: "here" })
}

/** Weights that a finished stage left behind. */
export async function result(root: string, name: string): Promise<Map<string, Float32Array>> {
  const path = join(root, name, "model.safetensors")
  if (!(await exists(path)))
    fail("TRAIN_NEEDS", `stage ${name} is not finished in ${root}`, { file: path, hint: `run ${name} first` })
  return readState(path)
}

async function writeWeights(
  folder: string,
  weights: ReadonlyMap<string, Float32Array>,
  shapes: ReadonlyMap<string, readonly number[]>,
): Promise<void> {
  const tensors = [...weights].map(([name, data]) => ({
    name,
    dtype: "F32" as const,
    shape: shapes.get(name)!,
    bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  }))
  await writeSafetensors(join(folder, "model.safetensors"), tensors)
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

import { mkdir } from "node:fs/promises"
import { basename, join } from "node:path"
import type { Engine } from "../../runtime/engine.ts"
import { readCheckpoint } from "../checkpoint.ts"
import type { Problem } from "../data/entry.ts"
import { blockSize } from "../machine.ts"
import { continued } from "../optimizer.ts"
import { stepGraphs } from "../step.ts"
import type { Task, TrainStep } from "../task.ts"
import { configHash, stepOptions, train, trainedWeights } from "../trainer.ts"
import { controlMethod, saveControl } from "./controlnet.ts"
import { diffusionTask } from "./diffusion.ts"
import { distillTask, nameScheduler } from "./distill.ts"
import { readAccelerateState, writeAccelerateState, writeImageFolder } from "./hugging-face.ts"
import { inversionMethod, saveWord } from "./inversion.ts"
import { estimateMemory, type MemoryEstimate } from "./memory.ts"
import { adaptedParts, fullMethod, loraMethod, shapesOf } from "./methods.ts"
import { openTrainModel, readWeights, type TrainModel } from "./model.ts"
import { type TrainOptions, type TrainSettings, trainOptions } from "./options.ts"
import { type Prepared, prepareData, resolutionOf } from "./prepare.ts"
import { saveComponent, saveLora, type Values } from "./save.ts"
import { vaeTask } from "./vae.ts"

/** What a training tells on its way. */
export type TrainProgress =
  | { readonly phase: "draw" | "read" | "encode"; readonly done: number; readonly count: number }
  | {
      readonly phase: "plan"
      readonly memory: MemoryEstimate
      readonly pictures: number
      readonly validation: number
      readonly problems: readonly Problem[]
    }
  | ({ readonly phase: "train" } & TrainStep)
  | { readonly phase: "done"; readonly files: readonly string[] }

export interface TrainContext {
  readonly signal?: AbortSignal
  /** Writes the whole model that was begun with as a diffusers folder, for results that are a whole model. */
  copyModel(from: string, to: string): Promise<void>
  /** Draws what a model makes of a class; yields how many pictures there are. */
  drawClass(pictures: ClassPictures): AsyncGenerator<number>
}

export interface ClassPictures {
  readonly model: string
  readonly prompt: string
  readonly folder: string
  readonly count: number
  readonly seed: number
  readonly size: number
  readonly steps: number
  readonly cfg: number
}

/** A kind of training once data and model are there: the task, and how its result is written. */
interface Job {
  readonly task: Task
  save(values: Values): Promise<string[]>
}

/**
 * Trains from beginning to end, or from where an earlier run in the same folder stopped; an aborted run leaves a
 * checkpoint. Yields progress; the last entry names the files of the result.
 * @throws TRAIN_*, DATA_*, MODEL_*, CHECKPOINT_*
 */
export async function* trainModel(
  engine: Engine,
  options: TrainOptions,
  context: TrainContext,
): AsyncGenerator<TrainProgress> {
  const asked = trainOptions(options)
  const model = await openTrainModel(asked.model)
  await mkdir(asked.out, { recursive: true })
  const s = yield* withClass(asked, model, context)
  if (context.signal?.aborted) return
  const data = yield* prepareData(engine, model, s)
  try {
    const { task, save } = await jobOf(model, s, data, context)
    const graphs = stepGraphs(task.objective, stepOptions(task, await blockSize(engine)))
    const { train: pictures, validation, problems } = data
    const memory = estimateMemory(task, graphs)
    yield { phase: "plan", memory, pictures: pictures.length, validation: validation.length, problems }
    const every = {
      checkpoint: s.checkpointEvery,
      log: s.logEvery,
      validate: s.validateEvery,
      sample: s.sampleEvery,
    }
    const run = { folder: s.out, every, keep: s.keep, threads: s.threads, signal: context.signal, graphs }
    for await (const step of train(engine, task, run)) yield { phase: "train", ...step }
    if (context.signal?.aborted) return
    const slot = s.ema.length > 0 ? "average 0" : s.optimizer === "schedule-free" ? "x" : null
    yield { phase: "done", files: await save(await trainedWeights(s.out, task, slot)) }
  } finally {
    await data.release()
  }
}

/** DreamBooth's class, drawn by the model itself where nobody gave pictures of it. */
async function* withClass(
  s: TrainSettings,
  model: TrainModel,
  context: TrainContext,
): AsyncGenerator<TrainProgress, TrainSettings> {
  if (s.classPrompt === undefined || s.classData !== undefined) return s
  const folder = join(s.out, "class")
  const pictures = {
    model: s.model,
    prompt: s.classPrompt,
    folder,
    count: s.classCount,
    seed: s.seed,
    size: resolutionOf(s, model),
    steps: s.sampleSteps,
    cfg: s.sampleCfg,
  }
  for await (const done of context.drawClass(pictures)) yield { phase: "draw", done, count: s.classCount }
  return { ...s, classData: folder }
}

async function jobOf(
  model: TrainModel,
  s: TrainSettings,
  data: Prepared,
  context: TrainContext,
): Promise<Job> {
  if (s.kind === "vae") return wholeJob(model, s, await vaeTask(model, s, data), context)
  if (s.kind === "distill") return wholeJob(model, s, await distillTask(model, s, data), context)
  if (s.kind === "textual-inversion") return wordJob(model, s, data)
  if (s.kind === "controlnet") return controlJob(model, s, data)
  const low = s.kind === "lora" || (s.kind === "dreambooth" && s.rank > 0)
  return low ? loraJob(model, s, data) : fullJob(model, s, data, context)
}

/** The whole U-Net, from the model's weights or from where a script of Hugging Face's stopped. */
async function fullJob(
  model: TrainModel,
  s: TrainSettings,
  data: Prepared,
  context: TrainContext,
): Promise<Job> {
  const method = fullMethod(model, s, data)
  const shapes = shapesOf(method.parameters)
  const begun = s.fromState === undefined ? null : await readAccelerateState(s.fromState, shapes)
  const fresh = await diffusionTask(model, s, data, begun ? { ...method, first: () => begun.state } : method)
  const task = begun ? { ...fresh, optimizer: continued(fresh.optimizer, begun.step) } : fresh
  const job = wholeJob(model, s, task, context)
  if (!s.hfState) return job
  return {
    task,
    async save(values) {
      const folder = join(s.out, "huggingface")
      const found = await readCheckpoint(join(s.out, "checkpoints"), configHash(task))
      const config = model.files.components.get("unet")!.config
      const steps = s.steps + (begun?.step ?? 0)
      await writeAccelerateState(
        join(folder, `checkpoint-${steps}`),
        found!.state,
        shapes,
        { ...s, steps },
        config,
      )
      await writeImageFolder(folder, data.train)
      return [...(await job.save(values)), folder]
    },
  }
}

async function controlJob(model: TrainModel, s: TrainSettings, data: Prepared): Promise<Job> {
  const method = controlMethod(model, s, data)
  return {
    task: await diffusionTask(model, s, data, method),
    async save(values) {
      const folder = join(s.out, "controlnet")
      await saveControl(folder, model, values, shapesOf(method.parameters), s.dtype)
      return [folder]
    },
  }
}

async function wordJob(model: TrainModel, s: TrainSettings, data: Prepared): Promise<Job> {
  return {
    task: await diffusionTask(model, s, data, inversionMethod(model, s)),
    async save(values) {
      const path = join(s.out, `${s.word!.replace(/[^\p{L}\p{N}_-]+/gu, "_")}.safetensors`)
      await saveWord(path, model, values, { word: s.word!, vectors: s.vectors, dtype: s.dtype })
      return [path]
    },
  }
}

async function loraJob(model: TrainModel, s: TrainSettings, data: Prepared): Promise<Job> {
  const parts = adaptedParts(model, s)
  return {
    task: await diffusionTask(model, s, data, loraMethod(model, s, data)),
    async save(values) {
      const path = join(s.out, `${basename(s.out) || "lora"}.safetensors`)
      const facts = {
        baseModel: basename(s.model),
        family: model.files.family,
        steps: s.steps,
        images: data.train.length,
        prompt: s.prompt ?? (s.captionPrefix.replace(/[,\s]+$/, "") || undefined),
      }
      await saveLora(path, parts, values, { format: s.format, dtype: s.dtype, facts })
      return [path]
    },
  }
}

/** A result that is a whole model: the one begun with, as a diffusers folder, with what was learned in its place. */
function wholeJob(model: TrainModel, s: TrainSettings, task: Task, context: TrainContext): Job {
  const shapes = shapesOf(task.objective.parameters)
  return {
    task,
    async save(learned) {
      const folder = join(s.out, "model")
      await context.copyModel(s.model, folder)
      const components = new Set([...shapes.keys()].map((name) => name.split(".")[0]!))
      for (const name of components) {
        // of a part that is learned in part, the rest stays as it was
        const rest = [...model.views.keys()].filter((key) => key.startsWith(`${name}.`) && !learned.has(key))
        const values = new Map([...learned, ...(await readWeights(model, rest))])
        const all = new Map([...model.views].map(([key, view]) => [key, view.shape]))
        await saveComponent(folder, name, values, all, s.dtype)
      }
      if (s.kind === "distill") await nameScheduler(folder, s)
      return [folder]
    },
  }
}

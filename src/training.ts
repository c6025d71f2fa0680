/** Training and its data: the public names of `aquatint/train`. Kept apart from the index, so that drawing starts fast. */

import { drawClass } from "./class-pictures.ts"
import { convert } from "./pipeline/convert.ts"
import { openModel } from "./pipeline/stable-diffusion.ts"
import { nodeEngine } from "./runtime/node.ts"
import { threadEngine } from "./runtime/thread.ts"
import type { TrainOptions } from "./train/finetune/options.ts"
import { type TrainProgress, trainModel } from "./train/finetune/run.ts"
import { bundledStage, runStage, type StageStep, stageNames } from "./train/stages.ts"

export { spawnEngine } from "./runtime/spawn.ts"
export {
  type DatasetFormat,
  type DatasetOptions,
  type DatasetProgress,
  drawDataset,
} from "./train/corpus/dataset.ts"
export * from "./train/corpus/index.ts"
export { type DataOptions, type Dataset, type Item, openDataset } from "./train/data/dataset.ts"
export type { Problem } from "./train/data/entry.ts"
export { type Evaluation, type EvaluationOptions, evaluate } from "./train/evaluation.ts"
export type { MemoryEstimate } from "./train/finetune/memory.ts"
export {
  defaultsOf,
  kinds as trainKinds,
  type TrainKind,
  type TrainOptions,
  type TrainSettings,
} from "./train/finetune/options.ts"
export type { TrainProgress } from "./train/finetune/run.ts"
export { Judge, type Verdict } from "./train/judge.ts"
export { type Attribute, type Share, scoreScene, tally } from "./train/score.ts"
export { stageNames as embeddedStages } from "./train/stages.ts"

/**
 * Trains a model, or something beside it, on a data set: a LoRA, a fine-tuned model, an autoencoder, a word, and so on.
 * A run in a folder that was begun before goes on where that one stopped, and ends with the same weights bit for bit.
 * @throws TRAIN_*, DATA_*, MODEL_*, CHECKPOINT_*
 * @example for await (const p of training({ kind: "lora", model: "sd15", data: "pictures", out: "my-lora" })) show(p)
 */
export async function* training(
  options: TrainOptions,
  { signal }: { signal?: AbortSignal } = {},
): AsyncGenerator<TrainProgress> {
  const { path } = await openModel(options.model)
  const engine = nodeEngine()
  try {
    yield* trainModel(
      engine,
      { ...options, model: path },
      {
        signal,
        copyModel: async (from, to) => {
          await convert(from, to, { force: true })
        },
        drawClass: (pictures) => drawClass(engine, pictures, signal),
      },
    )
  } finally {
    await engine.close()
  }
}

/**
 * Trains the embedded model from nothing: vocabulary, text encoder, autoencoder, U-Net, each stage by its settings in
 * assets/training, with `folder/STAGE` for what it leaves. A stage goes on where it stopped; a finished one is passed.
 * @param options `stages`: some of `embeddedStages`, in the order given
 * @throws TRAIN_STAGE, TRAIN_NEEDS, TRAIN_DIVERGED, CHECKPOINT_*
 */
export async function* trainEmbedded(
  folder: string,
  { stages = stageNames, signal }: { stages?: readonly string[]; signal?: AbortSignal } = {},
): AsyncGenerator<StageStep & { stage: string }> {
  const settings = await Promise.all(stages.map(async (stage) => [stage, await bundledStage(stage)] as const))
  const engine = nodeEngine()
  try {
    for (const [stage, config] of settings) {
      for await (const step of runStage(engine, folder, stage, config, {
        signal,
        helper: () => threadEngine(),
      }))
        yield { stage, ...step }
      if (signal?.aborted) return
    }
  } finally {
    await engine.close()
  }
}

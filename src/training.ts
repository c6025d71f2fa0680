/** Training and its data: the public names of `aquatint/train`. Kept apart from the index, so that drawing starts fast. */

import { drawClass } from "./class-pictures.ts"
import { convert } from "./pipeline/convert.ts"
import { openModel } from "./pipeline/stable-diffusion.ts"
import { nodeEngine } from "./runtime/node.ts"
import type { TrainOptions } from "./train/finetune/options.ts"
import { type TrainProgress, trainModel } from "./train/finetune/run.ts"

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

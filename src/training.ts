/** Training and its data: the public names of `aquatint/train`. Kept apart from the index, so that drawing starts fast. */

export { spawnEngine } from "./runtime/spawn.ts"
export {
  type DatasetFormat,
  type DatasetOptions,
  type DatasetProgress,
  drawDataset,
} from "./train/corpus/dataset.ts"
export * from "./train/corpus/index.ts"
export { type Evaluation, type EvaluationOptions, evaluate } from "./train/evaluation.ts"
export { Judge, type Verdict } from "./train/judge.ts"

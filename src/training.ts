/** Training and its data: the public names of `aquatint/train`. Kept apart from the index, so that drawing starts fast. */

export {
  type DatasetFormat,
  type DatasetOptions,
  type DatasetProgress,
  drawDataset,
} from "./train/corpus/dataset.ts"
export * from "./train/corpus/index.ts"

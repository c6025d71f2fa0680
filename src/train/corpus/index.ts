/**
 * The corpus: captioned flat-vector scenes drawn by our own code (docs/corpus.md). Everything here also runs in a
 * browser; `dataset.ts`, which writes folders, needs Node.
 */
export { caption, fullCaption, type Language } from "./caption.ts"
export {
  type Corpus,
  type CorpusEntry,
  type CorpusItem,
  type CorpusOptions,
  corpus,
  type EvaluationPrompt,
  evaluationPrompts,
} from "./corpus.ts"
export { Random } from "./random.ts"
export { drawScene, type Scene, type ThingBox } from "./scene.ts"
export * from "./spec.ts"
export { trainVocabulary, type VocabularyFiles, type VocabularyOptions } from "./vocabulary.ts"

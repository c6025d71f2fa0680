export { parseSamplerLabel, parseScheduleLabel, samplerIds, scheduleIds } from "./diffusion/sampling.ts"
export { AquatintError, type ErrorFields } from "./errors.ts"
export { decodeImage, encodeImage } from "./image/codec.ts"
export { checkImage, type ImageHeader, type ImageLimits } from "./image/header.ts"
export { parseInfotext } from "./image/infotext.ts"
export { type LabelledGrid, labelledGrid } from "./image/labels.ts"
export { composite, gaussianBlur, invert } from "./image/mask.ts"
export { readMetadata } from "./image/metadata.ts"
export { type Picture, toRgb } from "./image/pixels.ts"
export { type Preprocessor, preprocess, preprocessors } from "./image/preprocess.ts"
export type { Sides } from "./image/region.ts"
export { fit, resize } from "./image/resize.ts"
export type { AdapterReport } from "./pipeline/adapters.ts"
export type { AttentionMaps, TokenMap } from "./pipeline/attention.ts"
export { type WordMap, wordMaps } from "./pipeline/attention-words.ts"
export { checkAsk, embeddingWords, type ModelCard, modelCard, promptReader } from "./pipeline/card.ts"
export type { ControlRequest } from "./pipeline/control.ts"
export {
  Conversion,
  type ConvertOptions,
  type ConvertResult,
  type ConvertStep,
  convert,
} from "./pipeline/convert.ts"
export { type LoadedUpscaler, loadUpscaler } from "./pipeline/enlarger.ts"
export { writeAtomic } from "./pipeline/files.ts"
export type { GenerateStep } from "./pipeline/generate.ts"
export { type GenerateOptions, type GenerateResult, Generation, type Timings } from "./pipeline/generation.ts"
export { type HiresRequest, latentUpscalers, pictureUpscalers, upscalerOf } from "./pipeline/hires.ts"
export { formatOf, GeneratedImage, type ImageFormat } from "./pipeline/image.ts"
export { type GridAxis, gridAxis, promptMatrix, readPrompts, withAxis } from "./pipeline/many.ts"
export type { Preset } from "./pipeline/presets.ts"
export { promptLoras } from "./pipeline/prompt.ts"
export type { PromptReader, PromptToken, PromptTokens } from "./pipeline/prompt-tokens.ts"
export { type ModelLayout, writeRandomModel } from "./pipeline/random-model.ts"
export { type RecipeFiles, recipeFiles } from "./pipeline/recipe/files.ts"
export { type Recipe, readRecipe } from "./pipeline/recipe/recipe.ts"
export {
  type EmbeddingRequest,
  type Fill,
  fills,
  type GenerateRequest,
  type InpaintArea,
  inpaintAreas,
  type LoraRequest,
  promptLimit,
  type Tiling,
  tilings,
} from "./pipeline/request.ts"
export { mostMerged, type Speed, speeds } from "./pipeline/shortcuts.ts"
export {
  builtInFolder,
  embeddedFolder,
  type LoadOptions,
  StableDiffusion,
} from "./pipeline/stable-diffusion.ts"
export { type Examination, examine } from "./runtime/doctor.ts"
export { spawnEngine } from "./runtime/spawn.ts"
export { parseStrength, type Strength } from "./text/networks.ts"
export { type EmphasisMode, emphases } from "./text/prompt.ts"
export { xmpMark } from "./trust/mark.ts"
export { version } from "./version.ts"
export { type AdapterDialect, adapterDialects } from "./weights/adapters/dialects.ts"
export { type BuiltInModel, builtInModels, isBuiltIn } from "./weights/built-in.ts"
export {
  findInLibrary,
  type LibraryEntry,
  listLibrary,
  removeFromLibrary,
  shortPath,
} from "./weights/hub/library.ts"
export { type PullAsk, pullModel } from "./weights/hub/pull.ts"
export { type Inspection, inspect, textReport } from "./weights/inspect.ts"
export { writeSafetensors } from "./weights/write.ts"

export { Attention, type BlockConfig, type ImagePrompt, imageKey, TransformerBlock } from "./attention.ts"
export {
  type Activation,
  activation,
  Conv2d,
  Embedding,
  GroupNorm,
  LayerNorm,
  Linear,
  Upsample,
} from "./layers.ts"
export { bind, expected, Module, Param, parameters, snake } from "./module.ts"
export { mergeTokens, mostMerged } from "./token-merging.ts"

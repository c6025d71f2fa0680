export type { AttentionAttrs, ConvAttrs, DType, OpAttrs, OpName, TypedData } from "./attrs.ts"
export { addBranches, branchable, factorsOf } from "./branch.ts"
export {
  addDim,
  type Dim,
  evalDim,
  exactDiv,
  floorDiv,
  mulDim,
  Sym,
  sameDim,
  sameShape,
  showShape,
  symbol,
} from "./dim.ts"
export { gradients } from "./grad.ts"
export { liftConvolutions, liftWeights, matrices } from "./lift.ts"
export { lowerConvolutions } from "./lower.ts"
export { inputSpecs, type StoredDType, type StoredTensor, toOnnx } from "./onnx.ts"
export { ops } from "./ops.ts"
export { printGraph } from "./print.ts"
export { liftInt8 } from "./quantize.ts"
export { mergeLayouts, rewrite, type Staged, shareEqual, stage } from "./rewrite.ts"
export {
  apply,
  concat,
  constant,
  type Graph,
  graphNodes,
  input,
  nameOf,
  nodesOf,
  parameter,
  scalar,
  Tensor,
} from "./tensor.ts"
export { watchAttention } from "./watch.ts"
export { type Wrap, wrapConvolutions } from "./wrap.ts"

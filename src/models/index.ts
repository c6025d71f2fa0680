export { type ClipConfig, ClipText, clipConfig, clipGraph, endPosition } from "./clip.ts"
export {
  ClipVision,
  type ClipVisionConfig,
  clipVisionConfig,
  clipVisionGraph,
  visionTokens,
} from "./clip-vision.ts"
export {
  ControlNet,
  type ControlNetConfig,
  controlNetConfig,
  controlNetGraph,
  hintFactor,
} from "./controlnet.ts"
export { IpImageProjection, type IpProjection, ipProjection, ipProjectionGraph } from "./ip-adapter.ts"
export {
  featureChannels,
  T2iAdapter,
  type T2iAdapterConfig,
  t2iAdapterConfig,
  t2iAdapterGraph,
} from "./t2i-adapter.ts"
export { sinusoid } from "./time-embedding.ts"
export {
  AutoencoderTiny,
  type TinyVaeConfig,
  tinyDecoderGraph,
  tinyEncoderGraph,
  tinyVaeConfig,
} from "./tiny-vae.ts"
export { UNet } from "./unet.ts"
export { type UNetConfig, unetConfig } from "./unet-config.ts"
export { type UNetParts, unetGraph } from "./unet-graph.ts"
export { AutoencoderKL, decoderGraph, encoderGraph, type VaeConfig, vaeConfig, vaeFactor } from "./vae.ts"

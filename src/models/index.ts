export { type ClipConfig, ClipText, clipConfig, clipGraph, endPosition } from "./clip.ts"
export {
  ControlNet,
  type ControlNetConfig,
  controlNetConfig,
  controlNetGraph,
  hintFactor,
} from "./controlnet.ts"
export {
  AutoencoderTiny,
  type TinyVaeConfig,
  tinyDecoderGraph,
  tinyEncoderGraph,
  tinyVaeConfig,
} from "./tiny-vae.ts"
export { sinusoid, UNet, unetGraph } from "./unet.ts"
export { type UNetConfig, unetConfig } from "./unet-config.ts"
export { AutoencoderKL, decoderGraph, encoderGraph, type VaeConfig, vaeConfig, vaeFactor } from "./vae.ts"

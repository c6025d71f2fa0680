export { type ClipConfig, ClipText, clipConfig, clipGraph, endPosition } from "./clip.ts"
export { sinusoid, UNet, unetGraph } from "./unet.ts"
export { type UNetConfig, unetConfig } from "./unet-config.ts"
export { AutoencoderKL, decoderGraph, encoderGraph, type VaeConfig, vaeConfig, vaeFactor } from "./vae.ts"

import { binaryMask } from "../image/mask.ts"
import { type Picture, planesFromPicture, toGrey, toRgb } from "../image/pixels.ts"
import { resize } from "../image/resize.ts"
import type { Planes } from "./vae.ts"

/** A start picture as the encoder takes it: RGB, the asked size, -1..1. */
export function pictureInput(picture: Picture, width: number, height: number): Planes {
  return { data: planesFromPicture(resize(toRgb(picture), width, height)), channels: 3, height, width }
}

/** A mask at the asked size, 1 where it is repainted: h w. */
export const maskInput = (mask: Picture, width: number, height: number): Float32Array =>
  binaryMask(toGrey(resize(toRgb(mask), width, height)))

/** The picture with everything that is repainted set to zero (mid grey), as inpainting models were trained. */
export function hole(picture: Planes, mask: Float32Array): Planes {
  return { ...picture, data: picture.data.map((v, i) => (mask[i % mask.length]! < 0.5 ? v : 0)) }
}

/** Nearest-neighbour reduction of a mask to latents (torch's interpolate). */
export function latentMask(mask: Float32Array, width: number, height: number, factor: number): Float32Array {
  const [w, h] = [width / factor, height / factor]
  return Float32Array.from(
    { length: w * h },
    (_, i) => mask[Math.floor(i / w) * factor * width + (i % w) * factor]!,
  )
}

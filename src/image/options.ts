import { fail } from "../errors.ts"
import type { ImageFormat } from "./header.ts"
import type { ImageMetadata } from "./metadata.ts"

/** What to encode a picture as, on Node and in browsers. */
export interface EncodeOptions {
  format: ImageFormat
  /** 1 to 100 for JPEG and WebP, default 90; PNG has none. */
  quality?: number
  metadata?: ImageMetadata
}

/** Quality of an encoder, checked. */
export function qualityOf({ quality = 90 }: EncodeOptions): number {
  if (!Number.isInteger(quality) || quality < 1 || quality > 100) {
    fail("IMAGE_QUALITY", `quality ${quality} is out of range`, { hint: "use a whole number from 1 to 100" })
  }
  return quality
}

import { fail } from "../errors.ts"
import { broken, checkImage, type ImageLimits } from "./header.ts"
import { writeJpeg } from "./jpeg.ts"
import { readOrientation, writeMetadata } from "./metadata.ts"
import { type EncodeOptions, qualityOf } from "./options.ts"
import { checkPicture, type Picture, toRgb, toRgba, upright } from "./pixels.ts"
import { decodePng, encodePng } from "./png-pixels.ts"
import { writeWebp } from "./webp.ts"

/** Picture files in browsers: PNG by our own code, exact; JPEG and WebP by the browser's codecs. */

/** EXIF without entries, put in place of a file's own, because browsers turn pictures by it even when told not to. */
const noExif = Uint8Array.of(0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0)

/**
 * The same contract as codec.ts. PNG is exact; JPEG and WebP values may differ by a unit between
 * browsers, and under half-transparent pixels by more, because canvases premultiply.
 */
export async function decodeImage(
  bytes: Uint8Array,
  limits: Partial<ImageLimits> = {},
  file?: string,
): Promise<Picture> {
  const { format } = checkImage(bytes, limits, file)
  const picture = format === "png" ? await decodePng(bytes, file) : await decodeNative(bytes, format, file)
  return upright(picture, await readOrientation(bytes).catch(() => 1))
}

async function decodeNative(bytes: Uint8Array, format: "jpeg" | "webp", file?: string): Promise<Picture> {
  const unturned =
    format === "jpeg" ? writeJpeg(bytes, noExif, undefined) : writeWebp(bytes, noExif, undefined)
  const blob = new Blob([unturned as Uint8Array<ArrayBuffer>], { type: `image/${format}` })
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  }).catch((cause) => broken(format, "its picture data cannot be decoded", file, cause))
  const { width, height } = bitmap
  const context = canvas(width, height)
  context.drawImage(bitmap, 0, 0)
  bitmap.close()
  const rgba: Picture = {
    width,
    height,
    channels: 4,
    data: new Uint8ClampedArray(context.getImageData(0, 0, width, height).data),
  }
  return rgba.data.every((v, i) => i % 4 !== 3 || v === 255) ? toRgb(rgba) : rgba
}

/** The same contract as codec.ts. */
export async function encodeImage(picture: Picture, options: EncodeOptions): Promise<Uint8Array> {
  checkPicture(picture)
  const quality = qualityOf(options)
  const { format, metadata } = options
  const bytes = format === "png" ? await encodePng(picture) : await encodeNative(picture, format, quality)
  return metadata ? writeMetadata(bytes, metadata) : bytes
}

async function encodeNative(picture: Picture, format: "jpeg" | "webp", quality: number): Promise<Uint8Array> {
  const { width, height } = picture
  const context = canvas(width, height)
  const rgba = toRgba(format === "jpeg" ? toRgb(picture) : picture)
  context.putImageData(new ImageData(new Uint8ClampedArray(rgba.data), width, height), 0, 0)
  const type = `image/${format}`
  const blob = await context.canvas.convertToBlob({ type, quality: quality / 100 })
  if (blob.type !== type) {
    fail("IMAGE_ENCODE", `this browser cannot write ${format}`, { hint: "write PNG", blame: "here" })
  }
  return new Uint8Array(await blob.arrayBuffer())
}

function canvas(width: number, height: number): OffscreenCanvasRenderingContext2D {
  const context = new OffscreenCanvas(width, height).getContext("2d", {
    colorSpace: "srgb",
    willReadFrequently: true,
  })
  return context ?? fail("IMAGE_CANVAS", "this browser has no 2D canvas", { blame: "here" })
}

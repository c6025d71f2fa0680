import { fail } from "../errors.ts"
import { broken, checkImage, type ImageHeader, type ImageLimits } from "./header.ts"
import { readOrientation, writeMetadata } from "./metadata.ts"
import { type EncodeOptions, qualityOf } from "./options.ts"
import { blank, checkPicture, type Picture, toRgb, upright } from "./pixels.ts"
import { decodePng, encodePng } from "./png-pixels.ts"

/** Picture files on Node. PNG is our own code; sharp is loaded when JPEG or WebP is first met. */

/**
 * Decodes PNG, JPEG or WebP to 8-bit RGB or RGBA, upright by its EXIF orientation as diffusers'
 * load_image; colour profiles are ignored, 16-bit samples keep their high byte.
 * The header is checked against the limits before anything is decoded.
 * Throws IMAGE_EMPTY, IMAGE_FORMAT, IMAGE_TOO_LARGE, IMAGE_ANIMATED or IMAGE_BROKEN.
 * @param file name for error messages
 */
export async function decodeImage(
  bytes: Uint8Array,
  limits: Partial<ImageLimits> = {},
  file?: string,
): Promise<Picture> {
  const header = checkImage(bytes, limits, file)
  const picture =
    header.format === "png" ? await decodePng(bytes, file) : await decodeNative(bytes, header, file)
  return upright(picture, await readOrientation(bytes).catch(() => 1))
}

async function decodeNative(bytes: Uint8Array, header: ImageHeader, file?: string): Promise<Picture> {
  const { default: sharp } = await import("sharp")
  const { width, height, format } = header
  const options = { failOn: "error", limitInputPixels: width * height, ignoreIcc: true, pages: 1 } as const
  const image = sharp(bytes, options)
  if (header.cmyk) image.pipelineColourspace("cmyk").toColourspace("cmyk")
  const { data, info } = await image
    .raw()
    .toBuffer({ resolveWithObject: true })
    .catch((cause) => broken(format, "its picture data cannot be decoded", file, cause))
  if (info.width !== width || info.height !== height)
    broken(format, "its header and its picture differ in size", file)
  const pixels = new Uint8ClampedArray(data.buffer, data.byteOffset, data.length)
  const channels = info.channels as number
  if (channels === 1 || channels === 3) return toRgb({ width, height, channels, data: pixels })
  if (header.cmyk && channels === 4) return rgbFromCmyk(pixels, width, height)
  if (channels === 4) return { width, height, channels, data: pixels }
  return broken(format, `it decodes to ${channels} channels`, file)
}

/** CMYK without a profile, as PIL's convert("RGB"): each ink dims what black leaves. */
function rgbFromCmyk(cmyk: Uint8ClampedArray, width: number, height: number): Picture {
  const out = blank(width, height, 3)
  for (let from = 0, to = 0; from < cmyk.length; from += 4, to += 3) {
    const light = 255 - cmyk[from + 3]!
    for (let c = 0; c < 3; c++) {
      const ink = cmyk[from + c]! * light + 128
      out.data[to + c] = light - (((ink >> 8) + ink) >> 8)
    }
  }
  return out
}

/**
 * Encodes a picture and puts the metadata into it. PNG is lossless; the same input gives the same
 * bytes. JPEG has no alpha (it is dropped) and full colour resolution (4:4:4).
 */
export async function encodeImage(picture: Picture, options: EncodeOptions): Promise<Uint8Array> {
  checkPicture(picture)
  const quality = qualityOf(options)
  const { format, metadata } = options
  const bytes = format === "png" ? await encodePng(picture) : await encodeNative(picture, format, quality)
  return metadata ? writeMetadata(bytes, metadata) : bytes
}

async function encodeNative(picture: Picture, format: "jpeg" | "webp", quality: number): Promise<Uint8Array> {
  const { default: sharp } = await import("sharp")
  const source = format === "jpeg" && picture.channels === 4 ? toRgb(picture) : picture
  const { width, height, channels, data } = source
  const image = sharp(data, { raw: { width, height, channels } })
  const encoded =
    format === "jpeg" ? image.jpeg({ quality, chromaSubsampling: "4:4:4" }) : image.webp({ quality })
  return encoded.toBuffer().catch((cause) =>
    fail("IMAGE_ENCODE", `a picture of ${width}x${height} cannot be written as ${format}`, {
      blame: "here",
      cause,
    }),
  )
}

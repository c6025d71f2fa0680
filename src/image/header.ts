import { fail } from "../errors.ts"
import { hasAscii, view } from "./bytes.ts"
import { jpegHeader } from "./jpeg.ts"
import { pngHeader } from "./png.ts"
import { webpHeader } from "./webp.ts"

export type ImageFormat = "png" | "jpeg" | "webp"

/** What the first bytes of a file promise, read before anything is decoded. */
export interface ImageHeader {
  format: ImageFormat
  /** Pixels as stored, before EXIF orientation. */
  width: number
  height: number
  animated: boolean
  /** True for JPEG with four components. */
  cmyk?: boolean
}

/** What a decoder may be asked to open. */
export interface ImageLimits {
  /** Width times height, default 16 Mi (4096 x 4096). */
  pixels: number
  /** Longest side, default 8192. */
  side: number
  /** File size, default 32 MiB. */
  bytes: number
}

export const defaultLimits: ImageLimits = { pixels: 16 * 1024 * 1024, side: 8192, bytes: 32 * 1024 * 1024 }

/** Other formats by their first bytes, so that the refusal can name them. */
const others: [name: string, at: number, magic: string][] = [
  ["GIF", 0, "GIF8"],
  ["BMP", 0, "BM"],
  ["TIFF", 0, "II*\0"],
  ["TIFF", 0, "MM\0*"],
  ["AVIF or HEIF", 4, "ftyp"],
  ["JPEG XL", 0, "\xff\x0a"],
  ["JPEG XL", 4, "JXL "],
  ["PSD", 0, "8BPS"],
  ["PDF", 0, "%PDF"],
  ["SVG or XML", 0, "<"],
  ["ICO", 0, "\0\0\x01\0"],
]

/** The format of a file by its first bytes, undefined when it is not PNG, JPEG or WebP. */
export function sniff(bytes: Uint8Array): ImageFormat | undefined {
  if (hasAscii(bytes, 0, "\x89PNG\r\n\x1a\n")) return "png"
  if (hasAscii(bytes, 0, "\xff\xd8\xff")) return "jpeg"
  if (hasAscii(bytes, 0, "RIFF") && hasAscii(bytes, 8, "WEBP")) return "webp"
  return undefined
}

/**
 * Format and size from the file's own header, without decoding.
 * Throws IMAGE_EMPTY, IMAGE_FORMAT (not a format that is read here) or IMAGE_BROKEN (cut off or contradictory).
 */
export function readHeader(bytes: Uint8Array, file?: string): ImageHeader {
  if (bytes.length === 0) fail("IMAGE_EMPTY", "the image is empty (0 bytes)", { file })
  const format = sniff(bytes) ?? wrongFormat(bytes, file)
  const parse = { png: pngHeader, jpeg: jpegHeader, webp: webpHeader }[format]
  const header = parse(bytes)
  if (typeof header === "string") return broken(format, header, file)
  if (header.width < 1 || header.height < 1) return broken(format, "a side is 0", file)
  return { format, ...header }
}

function wrongFormat(bytes: Uint8Array, file?: string): never {
  const found = others.find(([, at, magic]) => hasAscii(bytes, at, magic))?.[0]
  const what = found ? `a ${found} file` : `no image this program knows (first bytes ${hex(bytes)})`
  return fail("IMAGE_FORMAT", `${file ?? "the input"} is ${what}`, { hint: "use PNG, JPEG or WebP", file })
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 8), (b) => b.toString(16).padStart(2, "0")).join(" ")
}

/** The error of a file whose bytes do not keep what its format promises. */
export function broken(format: string, why: string, file?: string, cause?: unknown): never {
  return fail("IMAGE_BROKEN", `${file ?? "the image"} is a damaged ${format.toUpperCase()} file: ${why}`, {
    hint: "the file may be cut off; fetch or export it again",
    file,
    cause,
  })
}

/**
 * The header of a file that is safe to decode. Throws as readHeader, and IMAGE_TOO_LARGE or
 * IMAGE_ANIMATED where the limits forbid it. Costs no more than a walk over the headers.
 */
export function checkImage(bytes: Uint8Array, limits: Partial<ImageLimits> = {}, file?: string): ImageHeader {
  const most = { ...defaultLimits, ...limits }
  if (bytes.length > most.bytes) {
    tooLarge(
      `${bytes.length} bytes, more than ${most.bytes}`,
      { bytes: bytes.length, limit: most.bytes },
      file,
    )
  }
  const header = readHeader(bytes, file)
  const { width, height } = header
  if (Math.max(width, height) > most.side) {
    tooLarge(
      `${width}x${height} pixels, a side above ${most.side}`,
      { width, height, limit: most.side },
      file,
    )
  }
  if (width * height > most.pixels) {
    tooLarge(
      `${width}x${height} pixels, more than ${most.pixels} in all`,
      { width, height, limit: most.pixels },
      file,
    )
  }
  if (header.animated) {
    fail("IMAGE_ANIMATED", `${file ?? "the image"} has several frames`, {
      hint: "save one frame as a still picture",
      file,
    })
  }
  return header
}

function tooLarge(what: string, details: Record<string, unknown>, file?: string): never {
  return fail("IMAGE_TOO_LARGE", `${file ?? "the image"} has ${what}`, {
    hint: "scale it down first",
    file,
    details,
  })
}

/** Big-endian 32-bit number, 0 beyond the end. */
export function u32(bytes: Uint8Array, at: number): number {
  return at + 4 <= bytes.length ? view(bytes).getUint32(at) : 0
}

import { concat, fromLatin1, fromUtf8Lenient, hasAscii, latin1, utf8, view } from "./bytes.ts"
import { type Found, Limits } from "./found.ts"

/** WebP containers (RFC 9649): header, EXIF and XMP chunks; pixels are the decoder's. */

interface Chunk {
  type: string
  data: Uint8Array
}

const maxChunks = 4096

/** Chunks of the RIFF body. Ends early where one runs past the end of the file. */
function* chunks(bytes: Uint8Array): Generator<Chunk> {
  const data = view(bytes)
  const limit = Math.min(bytes.length, 8 + data.getUint32(4, true))
  let at = 12
  for (let n = 0; n < maxChunks && at + 8 <= limit; n++) {
    const size = data.getUint32(at + 4, true)
    if (at + 8 + size > limit) return
    yield { type: fromLatin1(bytes.subarray(at, at + 4)), data: bytes.subarray(at + 8, at + 8 + size) }
    at += 8 + size + (size & 1)
  }
}

interface Frame {
  width: number
  height: number
  alpha: boolean
}

/** Size and alpha of a VP8 key frame (RFC 6386, 9.1) or a VP8L image (RFC 9649, 3.4). */
function frame({ type, data }: Chunk): Frame | undefined {
  if (type === "VP8 " && data.length >= 10 && hasAscii(data, 3, "\x9d\x01\x2a")) {
    const size = view(data)
    return { width: size.getUint16(6, true) & 0x3fff, height: size.getUint16(8, true) & 0x3fff, alpha: false }
  }
  if (type === "VP8L" && data.length >= 5 && data[0] === 0x2f) {
    const bits = view(data).getUint32(1, true)
    return {
      width: (bits & 0x3fff) + 1,
      height: ((bits >>> 14) & 0x3fff) + 1,
      alpha: ((bits >>> 28) & 1) === 1,
    }
  }
  return undefined
}

/** Size from the container and the picture in it, which must agree; a string says what is wrong. */
export function webpHeader(bytes: Uint8Array): { width: number; height: number; animated: boolean } | string {
  if (bytes.length < 20) return "it ends in its header"
  if (view(bytes).getUint32(4, true) + 8 > bytes.length) return "it is shorter than it says"
  let canvas: { width: number; height: number } | undefined
  for (const chunk of chunks(bytes)) {
    if (chunk.type === "VP8X") {
      if (canvas || chunk.data.length < 10) return "its VP8X chunk is malformed"
      canvas = { width: u24(chunk.data, 4) + 1, height: u24(chunk.data, 7) + 1 }
      if (chunk.data[0]! & 2) return { ...canvas, animated: true }
    }
    if (chunk.type === "ANMF" || chunk.type === "ANIM")
      return { width: 1, height: 1, ...canvas, animated: true }
    if (chunk.type !== "VP8 " && chunk.type !== "VP8L") continue
    const inner = frame(chunk)
    if (!inner) return "its frame header is malformed"
    if (canvas && (canvas.width !== inner.width || canvas.height !== inner.height))
      return "canvas and picture differ in size"
    return { width: inner.width, height: inner.height, animated: false }
  }
  return "it holds no picture"
}

const u24 = (data: Uint8Array, at: number) => data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16)

/** EXIF and XMP of a WebP file, the first of each. */
export function readWebp(bytes: Uint8Array): Found {
  const found: Found = { texts: new Map() }
  if (bytes.length < 12) return found
  const limits = new Limits()
  for (const { type, data } of chunks(bytes)) {
    if (type === "EXIF" || type === "XMP ") limits.entry(data.length)
    if (type === "EXIF") found.exif ??= data
    else if (type === "XMP ") found.xmp ??= fromUtf8Lenient(data)
  }
  return found
}

const flags = { icc: 0x20, alpha: 0x10, exif: 0x08, xmp: 0x04 }

/** The file in the extended layout with EXIF and XMP at its end, in place of those it had. */
export function writeWebp(
  bytes: Uint8Array,
  exif: Uint8Array | undefined,
  xmp: string | undefined,
): Uint8Array {
  if (!exif && xmp === undefined) return bytes
  const kept: Chunk[] = []
  let has = 0
  let size: Frame | undefined
  for (const part of chunks(bytes)) {
    if (part.type === "VP8X" || (part.type === "EXIF" && exif) || (part.type === "XMP " && xmp !== undefined))
      continue
    kept.push(part)
    size ??= frame(part)
    if (part.type === "ICCP") has |= flags.icc
    if (part.type === "ALPH" || frame(part)?.alpha) has |= flags.alpha
    if (part.type === "EXIF") has |= flags.exif
    if (part.type === "XMP ") has |= flags.xmp
  }
  if (!size) return bytes
  if (exif) kept.push({ type: "EXIF", data: exif })
  if (xmp !== undefined) kept.push({ type: "XMP ", data: utf8(xmp) })
  has |= (exif ? flags.exif : 0) | (xmp === undefined ? 0 : flags.xmp)
  const body = concat([riff({ type: "VP8X", data: extended(has, size) }), ...kept.map(riff)])
  const head = new Uint8Array(12)
  head.set(latin1("RIFF\0\0\0\0WEBP")!)
  view(head).setUint32(4, body.length + 4, true)
  return concat([head, body])
}

function extended(has: number, { width, height }: Frame): Uint8Array {
  const [w, h] = [width - 1, height - 1]
  return Uint8Array.of(has, 0, 0, 0, w & 255, (w >> 8) & 255, w >> 16, h & 255, (h >> 8) & 255, h >> 16)
}

function riff({ type, data }: Chunk): Uint8Array {
  const out = new Uint8Array(8 + data.length + (data.length & 1))
  out.set(latin1(type)!)
  view(out).setUint32(4, data.length, true)
  out.set(data, 8)
  return out
}

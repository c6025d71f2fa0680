import { fail } from "../errors.ts"
import { concat, fromUtf8Lenient, hasAscii, latin1, utf8, view } from "./bytes.ts"
import { type Found, Limits } from "./found.ts"

/** JPEG markers (ITU-T T.81): frame header, APP1 segments; pixels are the decoder's. */

interface Segment {
  marker: number
  /** Without marker and length. */
  data: Uint8Array
  start: number
  end: number
}

const exifName = "Exif\0\0"
const xmpName = "http://ns.adobe.com/xap/1.0/\0"
/** A scan costs a pass over the picture; real progressive files have about ten. */
const maxScans = 100

/** Segments up to the first scan, which comes last. Ends early where the file does. */
function* segments(bytes: Uint8Array): Generator<Segment> {
  let at = 2
  while (at + 4 <= bytes.length) {
    if (bytes[at] !== 0xff) return
    const marker = bytes[at + 1]!
    if (marker === 0xff) {
      at++
      continue
    }
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
      at += 2
      continue
    }
    const length = (bytes[at + 2]! << 8) | bytes[at + 3]!
    const end = at + 2 + length
    if (marker === 0xd9 || length < 2 || end > bytes.length) return
    yield { marker, data: bytes.subarray(at + 4, end), start: at, end }
    if (marker === 0xda) return
    at = end
  }
}

const isFrame = (marker: number) => marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)

interface Size {
  width: number
  height: number
  animated: boolean
  cmyk: boolean
}

/** Size from the frame header; a string says what is wrong. */
export function jpegHeader(bytes: Uint8Array): Size | string {
  let size: Size | undefined
  for (const { marker, data, end } of segments(bytes)) {
    if (isFrame(marker)) {
      if (size) return "it has two frame headers"
      if (![0xc0, 0xc1, 0xc2].includes(marker)) return "it is not baseline or progressive Huffman JPEG"
      if (data.length < 6 || data[0] !== 8) return "it does not have 8 bits per sample"
      const sides = { height: view(data).getUint16(1), width: view(data).getUint16(3) }
      size = { ...sides, animated: false, cmyk: data[5] === 4 }
    }
    if (marker === 0xda) return scans(bytes, end) ?? size ?? "its picture starts before its frame header"
  }
  return size ? "it ends before its picture data" : "it has no frame header"
}

/** Walks the entropy-coded data to the end marker; a string says what is wrong. */
function scans(bytes: Uint8Array, at: number): string | undefined {
  let count = 1
  for (at = bytes.indexOf(0xff, at); at >= 0 && at + 1 < bytes.length; at = bytes.indexOf(0xff, at)) {
    const marker = bytes[at + 1]!
    if (marker === 0xd9) return undefined
    if (marker === 0xda && ++count > maxScans) return `it has more than ${maxScans} scans`
    if (isFrame(marker)) return "it has two frame headers"
    const bare = marker === 0 || marker === 1 || (marker >= 0xd0 && marker <= 0xd7)
    if (marker === 0xff) at += 1
    else if (bare) at += 2
    else at += 2 + Math.max(2, ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0))
  }
  return "it ends before its end marker"
}

/** EXIF and XMP of a JPEG, the first of each. */
export function readJpeg(bytes: Uint8Array): Found {
  const found: Found = { texts: new Map() }
  const limits = new Limits()
  for (const { marker, data } of segments(bytes)) {
    if (marker === 0xfe) limits.entry(data.length)
    if (marker !== 0xe1) continue
    limits.entry(data.length)
    if (hasAscii(data, 0, exifName)) found.exif ??= data.subarray(6)
    else if (hasAscii(data, 0, xmpName)) found.xmp ??= fromUtf8Lenient(data.subarray(xmpName.length))
  }
  return found
}

/** The file with EXIF and XMP put after its JFIF segment, in place of those it had. Throws IMAGE_METADATA_SIZE. */
export function writeJpeg(
  bytes: Uint8Array,
  exif: Uint8Array | undefined,
  xmp: string | undefined,
): Uint8Array {
  const added: Uint8Array[] = []
  if (exif) added.push(app1(exifName, exif))
  if (xmp !== undefined) added.push(app1(xmpName, utf8(xmp)))
  const parts = [bytes.subarray(0, 2)]
  let at = 2
  for (const { marker, data, start, end } of segments(bytes)) {
    if (marker === 0xe0 && at === start) {
      parts.push(bytes.subarray(start, end))
      at = end
      continue
    }
    const replaced =
      marker === 0xe1 &&
      ((exif && hasAscii(data, 0, exifName)) || (xmp !== undefined && hasAscii(data, 0, xmpName)))
    if (!replaced) added.push(bytes.subarray(start, end))
    at = end
  }
  return concat([...parts, ...added, bytes.subarray(at)])
}

function app1(name: string, body: Uint8Array): Uint8Array {
  const length = 2 + name.length + body.length
  if (length > 0xffff) {
    fail("IMAGE_METADATA_SIZE", `${body.length} bytes of metadata do not fit a JPEG segment of 64 KiB`, {
      hint: "write PNG or WebP, or leave the workflow out",
    })
  }
  return concat([Uint8Array.of(0xff, 0xe1, length >> 8, length & 255), latin1(name)!, body])
}

import {
  concat,
  crc32,
  fromLatin1,
  fromUtf8,
  fromUtf8Lenient,
  hasAscii,
  inflate,
  latin1,
  utf8,
  view,
} from "./bytes.ts"
import { type Found, Limits } from "./found.ts"

/** PNG chunks (PNG specification, third edition): header, text and EXIF; pixels are in png-pixels.ts. */

export interface Chunk {
  type: string
  data: Uint8Array
  /** Offsets of the whole chunk, length and CRC included. */
  start: number
  end: number
}

const maxChunks = 65_536

/**
 * Chunks in file order, up to IEND. Ends early where a chunk runs past the end of the file, so
 * callers that need the whole file look for IEND. The data are views, nothing is copied.
 */
export function* pngChunks(bytes: Uint8Array): Generator<Chunk> {
  const data = view(bytes)
  let at = 8
  for (let n = 0; n < maxChunks && at + 12 <= bytes.length; n++) {
    const length = data.getUint32(at)
    const end = at + 12 + length
    if (end > bytes.length) return
    const type = fromLatin1(bytes.subarray(at + 4, at + 8))
    yield { type, data: bytes.subarray(at + 8, end - 4), start: at, end }
    if (type === "IEND") return
    at = end
  }
}

/** Size from IHDR, animation from acTL; a string says what is wrong. */
export function pngHeader(bytes: Uint8Array): { width: number; height: number; animated: boolean } | string {
  if (bytes.length < 33 || !hasAscii(bytes, 12, "IHDR")) return "no complete IHDR chunk"
  const data = view(bytes)
  if (data.getUint32(8) !== 13) return "IHDR has a wrong length"
  if (crc32(bytes.subarray(12, 29)) !== data.getUint32(29)) return "IHDR has a wrong checksum"
  let animated = false
  for (const chunk of pngChunks(bytes)) {
    if (chunk.type === "IDAT") break
    if (chunk.type === "acTL" && chunk.data.length >= 8 && view(chunk.data).getUint32(0) > 1) animated = true
  }
  return { width: data.getUint32(16), height: data.getUint32(20), animated }
}

/** One chunk with its length and CRC. */
export function pngChunk(type: string, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length + 12)
  const to = view(out)
  to.setUint32(0, data.length)
  out.set(latin1(type)!, 4)
  out.set(data, 8)
  to.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)))
  return out
}

const zero = new Uint8Array(1)

/**
 * A text chunk as PIL's PngInfo.add_text makes it: tEXt when ISO 8859-1 holds the text, else iTXt.
 * Text whose ISO 8859-1 bytes would also be UTF-8 goes to iTXt too, because many programs write
 * UTF-8 into tEXt and readers have to guess.
 */
export function textChunk(key: string, text: string): Uint8Array {
  const plain = key === "XML:com.adobe.xmp" ? undefined : latin1(text)
  if (plain && (isAscii(plain) || fromUtf8(plain) === undefined)) {
    return pngChunk("tEXt", concat([keyword(key), zero, plain]))
  }
  return pngChunk("iTXt", concat([keyword(key), new Uint8Array(5), utf8(text)]))
}

/** PNG keywords are 1 to 79 printable ISO 8859-1 characters. */
function keyword(key: string): Uint8Array {
  const safe = key.replace(/[^\x20-\x7e\xa1-\xff]/g, "_").slice(0, 79)
  return latin1(safe === "" ? "_" : safe)!
}

function isAscii(bytes: Uint8Array): boolean {
  return bytes.every((b) => b < 128)
}

/** The file with `texts` put right after IHDR; text chunks of the same keys are replaced. */
export function writePngTexts(bytes: Uint8Array, texts: ReadonlyMap<string, string>): Uint8Array {
  const parts: Uint8Array[] = [bytes.subarray(0, 8)]
  let end = 8
  for (const chunk of pngChunks(bytes)) {
    end = chunk.end
    if (isText(chunk.type) && texts.has(splitKey(chunk.data)[0])) continue
    parts.push(bytes.subarray(chunk.start, chunk.end))
    if (chunk.type === "IHDR") for (const [key, text] of texts) parts.push(textChunk(key, text))
  }
  parts.push(bytes.subarray(end))
  return concat(parts)
}

function isText(type: string): boolean {
  return type === "tEXt" || type === "zTXt" || type === "iTXt"
}

/** Keyword and what follows its zero byte. */
function splitKey(data: Uint8Array): [string, Uint8Array] {
  const at = data.indexOf(0)
  return at < 0
    ? [fromLatin1(data), data.subarray(data.length)]
    : [fromLatin1(data.subarray(0, at)), data.subarray(at + 1)]
}

/**
 * Text, XMP and EXIF of a PNG. Chunks that make no sense are passed over; more than the limits
 * allow is an error (IMAGE_METADATA_LIMIT).
 */
export async function readPng(bytes: Uint8Array): Promise<Found> {
  const found: Found = { texts: new Map() }
  const limits = new Limits()
  for (const { type, data } of pngChunks(bytes)) {
    if (type === "eXIf" && !found.exif) found.exif = data
    if (!isText(type)) continue
    limits.entry(data.length)
    const [key, rest] = splitKey(data)
    const text = await textOf(type, rest, limits)
    if (text === undefined || key === "") continue
    if (key === "XML:com.adobe.xmp") found.xmp ??= text
    else if (!found.texts.has(key)) found.texts.set(key, text)
  }
  found.exif ??= rawProfile(found.texts.get("Raw profile type exif"))
  return found
}

async function textOf(type: string, rest: Uint8Array, limits: Limits): Promise<string | undefined> {
  if (type === "tEXt") return eitherText(rest)
  if (type === "zTXt") {
    if (rest[0] !== 0) return undefined
    const raw = await unpack(rest.subarray(1), limits)
    return raw && eitherText(raw)
  }
  const [compressed, method] = rest
  const language = rest.indexOf(0, 2)
  const translated = language < 0 ? -1 : rest.indexOf(0, language + 1)
  if (translated < 0) return undefined
  const body = rest.subarray(translated + 1)
  if (!compressed) return fromUtf8Lenient(body)
  const raw = method === 0 ? await unpack(body, limits) : undefined
  return raw && fromUtf8Lenient(raw)
}

/** sd.cpp and others write UTF-8 where the specification says ISO 8859-1. */
function eitherText(bytes: Uint8Array): string {
  return fromUtf8(bytes) ?? fromLatin1(bytes)
}

async function unpack(data: Uint8Array, limits: Limits): Promise<Uint8Array | undefined> {
  const most = limits.inflated
  const raw = await inflate([data], most + 1).catch(() => undefined)
  if (raw) limits.inflate(raw.length)
  return raw
}

/** ImageMagick's text form of EXIF: a name, a length, then hexadecimal lines. */
function rawProfile(text: string | undefined): Uint8Array | undefined {
  const hex = text?.split("\n").slice(3).join("").replace(/\s+/g, "")
  if (!hex || hex.length % 2 !== 0 || !/^[0-9a-f]+$/i.test(hex)) return undefined
  return Uint8Array.from({ length: hex.length / 2 }, (_, i) =>
    Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16),
  )
}

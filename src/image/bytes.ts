import { fail } from "../errors.ts"

/** Small readers and writers of bytes that the format files share; no file access, Node and browser alike. */

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const lenient = new TextDecoder("utf-8", { ignoreBOM: true })
const encoder = new TextEncoder()

export function utf8(text: string): Uint8Array {
  return encoder.encode(text)
}

/** Text of UTF-8 bytes, undefined when they are not UTF-8. */
export function fromUtf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

/** Text of UTF-8 bytes with U+FFFD for what is not. */
export function fromUtf8Lenient(bytes: Uint8Array): string {
  return lenient.decode(bytes)
}

/** ISO 8859-1 bytes, undefined when the text has other characters. */
export function latin1(text: string): Uint8Array | undefined {
  const out = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 255) return undefined
    out[i] = code
  }
  return out
}

/** Text of ISO 8859-1 bytes; 0x80..0x9F stay control characters (TextDecoder's latin1 is Windows-1252). */
export function fromLatin1(bytes: Uint8Array): string {
  let out = ""
  for (let i = 0; i < bytes.length; i += 8192) out += String.fromCharCode(...bytes.subarray(i, i + 8192))
  return out
}

export function utf16be(text: string): Uint8Array {
  const out = new Uint8Array(text.length * 2)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    out[2 * i] = code >> 8
    out[2 * i + 1] = code
  }
  return out
}

export function fromUtf16(bytes: Uint8Array, littleEndian: boolean): string {
  const swapped = new Uint8Array(bytes.length & ~1)
  for (let i = 0; i < swapped.length; i += 2) {
    swapped[i] = bytes[littleEndian ? i + 1 : i]!
    swapped[i + 1] = bytes[littleEndian ? i : i + 1]!
  }
  let out = ""
  for (let i = 0; i < swapped.length; i += 8192) {
    const part = swapped.subarray(i, i + 8192)
    const codes: number[] = []
    for (let k = 0; k < part.length; k += 2) codes.push((part[k]! << 8) | part[k + 1]!)
    out += String.fromCharCode(...codes)
  }
  return out
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

export function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** True when `bytes` holds the ASCII `text` at `at`. */
export function hasAscii(bytes: Uint8Array, at: number, text: string): boolean {
  if (at + text.length > bytes.length) return false
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false
  return true
}

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1
  return n >>> 0
})

/** CRC-32 of PNG and zip (ISO 3309). */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (let i = 0; i < bytes.length; i++) crc = crcTable[(crc ^ bytes[i]!) & 255]! ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}

/** zlib stream of the bytes (RFC 1950), by the platform's own CompressionStream. */
export async function deflate(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new CompressionStream("deflate")
  const writer = stream.writable.getWriter()
  const written = writer.write(bytes as Uint8Array<ArrayBuffer>).then(() => writer.close())
  const [parts] = await Promise.all([drain(stream.readable.getReader(), Number.POSITIVE_INFINITY), written])
  return concat(parts)
}

/**
 * At most `limit` bytes of a zlib stream; reading stops there, so a bomb costs no more than the limit.
 * Throws IMAGE_BROKEN when the stream is corrupt or ends before it says so.
 */
export async function inflate(pieces: readonly Uint8Array[], limit: number): Promise<Uint8Array> {
  const stream = new DecompressionStream("deflate")
  const writer = stream.writable.getWriter()
  const feed = async () => {
    for (const piece of pieces) await writer.write(piece as Uint8Array<ArrayBuffer>)
    await writer.close()
  }
  // the reader sees the same failure
  const fed = feed().catch(() => undefined)
  const reader = stream.readable.getReader()
  try {
    const parts = await drain(reader, limit)
    return concat(parts).subarray(0, limit)
  } catch (cause) {
    return fail("IMAGE_BROKEN", "compressed data is corrupt or cut off", { cause })
  } finally {
    await reader.cancel().catch(() => undefined)
    await writer.abort().catch(() => undefined)
    await fed
  }
}

async function drain(reader: ReadableStreamDefaultReader<Uint8Array>, limit: number): Promise<Uint8Array[]> {
  const parts: Uint8Array[] = []
  for (let size = 0; size < limit; ) {
    const { done, value } = await reader.read()
    if (done) break
    parts.push(value)
    size += value.length
  }
  return parts
}

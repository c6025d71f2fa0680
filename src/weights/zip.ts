import { fail } from "../errors.ts"
import type { ByteSource } from "./source.ts"

/** One stored entry of an archive: where its bytes lie in the file. */
export interface ZipEntry {
  name: string
  /** First byte of the content. */
  offset: number
  size: number
  crc: number
}

/** An archive's directory may have so many bytes and entries: SDXL's checkpoint has 0.3 MB and 2,600. */
const DIRECTORY_LIMIT = 32 * 1024 * 1024
const ENTRY_LIMIT = 30_000
const WINDOW = 4096
const END = 0x06054b50
const END64 = 0x06064b50
const LOCATOR64 = 0x07064b50
const CENTRAL = 0x02014b50
const LOCAL = 0x04034b50
const DESCRIPTOR = 0x08074b50
const ALL32 = 0xffffffff
const HAS_DESCRIPTOR = 8
const UTF8_NAME = 0x800

interface Central extends Omit<ZipEntry, "offset"> {
  header: number
  flags: number
}

type Refuse = (code: string, what: string) => never

/**
 * Entries of a zip archive as torch.save writes it, read with one meaning only: stored entries, whose headers here
 * and in the directory say the same, that follow each other without hole or overlap from the first byte to the
 * directory, which ends the file. What unzip tools forgive is an error, since two readers could then disagree.
 * No content is read. Errors: ZIP_*.
 */
export async function readZip(source: ByteSource): Promise<Map<string, ZipEntry>> {
  const refuse: Refuse = (code, what) =>
    fail(code, `${source.name}: as a zip archive it ${what}`, {
      file: source.name,
      hint: "the file is damaged or made to harm; find the model as .safetensors",
    })
  const { start, size, count, end } = await readEnd(source, refuse)
  const near = windowed(source)
  const central = readDirectory(await source.read(start, size), count, refuse)
  if (start + size !== end) refuse("ZIP_DIRECTORY", "has bytes between its directory and its end")
  central.sort((a, b) => a.header - b.header)
  const entries = new Map<string, ZipEntry>()
  let at = 0
  for (const entry of central) {
    if (entry.header !== at)
      refuse(
        entry.header < at ? "ZIP_OVERLAP" : "ZIP_HOLE",
        `has ${entry.header < at ? "overlapping entries" : "a hole"} at byte ${at}`,
      )
    const { offset, next } = await readLocal(near, entry, start, refuse)
    if (entries.has(entry.name)) refuse("ZIP_DUPLICATE", `holds ${show(entry.name)} twice`)
    entries.set(entry.name, { name: entry.name, offset, size: entry.size, crc: entry.crc })
    at = next
  }
  if (at !== start) refuse("ZIP_HOLE", `has a hole at byte ${at}`)
  return entries
}

type Near = (offset: number, length: number) => Promise<Uint8Array>

/** Small reads that mostly follow each other, answered from the last few kilobytes read. */
function windowed(source: ByteSource): Near {
  let from = 0
  let bytes: Uint8Array = new Uint8Array()
  return async (offset, length) => {
    if (offset < from || offset + length > from + bytes.length) {
      bytes = await source.read(offset, Math.min(Math.max(length, WINDOW), source.size - offset))
      from = offset
    }
    return bytes.subarray(offset - from, offset - from + length)
  }
}

const show = (name: string) => JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}...` : name)

interface End {
  start: number
  size: number
  count: number
  /** Where the directory must end. */
  end: number
}

/** The end record, which must end the file: no comment, one disk; and its 64-bit form where one stands before it. */
async function readEnd(source: ByteSource, refuse: Refuse): Promise<End> {
  if (source.size < 22) refuse("ZIP_END", "is too short")
  const tail = Math.min(source.size, 22 + 20 + 56)
  const bytes = viewOf(await source.read(source.size - tail, tail))
  const at = tail - 22
  if (bytes.getUint32(at, true) !== END) refuse("ZIP_END", "does not end with an end record")
  if (bytes.getUint16(at + 20, true) !== 0) refuse("ZIP_END", "has a comment")
  if (bytes.getUint16(at + 4, true) !== 0 || bytes.getUint16(at + 6, true) !== 0)
    refuse("ZIP_END", "spans several disks")
  const short = [8, 10].map((n) => bytes.getUint16(at + n, true))
  const [size, start] = [12, 16].map((n) => bytes.getUint32(at + n, true)) as [number, number]
  const end64 = tail === 98 && bytes.getUint32(at - 20, true) === LOCATOR64
  const found = end64
    ? readEnd64(bytes, source.size, refuse)
    : { start, size, count: short[1]!, end: source.size - 22 }
  const differs = (wide: number, narrow: number, all: number) => narrow !== all && narrow !== wide
  if (short.some((n) => differs(found.count, n, 0xffff))) refuse("ZIP_END", "counts its entries in two ways")
  if (differs(found.size, size, ALL32) || differs(found.start, start, ALL32))
    refuse("ZIP_END", "places its directory in two ways")
  checkEnd(found, refuse)
  return found
}

function checkEnd({ start, size, count, end }: End, refuse: Refuse): void {
  if (size > DIRECTORY_LIMIT || count > ENTRY_LIMIT)
    refuse("ZIP_LIMIT", `has a directory of ${size} bytes and ${count} entries`)
  if (start + size > end) refuse("ZIP_DIRECTORY", "has a directory outside the file")
}

function readEnd64(bytes: DataView, fileSize: number, refuse: Refuse): End {
  const big = (at: number) => {
    const value = bytes.getBigUint64(at, true)
    return value <= BigInt(fileSize) ? Number(value) : refuse("ZIP_END", "has sizes beyond the file")
  }
  const end = fileSize - 98
  if (bytes.getUint32(0, true) !== END64 || big(4) !== 44)
    refuse("ZIP_END", "has no 64-bit end record before its locator")
  if (bytes.getUint32(56 + 4, true) !== 0 || big(56 + 8) !== end || bytes.getUint32(56 + 16, true) !== 1)
    refuse("ZIP_END", "places its 64-bit end record elsewhere")
  if (bytes.getUint32(16, true) !== 0 || bytes.getUint32(20, true) !== 0 || big(24) !== big(32))
    refuse("ZIP_END", "spans several disks")
  return { count: big(32), size: big(40), start: big(48), end }
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

function readDirectory(raw: Uint8Array, count: number, refuse: Refuse): Central[] {
  const bytes = viewOf(raw)
  const out: Central[] = []
  let at = 0
  for (let n = 0; n < count; n++) {
    if (at + 46 > raw.length || bytes.getUint32(at, true) !== CENTRAL)
      refuse("ZIP_DIRECTORY", `has ${count} entries by its end record and ${n} in its directory`)
    const [nameSize, extraSize, commentSize] = [28, 30, 32].map((o) => bytes.getUint16(at + o, true)) as [
      number,
      number,
      number,
    ]
    const next = at + 46 + nameSize + extraSize + commentSize
    if (next > raw.length || commentSize > 0) refuse("ZIP_DIRECTORY", "has an entry that is too long")
    const name = readName(raw.subarray(at + 46, at + 46 + nameSize), refuse)
    if (bytes.getUint16(at + 34, true) !== 0) refuse("ZIP_DIRECTORY", `has ${show(name)} on another disk`)
    const extra = viewOf(raw.subarray(at + 46 + nameSize, next))
    out.push(readCentral(bytes, at, name, extra, refuse))
    at = next
  }
  if (at !== raw.length) refuse("ZIP_DIRECTORY", "has bytes after its last entry")
  return out
}

function readCentral(bytes: DataView, at: number, name: string, extra: DataView, refuse: Refuse): Central {
  const flags = bytes.getUint16(at + 8, true)
  checkMethod(flags, bytes.getUint16(at + 10, true), name, refuse)
  if (bytes.getUint8(at + 41) >>> 4 === 0xa) refuse("ZIP_LINK", `holds the link ${show(name)}`)
  const packed = bytes.getUint32(at + 20, true)
  const plain = bytes.getUint32(at + 24, true)
  const header = bytes.getUint32(at + 42, true)
  const wide = wideFields(extra, [plain, packed, header], name, refuse)
  if (wide[0] !== wide[1]) refuse("ZIP_SIZE", `stores ${show(name)} under two sizes`)
  return { name, flags, crc: bytes.getUint32(at + 16, true), size: wide[0]!, header: wide[2]! }
}

function checkMethod(flags: number, method: number, name: string, refuse: Refuse): void {
  if (method !== 0) refuse("ZIP_COMPRESSED", `compresses ${show(name)}, which torch never does`)
  if ((flags & ~(HAS_DESCRIPTOR | UTF8_NAME)) !== 0)
    refuse("ZIP_FLAGS", `sets unusual flags for ${show(name)}`)
}

/** Names are UTF-8 without control characters and backslashes: what two readers cannot read in two ways. */
function readName(bytes: Uint8Array, refuse: Refuse): string {
  try {
    const name = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
    if (/^[^\p{Cc}\p{Cf}\\]+$/u.test(name)) return name
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
  }
  return refuse("ZIP_NAME", "has a name of other than plain characters")
}

/** Fields that are all ones stand in the zip64 extra field instead, in this order. */
function wideFields(extra: DataView, fields: number[], name: string, refuse: Refuse): number[] {
  let wide: DataView | undefined
  for (let at = 0; at < extra.byteLength; ) {
    if (at + 4 > extra.byteLength) refuse("ZIP_EXTRA", `has a torn extra field at ${show(name)}`)
    const size = extra.getUint16(at + 2, true)
    if (at + 4 + size > extra.byteLength) refuse("ZIP_EXTRA", `has a torn extra field at ${show(name)}`)
    if (extra.getUint16(at, true) === 1) {
      if (wide) refuse("ZIP_EXTRA", `gives the sizes of ${show(name)} twice`)
      wide = new DataView(extra.buffer, extra.byteOffset + at + 4, size)
    }
    at += 4 + size
  }
  let used = 0
  return fields.map((field) => {
    if (field !== ALL32 || wide === undefined) return field
    if (used + 8 > wide.byteLength) refuse("ZIP_EXTRA", `lacks a 64-bit size of ${show(name)}`)
    const value = wide.getBigUint64(used, true)
    used += 8
    return value <= BigInt(Number.MAX_SAFE_INTEGER)
      ? Number(value)
      : refuse("ZIP_SIZE", `has a size beyond 2^53`)
  })
}

/** The header before an entry's content and the record after it, which must agree with the directory. */
async function readLocal(
  near: Near,
  entry: Central,
  limit: number,
  refuse: Refuse,
): Promise<{ offset: number; next: number }> {
  const name = show(entry.name)
  const { header } = entry
  if (header + 30 > limit) refuse("ZIP_LOCAL", `has no header for ${name}`)
  const fixed = viewOf(await near(header, 30))
  const nameSize = fixed.getUint16(26, true)
  const extraSize = fixed.getUint16(28, true)
  const offset = header + 30 + nameSize + extraSize
  if (fixed.getUint32(0, true) !== LOCAL || offset > limit) refuse("ZIP_LOCAL", `has no header for ${name}`)
  const rest = await near(header + 30, nameSize + extraSize)
  if (readName(rest.subarray(0, nameSize), refuse) !== entry.name || fixed.getUint16(6, true) !== entry.flags)
    refuse("ZIP_LOCAL", `calls ${name} by two names or flags`)
  checkMethod(entry.flags, fixed.getUint16(8, true), entry.name, refuse)
  const sizes = [fixed.getUint32(22, true), fixed.getUint32(18, true)]
  const [plain, packed] = wideFields(viewOf(rest.subarray(nameSize)), sizes, entry.name, refuse)
  const crc = fixed.getUint32(14, true)
  const later = (entry.flags & HAS_DESCRIPTOR) !== 0
  // with a descriptor to follow the fields here are zero
  const same = (here: number | undefined, there: number) => here === there || (later && here === 0)
  if (!same(crc, entry.crc) || !same(plain, entry.size) || !same(packed, entry.size))
    refuse("ZIP_LOCAL", `gives ${name} two sizes or checksums`)
  const end = offset + entry.size
  if (!(end <= limit)) refuse("ZIP_SIZE", `has ${name} reach beyond its directory`)
  return { offset, next: later ? end + (await descriptor(near, entry, end, limit, refuse)) : end }
}

/** Bytes of the data descriptor: 16, or 24 where sizes are 64 bits wide. */
async function descriptor(
  near: Near,
  entry: Central,
  at: number,
  limit: number,
  refuse: Refuse,
): Promise<number> {
  const bytes = viewOf(await near(at, Math.min(24, limit - at)))
  const has = (length: number) => bytes.byteLength >= length
  const head = has(8) && bytes.getUint32(0, true) === DESCRIPTOR && bytes.getUint32(4, true) === entry.crc
  if (head && has(24) && entry.size >= ALL32) {
    const wide = [8, 16].every((n) => bytes.getBigUint64(n, true) === BigInt(entry.size))
    if (wide) return 24
  }
  if (head && has(16) && [8, 12].every((n) => bytes.getUint32(n, true) === entry.size)) return 16
  if (head && has(24) && [8, 16].every((n) => bytes.getBigUint64(n, true) === BigInt(entry.size))) return 24
  return refuse("ZIP_LOCAL", `has no descriptor that fits ${show(entry.name)}`)
}

export function badChecksum(file: string, offset: number): never {
  fail("ZIP_CRC", `${file}: the bytes from ${offset} on do not have the checksum that the archive gives`, {
    file,
    hint: "the file is damaged; fetch it again",
  })
}

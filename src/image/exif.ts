import { fail } from "../errors.ts"
import { concat, fromLatin1, fromUtf8, fromUtf16, hasAscii, utf8, utf16be, view } from "./bytes.ts"

/** EXIF (CIPA DC-008, a TIFF 6.0 structure): what image generators write, and the orientation. */

const orientationTag = 0x0112
const exifIfdTag = 0x8769
const userCommentTag = 0x9286
const makeTag = 0x010f
const modelTag = 0x0110
/** Make and the three below it; further down lie tags that decoders act on. */
const lowestTag = 0x010c

/** Bytes per value of TIFF types 1 to 13. */
const sizes = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4]

export interface Exif {
  /** As stored, 1 to 8 when it makes sense. */
  orientation?: number
  userComment?: string
  /** ASCII fields by tag number. */
  texts: Map<number, string>
}

/**
 * Reads a TIFF structure, "Exif\0\0" in front or not. Total: what makes no sense is passed over.
 * Directories are visited once, 4096 entries at most, offsets never leave the bytes.
 */
export function readExif(bytes: Uint8Array): Exif {
  const exif: Exif = { texts: new Map() }
  const tiff = hasAscii(bytes, 0, "Exif\0\0") ? bytes.subarray(6) : bytes
  const little = hasAscii(tiff, 0, "II*\0")
  if (!little && !hasAscii(tiff, 0, "MM\0*")) return exif
  if (tiff.length < 8) return exif
  const data = view(tiff)
  const visited = new Set<number>()
  const pending = [data.getUint32(4, little)]
  let budget = 4096
  while (pending.length > 0) {
    const at = pending.shift()!
    if (visited.has(at) || at < 8 || at + 2 > tiff.length || visited.size >= 16) continue
    visited.add(at)
    const count = data.getUint16(at, little)
    for (
      let i = 0, entry = at + 2;
      i < count && entry + 12 <= tiff.length && budget-- > 0;
      i++, entry += 12
    ) {
      const sub = readEntry(exif, tiff, data, entry, little)
      if (sub !== undefined) pending.push(sub)
    }
  }
  return exif
}

/** Takes one directory entry; returns the offset of a directory it points to. */
function readEntry(
  exif: Exif,
  tiff: Uint8Array,
  data: DataView,
  entry: number,
  little: boolean,
): number | undefined {
  const tag = data.getUint16(entry, little)
  const type = data.getUint16(entry + 2, little)
  const count = data.getUint32(entry + 4, little)
  if (tag === exifIfdTag && count === 1 && (type === 4 || type === 13))
    return data.getUint32(entry + 8, little)
  if (tag === orientationTag && count === 1 && (type === 1 || type === 3 || type === 4)) {
    const at = entry + 8
    exif.orientation ??=
      type === 1 ? tiff[at]! : type === 3 ? data.getUint16(at, little) : data.getUint32(at, little)
    return undefined
  }
  const size = (sizes[type] ?? 0) * count
  if (size === 0) return undefined
  const from = size <= 4 ? entry + 8 : data.getUint32(entry + 8, little)
  if (from + size > tiff.length) return undefined
  const value = tiff.subarray(from, from + size)
  if (tag === userCommentTag) exif.userComment ??= commentText(value, little)
  else if (type === 2 && !exif.texts.has(tag)) exif.texts.set(tag, plainText(value))
  return undefined
}

function plainText(bytes: Uint8Array): string {
  let end = bytes.length
  while (end > 0 && bytes[end - 1] === 0) end--
  const text = bytes.subarray(0, end)
  return fromUtf8(text) ?? fromLatin1(text)
}

/**
 * UserComment by its 8-byte prefix. UNICODE is UTF-16: big-endian in big-endian files, as A1111
 * writes it through piexif; in little-endian files both orders are found, so the likelier is taken.
 */
function commentText(bytes: Uint8Array, little: boolean): string {
  if (hasAscii(bytes, 0, "UNICODE\0")) {
    const body = bytes.subarray(8)
    return fromUtf16(body, little && looksLittle(body))
  }
  const prefixed = hasAscii(bytes, 0, "ASCII\0\0\0") || hasAscii(bytes, 0, "\0\0\0\0\0\0\0\0")
  return plainText(prefixed ? bytes.subarray(8) : bytes)
}

/** Most text has more zero (or low) high bytes than low bytes. */
function looksLittle(bytes: Uint8Array): boolean {
  let score = 0
  for (let i = 0; i + 1 < bytes.length; i += 2) {
    if (bytes[i + 1]! < 3) score++
    if (bytes[i]! < 3) score--
  }
  return score >= 0
}

/** The keys ComfyUI puts into WebP: "prompt:" in Model, "workflow:" in Make, more in the tags below. */
export function comfyTexts(exif: Exif): Map<string, string> {
  const found = new Map<string, string>()
  for (const [tag, text] of exif.texts) {
    const match = tag <= modelTag && tag >= lowestTag ? /^([A-Za-z_][\w. -]{0,78}):/.exec(text) : null
    if (match && !found.has(match[1]!)) found.set(match[1]!, text.slice(match[0].length))
  }
  return found
}

interface Field {
  tag: number
  type: number
  value: Uint8Array
}

/**
 * A big-endian TIFF structure with a UserComment (UNICODE prefix, UTF-16) and ComfyUI's
 * "key:value" fields: `prompt` in Model, the others in Make and the tags below it.
 * @returns undefined when there is nothing to say
 */
export function buildExif(
  userComment: string | undefined,
  texts: ReadonlyMap<string, string>,
): Uint8Array | undefined {
  const main: Field[] = []
  let tag = makeTag
  for (const [key, text] of texts) {
    const value = concat([utf8(`${key}:${text}`), new Uint8Array(1)])
    main.push({ tag: key === "prompt" ? modelTag : tag--, type: 2, value })
  }
  if (tag < lowestTag - 1) {
    fail("IMAGE_METADATA_SIZE", `${texts.size} text fields do not fit into EXIF`, {
      hint: "write PNG, or fewer fields",
    })
  }
  if (main.length === 0 && userComment === undefined) return undefined
  const header = Uint8Array.of(0x4d, 0x4d, 0, 42, 0, 0, 0, 8)
  if (userComment === undefined) return concat([header, directory(main, 8)])
  const pointer: Field = { tag: exifIfdTag, type: 4, value: new Uint8Array(4) }
  const comment = concat([utf8("UNICODE\0"), utf16be(userComment)])
  const first = directory([...main, pointer], 8)
  view(pointer.value).setUint32(0, 8 + first.length)
  const second = directory([{ tag: userCommentTag, type: 7, value: comment }], 8 + first.length)
  return concat([header, directory([...main, pointer], 8), second])
}

/** One directory at offset `base`, entries sorted by tag, values behind it, padded to an even length. */
function directory(fields: Field[], base: number): Uint8Array {
  const sorted = [...fields].sort((a, b) => a.tag - b.tag)
  const table = new Uint8Array(2 + 12 * sorted.length + 4)
  const to = view(table)
  to.setUint16(0, sorted.length)
  const parts: Uint8Array[] = [table]
  let end = base + table.length
  for (const [i, { tag, type, value }] of sorted.entries()) {
    const entry = 2 + 12 * i
    to.setUint16(entry, tag)
    to.setUint16(entry + 2, type)
    to.setUint32(entry + 4, value.length / sizes[type]!)
    if (value.length <= 4) {
      table.set(value, entry + 8)
      continue
    }
    to.setUint32(entry + 8, end)
    parts.push(value, new Uint8Array(value.length % 2))
    end += value.length + (value.length % 2)
  }
  return concat(parts)
}

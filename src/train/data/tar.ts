import { open } from "node:fs/promises"
import {
  type Columns,
  captionOf,
  type Entry,
  type Listing,
  type Problem,
  pick,
  pictureEnding,
} from "./entry.ts"

/** A regular file in a tar archive. */
export interface Member {
  readonly name: string
  readonly offset: number
  readonly size: number
}

const block = 512
const text = (bytes: Uint8Array) => {
  const end = bytes.indexOf(0)
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString("utf8")
}

/** A number as tar writes it: octal digits, or two's complement behind a set first bit (GNU). */
function numberOf(bytes: Uint8Array): number {
  if ((bytes[0]! & 0x80) === 0) {
    const digits = text(bytes).trim()
    return digits === "" ? 0 : /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN
  }
  return bytes.subarray(1).reduce((n, b) => n * 256 + b, bytes[0]! & 0x7f)
}

/** Whether the header's checksum is its own: the sum of its bytes with blanks in the checksum's place. */
const sound = (header: Uint8Array): boolean =>
  numberOf(header.subarray(148, 156)) ===
  header.reduce((sum, b, i) => sum + (i >= 148 && i < 156 ? 32 : b), 0)

/** `path` and `size` among the records of a pax header (POSIX.1-2001): `LENGTH KEY=VALUE\n`. */
function paxFields(body: Buffer): Record<string, string> {
  const out: Record<string, string> = {}
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(32, at)
    const length = Number(body.subarray(at, space).toString("latin1"))
    if (space < 0 || !(length > 0)) break
    const record = body.subarray(space + 1, at + length - 1).toString("utf8")
    const equals = record.indexOf("=")
    out[record.slice(0, equals)] = record.slice(equals + 1)
    at += length
  }
  return out
}

/**
 * Lists the regular files of a tar archive from its headers alone (ustar, pax and GNU long names). Links and devices are
 * passed over: nothing of an archive is ever written to a disk.
 * @returns what could be read, and what stopped the reading where the archive is damaged
 */
export async function tarMembers(path: string): Promise<{ members: Member[]; broken: string | null }> {
  const handle = await open(path, "r")
  try {
    const { size: total } = await handle.stat()
    const at = async (offset: number, length: number) => {
      const buffer = Buffer.alloc(length)
      return buffer.subarray(0, (await handle.read(buffer, 0, length, offset)).bytesRead)
    }
    const members: Member[] = []
    let pending: Record<string, string> = {}
    for (let offset = 0; offset + block <= total; ) {
      const header = await at(offset, block)
      if (header.every((b) => b === 0)) return { members, broken: null }
      const type = String.fromCharCode(header[156]!)
      const size = Number(pending.size ?? numberOf(header.subarray(124, 136)))
      if (!sound(header)) return { members, broken: `no header at byte ${offset}` }
      if (!Number.isSafeInteger(size) || size < 0 || offset + block + size > total)
        return { members, broken: `the member at byte ${offset} is cut off` }
      const body = offset + block
      offset = body + Math.ceil(size / block) * block
      if ("xgLK".includes(type)) {
        if (size > 1 << 20) return { members, broken: `a name of ${size} bytes` }
        const bytes = await at(body, size)
        if (type === "x") pending = { ...pending, ...paxFields(bytes) }
        else if (type === "L") pending = { ...pending, path: text(bytes) }
        continue
      }
      const prefix = text(header.subarray(257, 263)) === "ustar" ? text(header.subarray(345, 500)) : ""
      const short = text(header.subarray(0, 100))
      const name = pending.path ?? (prefix === "" ? short : `${prefix}/${short}`)
      if (type === "0" || type === "\0" || type === "7") members.push({ name, offset: body, size })
      pending = {}
    }
    return { members, broken: "it ends without an end mark" }
  } finally {
    await handle.close()
  }
}

async function readRange(path: string, { offset, size }: Member): Promise<Uint8Array> {
  const handle = await open(path, "r")
  try {
    const bytes = new Uint8Array(size)
    await handle.read(bytes, 0, size, offset)
    return bytes
  } finally {
    await handle.close()
  }
}

/** A sample's key and the rest of its name, as WebDataset cuts them: at the first dot of the base name. */
function cut(name: string): { key: string; ending: string } {
  const base = name.lastIndexOf("/") + 1
  const dot = name.indexOf(".", base)
  return dot < 0
    ? { key: name, ending: "" }
    : { key: name.slice(0, dot), ending: name.slice(dot + 1).toLowerCase() }
}

/** Entries of a WebDataset shard: files of one key are one sample: a picture, and `.txt`, `.caption` or `.json`. */
export async function tarEntries(path: string, where: string, columns: Columns): Promise<Listing> {
  const { members, broken } = await tarMembers(path)
  const problems: Problem[] =
    broken === null ? [] : [{ code: "DATA_ARCHIVE", what: `damaged tar: ${broken}`, where }]
  const samples = new Map<string, Map<string, Member>>()
  for (const member of members) {
    const { key, ending } = cut(member.name)
    if (!samples.has(key)) samples.set(key, new Map())
    samples.get(key)!.set(ending, member)
  }
  const entries: Entry[] = []
  for (const [key, parts] of samples) {
    const image =
      [...parts].find(([ending]) => /^(png|jpe?g|webp)$/.test(ending)) ??
      [...parts].find(([e]) => pictureEnding.test(`.${e}`))
    if (!image) {
      problems.push({ code: "DATA_NO_PICTURE", what: "a sample without a picture", where: `${where}:${key}` })
      continue
    }
    const member = image[1]
    entries.push({
      where: `${where}:${member.name}`,
      read: () => readRange(path, member),
      caption: await captionIn(path, parts, columns),
      ...sides(path, where, parts),
    })
  }
  return { entries, problems }
}

function sides(
  path: string,
  where: string,
  parts: ReadonlyMap<string, Member>,
): Partial<Pick<Entry, "mask" | "condition">> {
  const part = (names: RegExp) => {
    const member = [...parts].find(([ending]) => names.test(ending))?.[1]
    return member && { where: `${where}:${member.name}`, read: () => readRange(path, member) }
  }
  const [mask, condition] = [
    part(/^mask\.(png|jpe?g|webp)$/),
    part(/^(cond|conditioning)\.(png|jpe?g|webp)$/),
  ]
  return { ...(mask ? { mask } : {}), ...(condition ? { condition } : {}) }
}

const longest = 1 << 20

async function captionIn(
  path: string,
  parts: ReadonlyMap<string, Member>,
  columns: Columns,
): Promise<string> {
  const plain = parts.get("txt") ?? parts.get("caption")
  const read = async (m: Member) =>
    Buffer.from(await readRange(path, { ...m, size: Math.min(m.size, longest) })).toString("utf8")
  if (plain) return captionOf(await read(plain))
  const json = parts.get("json")
  if (!json) return ""
  try {
    const found = pick(JSON.parse(await read(json)) as Record<string, unknown>, columns.text)
    return typeof found === "string" ? captionOf(found) : ""
  } catch {
    return ""
  }
}

/** Writes pickles and the two forms of torch files byte by byte: whole ones, and the many that must be refused. */

const text = (value: string) => Buffer.from(value, "utf8")
const u16 = (n: number) => Buffer.from([n & 255, (n >> 8) & 255])
const u32 = (n: number) => {
  const out = Buffer.alloc(4)
  out.writeUInt32LE(n >>> 0)
  return out
}
const u64 = (n: number | bigint) => {
  const out = Buffer.alloc(8)
  out.writeBigUInt64LE(BigInt.asUintN(64, BigInt(n)))
  return out
}
export const little = { u16, u32, u64 }

export type Bytes = Uint8Array
/** Bytes, or Latin-1 text or numbers that stand for them. */
export type Part = string | number[] | Bytes

/** The opcodes of one protocol (0 to 5), each as the bytes that put its value on the stack. */
export class Opcodes {
  readonly protocol: number

  constructor(protocol = 2) {
    this.protocol = protocol
  }

  string(value: string): Bytes {
    const bytes = text(value)
    if (this.protocol === 0) return text(`V${value}\n`)
    if (this.protocol >= 4 && bytes.length < 256) return join([0x8c, bytes.length], bytes)
    return join("X", u32(bytes.length), bytes)
  }

  int(value: number): Bytes {
    if (this.protocol === 0) return text(`I${value}\n`)
    if (value >= 0 && value < 256) return join("K", [value])
    if (value >= 0 && value < 65536) return join("M", u16(value))
    if (Math.abs(value) < 2 ** 31) return join("J", u32(value))
    return this.protocol < 2 ? text(`L${value}L\n`) : join([0x8a, 8], u64(value))
  }

  bool(value: boolean): Bytes {
    return this.protocol < 2 ? text(`I0${value ? 1 : 0}\n`) : join([value ? 0x88 : 0x89])
  }

  none(): Bytes {
    return text("N")
  }

  tuple(...items: Bytes[]): Bytes {
    return items.length === 0 && this.protocol > 0 ? text(")") : join("(", ...items, "t")
  }

  list(...items: Bytes[]): Bytes {
    return this.protocol === 0 ? join("(", ...items, "l") : join("](", ...items, "e")
  }

  dict(...pairs: [Bytes, Bytes][]): Bytes {
    return this.protocol === 0 ? join("(", ...pairs.flat(), "d") : join("}(", ...pairs.flat(), "u")
  }

  global(module: string, name: string): Bytes {
    return this.protocol >= 4
      ? join(this.string(module), this.string(name), [0x93])
      : text(`c${module}\n${name}\n`)
  }

  call(module: string, name: string, ...args: Bytes[]): Bytes {
    return join(this.global(module, name), this.tuple(...args), "R")
  }

  persistent(id: Bytes): Bytes {
    return join(id, "Q")
  }

  storage(key = "0", count = 4, type = "FloatStorage"): Bytes {
    const parts = [this.string("storage"), this.global("torch", type), this.string(key), this.string("cpu")]
    return this.persistent(this.tuple(...parts, this.int(count)))
  }

  tensor(storage = this.storage(), shape: number[] = [2, 2], strides = [2, 1], offset = 0): Bytes {
    const list = (values: number[]) => this.tuple(...values.map((n) => this.int(n)))
    const parts = [storage, this.int(offset), list(shape), list(strides), this.bool(false)]
    return this.call("torch._utils", "_rebuild_tensor_v2", ...parts, this.call("collections", "OrderedDict"))
  }

  /** The whole pickle: protocol line, frame from protocol 4 on, STOP. */
  whole(...body: Part[]): Bytes {
    const inner = join(...body, ".")
    const head = this.protocol >= 2 ? [0x80, this.protocol] : []
    return this.protocol >= 4 ? join(head, [0x95], u64(inner.length), inner) : join(head, inner)
  }

  /** A state dict of one good tensor and of what is given. */
  state(...more: [string, Bytes][]): Bytes {
    const pairs: [string, Bytes][] = [["weight", this.tensor()], ...more]
    return this.whole(this.dict(...pairs.map(([key, value]): [Bytes, Bytes] => [this.string(key), value])))
  }
}

/** Strings are Latin-1 opcodes. */
export function join(...parts: Part[]): Bytes {
  return Buffer.concat(parts.map((p) => (typeof p === "string" ? Buffer.from(p, "latin1") : Buffer.from(p))))
}

const crcTable = Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1
  return n
})

export function crc32(bytes: Bytes): number {
  let crc = ~0
  for (let i = 0; i < bytes.length; i++) crc = crcTable[(crc ^ bytes[i]!) & 255]! ^ (crc >>> 8)
  return ~crc >>> 0
}

/** One entry of an archive; every field can be made to lie. */
export interface Entry {
  name: string
  bytes: Bytes
  method?: number
  flags?: number
  crc?: number
  size?: number
  packed?: number
  localName?: string
  localSize?: number
  localCrc?: number
  header?: number
  extra?: Bytes
  attributes?: number
  comment?: string
}

export interface Archive {
  before?: Bytes
  between?: Bytes
  count?: number
  directorySize?: number
  directoryStart?: number
  disk?: number
  comment?: string
  after?: Bytes
  zip64?: Partial<{
    count: number | bigint
    size: number | bigint
    start: number | bigint
    at: number | bigint
  }>
}

/** A zip archive of stored entries, as honest as its arguments. */
export function zip(entries: Entry[], lies: Archive = {}): Bytes {
  const out: Bytes[] = [lies.before ?? Buffer.alloc(0)]
  let at = out[0]!.length
  const central: Bytes[] = []
  const push = (bytes: Bytes) => {
    out.push(bytes)
    at += bytes.length
  }
  for (const [i, entry] of entries.entries()) {
    central.push(directoryEntry(entry, entry.header ?? at))
    const name = text(entry.localName ?? entry.name)
    const size = entry.localSize ?? entry.size ?? entry.bytes.length
    const crc = entry.localCrc ?? entry.crc ?? crc32(entry.bytes)
    const fixed = [
      u16(20),
      u16(entry.flags ?? 0),
      u16(entry.method ?? 0),
      u32(0),
      u32(crc),
      u32(size),
      u32(size),
    ]
    push(join("PK\x03\x04", ...fixed, u16(name.length), u16(0), name, entry.bytes))
    if (i === 0 && lies.between) push(lies.between)
  }
  const directory = join(...central)
  const start = lies.directoryStart ?? at
  const count = lies.count ?? entries.length
  const size = lies.directorySize ?? directory.length
  const wide = lies.zip64 ? end64(lies.zip64, { count, size, start, at: at + directory.length }) : []
  const comment = text(lies.comment ?? "")
  const disk = u16(lies.disk ?? 0)
  const end = [disk, disk, u16(count), u16(count), u32(size), u32(start), u16(comment.length), comment]
  return join(...out, directory, ...wide, "PK\x05\x06", ...end, lies.after ?? [])
}

function directoryEntry(entry: Entry, header: number): Bytes {
  const name = text(entry.name)
  const extra = entry.extra ?? Buffer.alloc(0)
  const comment = text(entry.comment ?? "")
  const size = entry.size ?? entry.bytes.length
  const sizes = [u32(entry.crc ?? crc32(entry.bytes)), u32(entry.packed ?? size), u32(size)]
  const head = [u16(20), u16(20), u16(entry.flags ?? 0), u16(entry.method ?? 0), u32(0), ...sizes]
  const tail = [u16(comment.length), u16(0), u16(0), u32(entry.attributes ?? 0), u32(header)]
  return join("PK\x01\x02", ...head, u16(name.length), u16(extra.length), ...tail, name, extra, comment)
}

function end64(
  lies: NonNullable<Archive["zip64"]>,
  true_: { count: number; size: number; start: number; at: number },
): Bytes[] {
  const { count, size, start, at } = { ...true_, ...lies }
  const record = [u64(44), u16(45), u16(45), u32(0), u32(0), u64(count), u64(count), u64(size), u64(start)]
  return [join("PK\x06\x06", ...record), join("PK\x06\x07", u32(0), u64(at), u32(1))]
}

/** Four floats, the storage of the good tensor. */
export const floats = Buffer.from(new Float32Array([1, -2, 3.5, 4]).buffer)

/** A torch archive around a pickle, with storages under their keys. */
export function torchZip(
  pickle: Bytes,
  storages: Record<string, Bytes> = { 0: floats },
  more: Entry[] = [],
): Entry[] {
  return [
    { name: "archive/data.pkl", bytes: pickle },
    ...Object.entries(storages).map(([key, bytes]) => ({ name: `archive/data/${key}`, bytes })),
    ...more,
    { name: "archive/version", bytes: text("3\n") },
  ]
}

/** A file of torch before 1.6 around a pickle of the same protocol. */
export function torchLegacy(
  pickle: Bytes,
  storages: Record<string, Bytes> = { 0: floats },
  heads?: Bytes[],
): Bytes {
  const p = new Opcodes(2)
  const keys = p.whole(p.list(...Object.keys(storages).map((key) => p.string(key))))
  const data = Object.values(storages).flatMap((bytes) => [u64(bytes.length / 4), bytes])
  return join(...(heads ?? legacyHeads()), pickle, keys, ...data)
}

/** The three pickles before the object: magic number, protocol, machine. */
export function legacyHeads(change: { magic?: Bytes; protocol?: number; little?: boolean } = {}): Bytes[] {
  const p = new Opcodes(2)
  const magic = change.magic ?? join([0x8a, 10], Buffer.from("6cfc9c46f9206aa85019", "hex"))
  return [
    p.whole(magic),
    p.whole(p.int(change.protocol ?? 1001)),
    p.whole(p.dict([p.string("little_endian"), p.bool(change.little ?? true)])),
  ]
}

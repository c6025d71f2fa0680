import { open, rename } from "node:fs/promises"
import { crc32 } from "./crc32.ts"

/** A float32 tensor to be saved. */
export interface TensorToSave {
  readonly shape: readonly number[]
  readonly data: Float32Array
}

/** A Python float, where a plain number that is whole would become an int. */
export class PythonFloat {
  readonly value: number
  constructor(value: number) {
    this.value = value
  }
}

/** What can be saved: plain Python values and tensors; a Map is a dict whose keys may be numbers. */
export type Saved =
  | null
  | boolean
  | number
  | string
  | PythonFloat
  | TensorToSave
  | readonly Saved[]
  | ReadonlyMap<string | number, Saved>

const isTensor = (v: object): v is TensorToSave => "shape" in v && "data" in v

/** Pickle, protocol 2 (Python's pickletools), of values as `torch.save` writes them; tensors' bytes stand apart. */
class Pickler {
  readonly storages: Float32Array[] = []
  private readonly parts: Buffer[] = [Buffer.from([0x80, 2])]

  private raw(...bytes: number[]): void {
    this.parts.push(Buffer.from(bytes))
  }

  private int(value: number): void {
    const out = Buffer.alloc(5)
    out.write("J", "latin1")
    out.writeInt32LE(value, 1)
    this.parts.push(out)
  }

  private float(value: number): void {
    const out = Buffer.alloc(9)
    out.write("G", "latin1")
    out.writeDoubleBE(value, 1)
    this.parts.push(out)
  }

  private text(value: string): void {
    const bytes = Buffer.from(value, "utf8")
    const head = Buffer.alloc(5)
    head.write("X", "latin1")
    head.writeUInt32LE(bytes.length, 1)
    this.parts.push(head, bytes)
  }

  private global(module: string, name: string): void {
    this.parts.push(Buffer.from(`c${module}\n${name}\n`, "latin1"))
  }

  private tuple(values: readonly number[]): void {
    this.raw(0x28)
    for (const v of values) this.int(v)
    this.raw(0x74)
  }

  value(v: Saved): void {
    if (v === null) this.raw(0x4e)
    else if (typeof v === "boolean") this.raw(v ? 0x88 : 0x89)
    else if (typeof v === "number") Number.isInteger(v) && Math.abs(v) < 2 ** 31 ? this.int(v) : this.float(v)
    else if (typeof v === "string") this.text(v)
    else if (v instanceof PythonFloat) this.float(v.value)
    else if (v instanceof Map) this.dict(v)
    else if (Array.isArray(v)) this.list(v)
    else if (isTensor(v)) this.tensor(v)
    else throw new TypeError("this value cannot be saved")
  }

  private dict(map: ReadonlyMap<string | number, Saved>): void {
    this.raw(0x7d, 0x28)
    for (const [key, item] of map) {
      this.value(key)
      this.value(item)
    }
    this.raw(0x75)
  }

  private list(items: readonly Saved[]): void {
    this.raw(0x5d, 0x28)
    for (const item of items) this.value(item)
    this.raw(0x65)
  }

  /** `_rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks)`; the storage is named by a persistent id. */
  private tensor({ shape, data }: TensorToSave): void {
    this.global("torch._utils", "_rebuild_tensor_v2")
    this.raw(0x28, 0x28)
    this.text("storage")
    this.global("torch", "FloatStorage")
    this.text(String(this.storages.length))
    this.text("cpu")
    this.int(data.length)
    this.raw(0x74, 0x51)
    this.int(0)
    this.tuple(shape)
    this.tuple(shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1)))
    this.raw(0x89)
    this.global("collections", "OrderedDict")
    this.raw(0x29, 0x52, 0x74, 0x52)
    this.storages.push(data)
  }

  bytes(): Buffer {
    return Buffer.concat([...this.parts, Buffer.from(".")])
  }
}

/**
 * Writes a file that `torch.load` reads, with `weights_only` as well: a zip archive without compression of one pickle
 * and each tensor's bytes. Archives of 4 GB and more are not written. @throws RangeError for those
 */
export async function writeTorchFile(path: string, value: Saved): Promise<void> {
  const pickler = new Pickler()
  pickler.value(value)
  const utf8 = (text: string) => Buffer.from(text, "utf8")
  const files: [string, Uint8Array][] = [
    ["archive/data.pkl", pickler.bytes()],
    ["archive/byteorder", utf8("little")],
    ...pickler.storages.map((data, i): [string, Uint8Array] => [
      `archive/data/${i}`,
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    ]),
    ["archive/version", utf8("3\n")],
  ]
  const handle = await open(`${path}.tmp`, "w")
  try {
    await writeZip(files, (bytes) => handle.writeFile(bytes))
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(`${path}.tmp`, path)
}

/** A zip archive of stored files (PKWARE's APPNOTE, 4.3), each beginning at a multiple of 64 bytes as torch lays them. */
async function writeZip(
  files: readonly [string, Uint8Array][],
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const directory: Buffer[] = []
  let at = 0
  for (const [name, bytes] of files) {
    const label = Buffer.from(name, "utf8")
    const gap = (64 - ((at + 30 + label.length + 4) % 64)) % 64
    const fields = Buffer.alloc(26)
    fields.writeUInt16LE(20, 0)
    fields.writeUInt16LE(0x21, 8)
    fields.writeUInt32LE(crc32(bytes), 10)
    fields.writeUInt32LE(bytes.length, 14)
    fields.writeUInt32LE(bytes.length, 18)
    fields.writeUInt16LE(label.length, 22)
    // torch's own name for its padding
    const extra = Buffer.alloc(4 + gap)
    extra.write("FB", "latin1")
    extra.writeUInt16LE(gap, 2)
    const local = Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), fields, label, extra])
    local.writeUInt16LE(extra.length, 28)
    const central = Buffer.alloc(46)
    central.write("PK\x01\x02", "latin1")
    central.writeUInt16LE(20, 4)
    fields.copy(central, 6, 0, 24)
    central.writeUInt32LE(at, 42)
    directory.push(central, label)
    await write(local)
    await write(bytes)
    at += local.length + bytes.length
  }
  const listed = Buffer.concat(directory)
  const end = Buffer.alloc(22)
  end.write("PK\x05\x06", "latin1")
  end.writeUInt16LE(files.length, 8)
  end.writeUInt16LE(files.length, 10)
  end.writeUInt32LE(listed.length, 12)
  end.writeUInt32LE(at, 16)
  await write(listed)
  await write(end)
}

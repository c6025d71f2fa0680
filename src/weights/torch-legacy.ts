import { AquatintError, fail } from "../errors.ts"
import { PICKLE_LIMITS, type PickleMeaning, readPickle } from "./pickle.ts"
import { PickledDict, PickledList, type PickledValue } from "./pickle-values.ts"
import type { ByteSource } from "./source.ts"
import { type TorchParts, type TorchStorage, torchMeaning } from "./torch-values.ts"

const MAGIC = 0x1950a86a20f9469cfc6cn
const PROTOCOL = 1001
const FIRST_READ = 1 << 20

interface Pickles {
  root: PickledValue
  storages: Map<string, TorchStorage>
  keys: string[]
  end: number
}

/**
 * Reads a file of torch before 1.6: five pickles (magic number, protocol, machine, object, keys of the storages), then each
 * storage as its count and its numbers, to the end of the file.
 */
export async function readLegacyTorch(source: ByteSource): Promise<TorchParts> {
  const { root, storages, keys, end } = await readHead(source)
  const places = new Map<string, number>()
  let at = end
  for (const key of keys) {
    const storage = storages.get(key)
    if (!storage || places.has(key))
      bad(source.name, `lists a storage ${JSON.stringify(key)} that no tensor has`)
    if (at + 8 > source.size) bad(source.name, "ends before its storages")
    const head = await source.read(at, 8)
    const count = new DataView(head.buffer, head.byteOffset, 8).getBigUint64(0, true)
    if (count !== BigInt(storage.count)) bad(source.name, `counts storage ${JSON.stringify(key)} in two ways`)
    places.set(key, at + 8)
    at += 8 + storage.bytes
  }
  if (at > source.size) bad(source.name, "ends before its storages")
  if (at < source.size) bad(source.name, "has bytes after its storages")
  if (places.size !== storages.size) bad(source.name, "lacks storages of its tensors")
  return { root, places, checksums: [] }
}

function bad(file: string, what: string): never {
  fail("TORCH_LEGACY", `${file}: as a file of torch before 1.6 it ${what}`, {
    file,
    hint: "the file is damaged or made to harm; find the model as .safetensors",
  })
}

/** The pickles at the file's head; how long they are is known only by reading them, so more is read as needed. */
async function readHead(source: ByteSource): Promise<Pickles> {
  for (let size = FIRST_READ; ; size *= 4) {
    const most = Math.min(size, source.size, PICKLE_LIMITS.bytes)
    try {
      return readPickles(await source.read(0, most), source.name)
    } catch (error) {
      const short = error instanceof AquatintError && error.code === "PICKLE_TRUNCATED"
      if (!short || most === source.size || most === PICKLE_LIMITS.bytes) throw error
    }
  }
}

function readPickles(bytes: Uint8Array, file: string): Pickles {
  const storages = new Map<string, TorchStorage>()
  let end = 0
  const next = (meaning: PickleMeaning): PickledValue => {
    const read = readPickle(bytes, meaning, { file, start: end })
    end = read.end
    return read.value
  }
  const plain = plainMeaning(file)
  if (next(plain) !== MAGIC || next(plain) !== PROTOCOL) bad(file, "lacks the magic number")
  const machine = next(plain)
  const little =
    machine instanceof PickledDict && machine.entries.find(([key]) => key === "little_endian")?.[1]
  if (little !== true) bad(file, "is not little-endian")
  const root = next(torchMeaning(file, storages))
  const list = next(plain)
  const keys = list instanceof PickledList ? list.items : [null]
  if (!keys.every((key) => typeof key === "string")) bad(file, "has no list of storages")
  return { root, storages, keys, end }
}

/** Pickles of numbers and words, in which nothing may be named. */
function plainMeaning(file: string): PickleMeaning {
  const refuse = (name: string): never =>
    fail(
      "PICKLE_GLOBAL",
      `${file}: its pickle names ${JSON.stringify(name.slice(0, 120))} where only numbers belong`,
      {
        file,
        hint: "such a file can hold a program, so none of it is used; find the model as .safetensors",
      },
    )
  return {
    global: (module, name) => refuse(`${module}.${name}`),
    reduce: () => refuse("a call"),
    persistent: () => refuse("a storage"),
  }
}

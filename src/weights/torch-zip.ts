import { fail } from "../errors.ts"
import { crc32 } from "./crc32.ts"
import { PICKLE_LIMITS, readPickle } from "./pickle.ts"
import type { ByteSource } from "./source.ts"
import { type TorchParts, type TorchStorage, torchMeaning } from "./torch-values.ts"
import { badChecksum, readZip, type ZipEntry } from "./zip.ts"

const NOTE_LIMIT = 64
const ENTRY =
  /^([^/]+)\/(data\/\d+|data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data\/serialization_id)$/

/** Reads a torch zip archive (torch 1.6 and later): one folder of `data.pkl`, `data/N` and a few notes. */
export async function readTorchZip(source: ByteSource): Promise<TorchParts> {
  const entries = inside(await readZip(source), source.name)
  const pickle = entries.get("data.pkl")
  if (!pickle) bad(source.name, "has no data.pkl")
  if (pickle.size > PICKLE_LIMITS.bytes) bad(source.name, `has a data.pkl of ${pickle.size} bytes`)
  // torch can be told to write no checksums: then all are zero
  const sums = [...entries.values()].some(({ crc }) => crc !== 0)
  const read = async (entry: ZipEntry) => {
    const bytes = await source.read(entry.offset, entry.size)
    if (sums && crc32(bytes) !== entry.crc) badChecksum(source.name, entry.offset)
    return bytes
  }
  for (const [name, entry] of entries) if (!/^data/.test(name)) checkNote(name, await read(checkSize(entry)))
  const storages = new Map<string, TorchStorage>()
  const { value: root, end } = readPickle(await read(pickle), torchMeaning(source.name, storages), {
    file: source.name,
  })
  if (end !== pickle.size) bad(source.name, "has bytes after its pickle's end")
  const places = new Map<string, number>()
  for (const [key, storage] of storages) {
    const entry = entries.get(`data/${key}`)
    if (!entry || entry.size !== storage.bytes)
      bad(source.name, `has no storage ${JSON.stringify(key)} of its size`)
    places.set(key, entry.offset)
  }
  const checksums = [...entries].flatMap(([name, { offset, size, crc }]) =>
    sums && name.startsWith("data/") ? [{ offset, length: size, crc }] : [],
  )
  return { root, places, checksums }

  function checkSize(entry: ZipEntry): ZipEntry {
    return entry.size <= NOTE_LIMIT ? entry : bad(source.name, `has ${entry.size} bytes as ${entry.name}`)
  }
  function checkNote(name: string, bytes: Uint8Array): void {
    const text = Buffer.from(bytes).toString("latin1").trim()
    if (name === "byteorder" && text !== "little") bad(source.name, "is not little-endian")
    if (name === "version" && !/^\d{1,4}$/.test(text)) bad(source.name, "has no version")
  }
}

function bad(file: string, what: string): never {
  fail("TORCH_ARCHIVE", `${file}: as an archive of torch.save it ${what}`, {
    file,
    hint: "the file is damaged or made to harm; find the model as .safetensors",
  })
}

/** Entries by their name inside the archive's one folder. */
function inside(entries: Map<string, ZipEntry>, file: string): Map<string, ZipEntry> {
  const out = new Map<string, ZipEntry>()
  let folder: string | undefined
  for (const [name, entry] of entries) {
    const [, root, rest] = ENTRY.exec(name) ?? []
    if (root === undefined || rest === undefined || root === "." || root === "..")
      bad(file, `has an entry ${JSON.stringify(name.slice(0, 80))}, which torch.save does not write`)
    if (folder !== undefined && folder !== root) bad(file, "has two folders")
    folder = root
    out.set(rest, entry)
  }
  return out
}

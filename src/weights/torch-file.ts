import { fail } from "../errors.ts"
import { crc32 } from "./crc32.ts"
import type { ByteSource } from "./source.ts"
import { readLegacyTorch } from "./torch-legacy.ts"
import { collectTensors } from "./torch-state.ts"
import type { TorchParts, TorchTensor } from "./torch-values.ts"
import { readTorchZip } from "./torch-zip.ts"
import { DTYPE_BITS, elements, type TensorView } from "./view.ts"
import { badChecksum } from "./zip.ts"

/** A tensor in a torch file; with strides (in elements) where its numbers do not follow each other. */
export interface StoredTensor extends TensorView {
  strides?: number[]
}

/** What a torch file holds, as data. */
export interface TorchFile {
  tensors: Map<string, StoredTensor>
  /** Entries that are no tensors of the state dict. */
  dropped: string[]
  /** Byte ranges with checksums that are not yet verified: the storages of zip archives. */
  checksums: TorchParts["checksums"]
}

/**
 * Reads a file of torch.save as data: the zip form of torch 1.6 and later, or the older run of pickles. Nothing is
 * called, looked up or unpacked; tensors are byte ranges of the file.
 * Errors: TORCH_FORMAT, TORCH_*, PICKLE_*, ZIP_*.
 */
export async function openTorchFile(source: ByteSource): Promise<TorchFile> {
  const head = await source.read(0, Math.min(source.size, 4))
  const start = String.fromCharCode(...head)
  const parts =
    start === "PK\x03\x04"
      ? await readTorchZip(source)
      : head[0] === 0x80
        ? await readLegacyTorch(source)
        : unknown(source.name, start)
  const { tensors, dropped } = collectTensors(parts.root, source.name)
  const file = source.path ?? source.name
  const out = new Map<string, StoredTensor>()
  let total = 0
  for (const [name, tensor] of tensors) {
    const view = locate(name, tensor, parts.places, file)
    total += elements(view.shape) * (DTYPE_BITS[view.dtype] / 8)
    out.set(name, view)
  }
  // strides of 0 and shared storages let a small file mean a large one
  if (!(total <= 4 * source.size + 16 * 1024 * 1024))
    fail("TORCH_TOO_LARGE", `${source.name}: its tensors mean ${total} bytes in a file of ${source.size}`, {
      file: source.name,
      hint: "the file is made to harm; find the model as .safetensors",
    })
  return { tensors: out, dropped, checksums: parts.checksums }
}

function unknown(file: string, start: string): never {
  const look = start.startsWith("vers") ? "this is a git-lfs pointer: run `git lfs pull`" : undefined
  fail("TORCH_FORMAT", `${file} is no file of torch.save`, {
    file,
    hint: look ?? "if it is a safetensors file, give it that extension; otherwise fetch it again",
  })
}

function locate(name: string, tensor: TorchTensor, places: Map<string, number>, file: string): StoredTensor {
  const { storage } = tensor
  const shape = [...tensor.shape]
  const size = DTYPE_BITS[storage.dtype] / 8
  const place = places.get(storage.key)
  if (place === undefined)
    fail("TORCH_STORAGE", `${file} lacks the storage of ${JSON.stringify(name)}`, { file })
  const offset = place + (storage.first + tensor.offset) * size
  const view = { name, dtype: storage.dtype, shape, file, offset }
  const count = elements(shape)
  if (isContiguous(tensor)) return { ...view, length: count * size }
  const span = shape.reduce((sum, n, i) => sum + (n - 1) * tensor.strides[i]!, 1)
  return { ...view, length: span * size, strides: [...tensor.strides] }
}

/** Whether elements follow each other in row-major order; axes of one element may have any stride. */
function isContiguous({ shape, strides }: TorchTensor): boolean {
  if (shape.includes(0)) return true
  let expected = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false
    expected *= shape[i]!
  }
  return true
}

/** Reads every byte range with a checksum once and compares; yields bytes read. Error: ZIP_CRC. */
export async function* verifyChecksums(source: ByteSource, file: TorchFile): AsyncGenerator<number> {
  const chunk = 4 * 1024 * 1024
  for (const { offset, length, crc } of file.checksums) {
    let sum = 0
    for (let at = 0; at < length; at += chunk) {
      const bytes = await source.read(offset + at, Math.min(chunk, length - at))
      sum = crc32(bytes, sum)
      yield bytes.length
    }
    if (sum !== crc) badChecksum(source.name, offset)
  }
}

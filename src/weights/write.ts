import { type FileHandle, open, rename, rm } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import { AquatintError, fail } from "../errors.ts"
import { encodeHeader } from "./encode.ts"
import { byteLength, type Dtype } from "./view.ts"

/** Bytes of a tensor to write: at hand, or made piece by piece when its turn comes. */
export type TensorBytes = Uint8Array | (() => AsyncIterable<Uint8Array> | Promise<Uint8Array> | Uint8Array)

/** One tensor to write. */
export interface TensorToWrite {
  name: string
  dtype: Dtype
  shape: readonly number[]
  bytes: TensorBytes
}

let counter = 0

/**
 * Writes a safetensors file that readers see whole or not at all: a temporary file in the same folder,
 * fsync, rename, fsync of the folder. Tensors are streamed in the order given; a source that yields
 * another number of bytes than its shape says is an error and leaves nothing behind.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Iterable<readonly [string, string]> = [],
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const header = encodeHeader(tensors, metadata)
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${counter++}.tmp`)
  try {
    const handle = await open(temporary, "wx")
    try {
      await handle.writeFile(header)
      for (const tensor of tensors) await writeTensor(handle, tensor, options.signal)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw writeError(error, path)
  }
  await syncFolder(dirname(path))
}

async function writeTensor(handle: FileHandle, tensor: TensorToWrite, signal?: AbortSignal): Promise<void> {
  const wanted = byteLength(tensor.dtype, tensor.shape)
  let written = 0
  for await (const chunk of chunks(tensor.bytes)) {
    signal?.throwIfAborted()
    written += chunk.length
    if (written > wanted) break
    await writeAll(handle, chunk)
  }
  if (written !== wanted)
    fail("SAFETENSORS_SIZE", `tensor ${tensor.name}: ${written} bytes came, its shape needs ${wanted}`, {
      blame: "here",
    })
}

async function* chunks(bytes: TensorBytes): AsyncIterable<Uint8Array> {
  const made = typeof bytes === "function" ? await bytes() : bytes
  if (made instanceof Uint8Array) yield made
  else yield* made
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await handle.write(bytes, done, bytes.length - done)).bytesWritten
}

/** Makes a rename in this folder last through a power cut; file systems that cannot are left alone. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r").catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close()
}

function writeError(error: unknown, path: string): unknown {
  if (error instanceof AquatintError || !(error instanceof Error) || !("code" in error)) return error
  const caller = ["ENOENT", "ENOTDIR", "EACCES", "EPERM", "EISDIR", "EROFS", "ENAMETOOLONG"].includes(
    String(error.code),
  )
  const hint = error.code === "ENOSPC" ? "free some space and try again" : "choose another place to write to"
  return new AquatintError("FILE_NOT_WRITTEN", `${path}: cannot be written (${String(error.code)})`, {
    hint,
    file: path,
    cause: error,
    blame: caller ? "caller" : "here",
  })
}

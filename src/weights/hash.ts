import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { fileError } from "./file-source.ts"
import { withFile } from "./open-file.ts"

/** Hashes that model sites name a file by, lower-case hex. */
export interface FileHashes {
  /** SHA-256 of the whole file, 64 digits. */
  sha256: string
  /** First 8 digits of the SHA-256 of 64 KiB at 1 MiB (A1111's old model hash; of nothing, for smaller files). */
  autov1: string
  /** First 10 digits of sha256 (A1111's "Model hash"). */
  autov2: string
  /** First 12 digits of the SHA-256 of all that follows a safetensors header (kohya's model hash, "Lora hashes"). */
  autov3?: string
}

/** What the hashing functions take: where the tensors' bytes start, and how to stop. */
export interface HashOptions {
  /** First byte after the safetensors header; without it there is no autov3. */
  dataStart?: number
  signal?: AbortSignal
  progress?: (done: number, total: number) => void
}

/** All hashes of a file in one pass over its bytes, some 500 MB/s. Nothing is cached. */
export async function hashFile(path: string, options: HashOptions = {}): Promise<FileHashes> {
  const autov1 = await hashV1(path)
  const whole = createHash("sha256")
  const data = createHash("sha256")
  const { dataStart, signal } = options
  let done = 0
  await walk(path, signal, (bytes, total) => {
    whole.update(bytes)
    if (dataStart !== undefined && done + bytes.length > dataStart)
      data.update(bytes.subarray(Math.max(0, dataStart - done)))
    done += bytes.length
    options.progress?.(done, total)
  })
  const sha256 = whole.digest("hex")
  const v3 = dataStart === undefined ? {} : { autov3: data.digest("hex").slice(0, 12) }
  return { sha256, autov1, autov2: sha256.slice(0, 10), ...v3 }
}

/** SHA-256 of a whole file, 64 hex digits. */
export async function sha256File(path: string, options: { signal?: AbortSignal } = {}): Promise<string> {
  const whole = createHash("sha256")
  await walk(path, options.signal, (bytes) => whole.update(bytes))
  return whole.digest("hex")
}

/** A1111's old model hash (`FileHashes.autov1`), of 64 KiB. */
export function hashV1(path: string): Promise<string> {
  return withFile(path, async ({ size, read }) => {
    const start = Math.min(size, 0x100000)
    const bytes = await read(start, Math.min(0x10000, size - start))
    return createHash("sha256").update(bytes).digest("hex").slice(0, 8)
  })
}

function walk(
  path: string,
  signal: AbortSignal | undefined,
  use: (bytes: Buffer, total: number) => unknown,
): Promise<void> {
  return withFile(path, async (source) => {
    try {
      const stream = createReadStream(source.path, {
        highWaterMark: 1024 * 1024,
        ...(signal ? { signal } : {}),
      })
      for await (const bytes of stream) use(bytes as Buffer, source.size)
    } catch (error) {
      signal?.throwIfAborted()
      throw fileError(error, path)
    }
  })
}

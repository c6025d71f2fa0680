import { createHash } from "node:crypto"
import { mkdir, open, readFile, rename, stat, writeFile } from "node:fs/promises"
import { homedir } from "node:os"
import { dirname, join } from "node:path"
import { scanFinite } from "../weights/finite.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import type { TensorView } from "../weights/view.ts"

/** What is known of a model's weight files beyond their headers. */
export interface FileFacts {
  /** SHA-256 of the file that holds the denoiser, hexadecimal. */
  readonly sha256: string
}

interface Known {
  [file: string]: { stamp: string; sha256: string }
}

/** The user's cache folder for aquatint. */
export const cacheFolder = (): string =>
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "aquatint")

/**
 * Reads every weight once: refuses NaN and infinities, and hashes the denoiser's file. Remembered by path, size and
 * time of change, so that a second start reads nothing.
 * @throws WEIGHTS_NOT_FINITE
 */
export async function vouch(files: ModelFiles, cache: string | null = cacheFolder()): Promise<FileFacts> {
  const index = cache === null ? null : join(cache, "files.json")
  const known = index === null ? {} : await recall(index)
  const views = [...files.components.values()].flatMap((c) => [...c.weights.values()])
  const byFile = new Map<string, TensorView[]>()
  for (const view of views) byFile.set(view.file, [...(byFile.get(view.file) ?? []), view])
  let fresh = false
  for (const [file, inside] of byFile) {
    const stamp = await stampOf(file)
    if (known[file]?.stamp === stamp) continue
    known[file] = { stamp, sha256: await readOnce(file, inside) }
    fresh = true
  }
  if (fresh && index !== null) await remember(index, known)
  const denoiser = files.components.get("unet")!.files[0]!
  return { sha256: known[denoiser]!.sha256 }
}

async function stampOf(file: string): Promise<string> {
  const { ino, size, mtimeMs } = await stat(file)
  return `${ino}-${size}-${mtimeMs}`
}

/** Finite test and hash of a file, side by side over the same cached pages. */
async function readOnce(file: string, views: readonly TensorView[]): Promise<string> {
  const handle = await open(file, "r")
  try {
    const read = async (_file: string, into: Uint8Array, position: number) => {
      await handle.read(into, 0, into.length, position)
    }
    await scanFinite(views, read)
    const hash = createHash("sha256")
    const chunk = Buffer.allocUnsafe(8 * 1024 * 1024)
    for (let at = 0; ; ) {
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, at)
      if (bytesRead === 0) return hash.digest("hex")
      hash.update(chunk.subarray(0, bytesRead))
      at += bytesRead
    }
  } finally {
    await handle.close()
  }
}

async function recall(index: string): Promise<Known> {
  try {
    return JSON.parse(await readFile(index, "utf8")) as Known
  } catch {
    return {}
  }
}

/** Writing is best effort: a cache that cannot be kept costs a second next time. */
async function remember(index: string, known: Known): Promise<void> {
  try {
    await mkdir(dirname(index), { recursive: true })
    await writeFile(`${index}.${process.pid}.tmp`, JSON.stringify(known))
    await rename(`${index}.${process.pid}.tmp`, index)
  } catch {}
}

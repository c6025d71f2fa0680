import { createHash } from "node:crypto"
import { mkdir, open, readFile, rename, stat, writeFile } from "node:fs/promises"
import { homedir } from "node:os"
import { dirname, join } from "node:path"
import { scanFinite } from "../weights/finite.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import type { TensorView } from "../weights/view.ts"
import { type Vouched, vouched } from "./vouched.ts"

interface Known {
  [file: string]: { stamp: string; sha256: string }
}

/** The user's cache folder for aquatint. */
export const cacheFolder = (): string =>
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "aquatint")

interface Look {
  readonly known: Known
  /** Files whose hash is not known, with their stamps. */
  readonly fresh: ReadonlyMap<string, string>
}

/**
 * Reads every weight once: refuses NaN and infinities, and hashes the files. Remembered by path, size and time of change,
 * so that a second start reads nothing.
 */
export function vouch(files: ModelFiles, cache: string | null = cacheFolder()): Vouched {
  const index = cache === null ? null : join(cache, "files.json")
  return vouched(look(files, index), async ({ known, fresh }, rest) => {
    for (const [file, stamp] of fresh) known[file] = { stamp, sha256: await hashOf(file, rest) }
    if (fresh.size > 0 && index !== null) await remember(index, known)
    return { sha256: known[files.components.get("unet")!.files[0]!]!.sha256 }
  })
}

async function look(files: ModelFiles, index: string | null): Promise<Look> {
  const known = index === null ? {} : await recall(index)
  const views = [...files.components.values()].flatMap((c) => [...c.weights.values()])
  const byFile = new Map<string, TensorView[]>()
  for (const view of views) byFile.set(view.file, [...(byFile.get(view.file) ?? []), view])
  const fresh = new Map<string, string>()
  for (const [file, inside] of byFile) {
    const stamp = await stampOf(file)
    if (known[file]?.stamp === stamp) continue
    await checkFinite(file, inside)
    fresh.set(file, stamp)
  }
  return { known, fresh }
}

/** Tells whether a file is still the same. */
export async function stampOf(file: string): Promise<string> {
  const { ino, size, mtimeMs } = await stat(file)
  return `${ino}-${size}-${mtimeMs}`
}

async function checkFinite(file: string, views: readonly TensorView[]): Promise<void> {
  const handle = await open(file, "r")
  try {
    await scanFinite(views, async (_file, into, position) => {
      await handle.read(into, 0, into.length, position)
    })
  } finally {
    await handle.close()
  }
}

async function hashOf(file: string, rest: () => Promise<void>): Promise<string> {
  const handle = await open(file, "r")
  try {
    const hash = createHash("sha256")
    // small pieces: other work of this thread goes on between them
    const chunk = Buffer.allocUnsafe(1024 * 1024)
    for (let at = 0; ; ) {
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, at)
      if (bytesRead === 0) return hash.digest("hex")
      hash.update(chunk.subarray(0, bytesRead))
      at += bytesRead
      await rest()
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

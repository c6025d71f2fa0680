import { createHash } from "node:crypto"
import { mkdir, open, readFile, rename, stat, writeFile } from "node:fs/promises"
import { homedir } from "node:os"
import { basename, dirname, join, resolve } from "node:path"
import { scanFinite } from "../weights/finite.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import type { TensorView } from "../weights/view.ts"
import { type Vouched, vouched } from "./vouched.ts"

/** Hash of a file whose weights were found finite. */
export interface KnownFile {
  readonly stamp: string
  readonly sha256: string
}

type Known = Partial<Record<string, KnownFile>>

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
    const hashIn = (part: string) => known[files.components.get(part)!.files[0]!]!.sha256
    const vae = otherVae(files)
    return { sha256: hashIn("unet"), ...(vae === null ? {} : { vae: { name: vae, sha256: hashIn("vae") } }) }
  })
}

/** Name of an autoencoder that is not the model's own, as A1111 writes it; null where it is. */
function otherVae({ path, components }: ModelFiles): string | null {
  const file = components.get("vae")!.files[0]!
  if (resolve(file).startsWith(resolve(path))) return null
  return /^diffusion_pytorch_model\./.test(basename(file)) ? basename(dirname(file)) : basename(file)
}

async function look(files: ModelFiles, index: string | null): Promise<Look> {
  const known: Known = index === null ? {} : await recall<KnownFile>(index)
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

/** What a file of the cache folder remembers; nothing where it is missing or broken. */
export async function recall<T extends object>(index: string): Promise<Partial<Record<string, T>>> {
  try {
    return JSON.parse(await readFile(index, "utf8")) as Record<string, T>
  } catch {
    return {}
  }
}

/** Writing is best effort: a cache that cannot be kept costs a second next time. */
export async function remember(index: string, known: object): Promise<void> {
  try {
    await mkdir(dirname(index), { recursive: true })
    await writeFile(`${index}.${process.pid}.tmp`, JSON.stringify(known))
    await rename(`${index}.${process.pid}.tmp`, index)
  } catch {}
}

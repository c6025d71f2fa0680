import { createHash } from "node:crypto"
import { mkdir, readdir, rm, stat, utimes } from "node:fs/promises"
import { join } from "node:path"
import type { StoredTensor } from "../graph/index.ts"
import type { CodeStore, CodeTensor } from "../runtime/codes.ts"
import type { Value } from "../runtime/engine.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import { openSafetensors } from "../weights/open-file.ts"
import { writeSafetensors } from "../weights/write.ts"
import { stampOf } from "./facts.ts"

/** Raised when codes are made otherwise: older files are made anew. */
const format = 1
/** Files that stay; the longest unused go first. */
const most = 6

const stored = { I8: "i8", F32: "f32" } as const

/**
 * Eight-bit codes of a model's weights as files of the cache folder, named after the model's files as they are now.
 * Nothing of it is needed: what is missing, broken or cannot be written is made again.
 */
export function codeFiles(files: ModelFiles, cache: string): CodeStore {
  const folder = join(cache, "int8")
  return {
    take: async (tensors, make) => {
      const path = join(folder, `${await keyOf(files, tensors)}.safetensors`)
      const known = await open(path, tensors)
      if (known) return known
      try {
        await mkdir(folder, { recursive: true })
        await write(path, tensors, make())
        await tidy(folder)
      } catch {
        return null
      }
      return open(path, tensors)
    },
  }
}

async function keyOf(files: ModelFiles, tensors: readonly CodeTensor[]): Promise<string> {
  const paths = [...new Set([...files.components.get("unet")!.files])].sort()
  const stamps = await Promise.all(paths.map(async (path) => [path, await stampOf(path)]))
  return createHash("sha256")
    .update(JSON.stringify([format, stamps, tensors]))
    .digest("hex")
    .slice(0, 32)
}

async function open(path: string, tensors: readonly CodeTensor[]): Promise<Map<string, StoredTensor> | null> {
  const header = await openSafetensors(path).catch(() => null)
  if (!header) return null
  const found = new Map<string, StoredTensor>()
  for (const { name, dtype, shape } of tensors) {
    const view = header.tensors.get(name)
    const kept = view && stored[view.dtype as keyof typeof stored]
    if (!view || kept !== dtype || view.shape.join() !== shape.join()) return null
    const bytes = { location: view.file, offset: view.offset, length: view.length }
    found.set(name, { dtype, shape: view.shape, bytes })
  }
  const now = new Date()
  await utimes(path, now, now).catch(() => {})
  return found
}

async function write(
  path: string,
  tensors: readonly CodeTensor[],
  values: AsyncGenerator<Value>,
): Promise<void> {
  const next = async (): Promise<Uint8Array> => {
    const { data } = (await values.next()).value as Value
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  }
  try {
    await writeSafetensors(
      path,
      tensors.map(({ name, dtype, shape }) => ({
        name,
        dtype: dtype === "i8" ? ("I8" as const) : ("F32" as const),
        shape,
        bytes: next,
      })),
    )
  } finally {
    await values.return(undefined)
  }
}

/** Lets the longest unused files go. */
async function tidy(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".safetensors"))
  const found = await Promise.all(
    names.map(async (name) => ({ path: join(folder, name), used: (await stat(join(folder, name))).mtimeMs })),
  )
  const old = found.sort((a, b) => b.used - a.used).slice(most)
  for (const { path } of old) await rm(path, { force: true })
}

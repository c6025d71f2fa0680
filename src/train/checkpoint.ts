import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { AquatintError, fail } from "../errors.ts"
import { decodeFloats } from "../weights/decode.ts"
import { openSafetensors } from "../weights/open-file.ts"
import { writeSafetensors } from "../weights/write.ts"

/** What a checkpoint says beside its tensors. */
export interface Progress {
  /** Steps done. */
  readonly step: number
  /** SHA-256 of the settings that determine the numbers. */
  readonly config: string
  /** Bytes of the log that belong to these steps. */
  readonly log: number
  /** Sums of the log line under way. */
  readonly window: Readonly<Record<string, number>>
}

interface Manifest extends Progress {
  readonly format: 1
  readonly files: Readonly<Record<string, { bytes: number; sha256: string }>>
  readonly versions: Readonly<Record<string, string>>
}

export interface Restored {
  readonly progress: Progress
  readonly state: Map<string, Float32Array>
  /** Newer checkpoints that could not be read, and why. */
  readonly refused: readonly { folder: string; why: string }[]
}

const stateFile = "state.safetensors"
const nameOf = (step: number): string => `step-${String(step).padStart(9, "0")}`

/**
 * Writes a checkpoint that is whole or absent: files first, each through a temporary name and fsync, the manifest
 * with their hashes last. Older ones beyond `keep` (at least 2) are removed afterwards.
 */
export async function writeCheckpoint(
  folder: string,
  state: ReadonlyMap<string, Float32Array>,
  shapes: ReadonlyMap<string, readonly number[]>,
  progress: Progress,
  keep = 2,
): Promise<void> {
  const path = join(folder, nameOf(progress.step))
  await rm(path, { recursive: true, force: true })
  await mkdir(path, { recursive: true })
  const tensors = [...state].map(([name, data]) => ({
    name,
    dtype: "F32" as const,
    shape: shapes.get(name) ?? [data.length],
    bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  }))
  await writeSafetensors(join(path, stateFile), tensors)
  const manifest: Manifest = {
    format: 1,
    ...progress,
    files: { [stateFile]: await digest(join(path, stateFile)) },
    versions: { node: process.version },
  }
  await writeWhole(join(path, "manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`)
  await syncFolder(path)
  await syncFolder(folder)
  const all = await listCheckpoints(folder)
  for (const old of all.slice(0, Math.max(0, all.length - Math.max(2, keep))))
    await rm(join(folder, old), { recursive: true, force: true })
}

/** Folders of checkpoints, oldest first, whole or not. */
async function listCheckpoints(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  return names.filter((n) => /^step-\d{9,}$/.test(n)).sort()
}

/**
 * The newest checkpoint whose every file has the hash its manifest names; null where there is none at all.
 * @throws CHECKPOINT_BROKEN when there are some and none can be read, CHECKPOINT_CONFIG when the newest good one
 * belongs to other settings.
 */
export async function readCheckpoint(folder: string, config: string): Promise<Restored | null> {
  const refused: { folder: string; why: string }[] = []
  for (const name of (await listCheckpoints(folder)).reverse()) {
    const path = join(folder, name)
    try {
      const manifest = await readManifest(path)
      if (manifest.config !== config)
        fail("CHECKPOINT_CONFIG", `${path} was made with other settings`, {
          file: path,
          hint: "repeat the settings it was begun with, or name another folder",
        })
      return { progress: manifest, state: await readState(join(path, stateFile)), refused }
    } catch (error) {
      if (!(error instanceof AquatintError) || error.code === "CHECKPOINT_CONFIG") throw error
      refused.push({ folder: name, why: error.message })
    }
  }
  // a single one that was never finished is a first checkpoint that was interrupted
  if (refused.length <= 1 && refused.every((r) => r.why.includes("manifest"))) return null
  return fail("CHECKPOINT_BROKEN", `no checkpoint in ${folder} can be read: ${refused[0]!.why}`, {
    file: folder,
    hint: "restore the folder from a copy, or begin anew in another one",
    details: { refused },
  })
}

async function readManifest(path: string): Promise<Manifest> {
  const text = await readFile(join(path, "manifest.json"), "utf8").catch(() =>
    broken(path, "its manifest is missing"),
  )
  const manifest = parse(text) ?? broken(path, "its manifest is torn")
  if (manifest.format !== 1 || !Number.isInteger(manifest.step) || typeof manifest.files !== "object")
    broken(path, "its manifest is of another kind")
  for (const [name, want] of Object.entries(manifest.files)) {
    const found = await digest(join(path, name)).catch(() => broken(path, `${name} is missing`))
    if (found.bytes !== want.bytes || found.sha256 !== want.sha256)
      broken(path, `${name} is not what the manifest says`)
  }
  return manifest
}

function parse(text: string): Manifest | null {
  try {
    return JSON.parse(text) as Manifest
  } catch {
    return null
  }
}

const broken = (path: string, why: string): never =>
  fail("CHECKPOINT_BROKEN", `${path}: ${why}`, { file: path, blame: "here" })

/** All tensors of a safetensors file as float32. */
export async function readState(path: string): Promise<Map<string, Float32Array>> {
  const { tensors } = await openSafetensors(path)
  const handle = await open(path, "r")
  try {
    const out = new Map<string, Float32Array>()
    for (const [name, view] of tensors) {
      const bytes = new Uint8Array(view.length)
      await handle.read(bytes, 0, view.length, view.offset)
      out.set(name, view.dtype === "F32" ? new Float32Array(bytes.buffer) : decodeFloats(view.dtype, bytes))
    }
    return out
  } finally {
    await handle.close()
  }
}

async function digest(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256")
  let bytes = 0
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Buffer)
    bytes += (chunk as Buffer).length
  }
  return { bytes, sha256: hash.digest("hex") }
}

/** A small file, whole or not at all. */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  const handle = await open(`${path}.tmp`, "w")
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(`${path}.tmp`, path)
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r").catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close()
}

import { readdir, readFile, stat } from "node:fs/promises"
import { homedir } from "node:os"
import { join } from "node:path"

const id = /^[\w.-]+\/[\w.-]+$/

export const cacheHome = (): string => process.env.HF_HOME ?? join(homedir(), ".cache", "huggingface")

/** Where Hugging Face's tools keep downloaded models. */
export const hubFolder = (): string => process.env.HF_HUB_CACHE ?? join(cacheHome(), "hub")

/**
 * Folder of a hub model ("org/name") that other tools have downloaded before, or null. Nothing is fetched; files are
 * read in place through the cache's symbolic links.
 */
export async function cachedHubModel(name: string): Promise<string | null> {
  if (!id.test(name) || name.split("/").some((part) => /^\.+$/.test(part))) return null
  const model = join(hubFolder(), `models--${name.replace("/", "--")}`)
  const snapshots = await readdir(join(model, "snapshots")).catch(() => [])
  const main = await readFile(join(model, "refs", "main"), "utf8").catch(() => "")
  const revision = snapshots.find((s) => s === main.trim()) ?? snapshots[0]
  if (revision === undefined) return null
  const folder = join(model, "snapshots", revision)
  return (await stat(folder).catch(() => null))?.isDirectory() ? folder : null
}

import type { Dirent } from "node:fs"
import { lstat, mkdir, readdir, readFile, readlink, realpath, rm, stat, writeFile } from "node:fs/promises"
import { homedir } from "node:os"
import { basename, delimiter, dirname, extname, join, relative, resolve, sep } from "node:path"
import { fail } from "../../errors.ts"
import { hubFolder } from "./cache.ts"
import type { CivitaiOrigin } from "./civitai.ts"

/** What a file of the library is for. */
export type Kind = "model" | "lora" | "embedding" | "vae" | "controlnet" | "upscaler" | "other"

export interface LibraryEntry {
  /** What `generate` and `remove` call it. */
  readonly name: string
  readonly kind: Kind
  readonly path: string
  readonly bytes: number
  readonly where: "library" | "hub" | "tree"
  readonly origin?: CivitaiOrigin
}

/** Our own folder: AQUATINT_MODELS, or where the system keeps programs' data. */
export const libraryFolder = (): string =>
  process.env.AQUATINT_MODELS ??
  join(process.env.XDG_DATA_HOME ?? join(homedir(), ".local", "share"), "aquatint", "models")

/** Folders of other programs that are read in place: AQUATINT_TREES, as PATH names several. */
export const treeFolders = (): string[] => (process.env.AQUATINT_TREES ?? "").split(delimiter).filter(Boolean)

/**
 * Folders of AUTOMATIC1111's, ComfyUI's and our own trees, by their lower-case names, and what lies in them. Files are
 * read where they are.
 */
const folderKinds: Readonly<Record<string, Kind>> = {
  "stable-diffusion": "model",
  checkpoints: "model",
  diffusers: "model",
  lora: "lora",
  loras: "lora",
  lycoris: "lora",
  embeddings: "embedding",
  vae: "vae",
  vae_approx: "vae",
  "vae-approx": "vae",
  controlnet: "controlnet",
  esrgan: "upscaler",
  realesrgan: "upscaler",
  upscale_models: "upscaler",
  upscalers: "upscaler",
  other: "other",
}
const files = /\.(safetensors|pth|pt|bin|ckpt)$/i
const depth = 6

/** Everything that can be drawn with: our library, Hugging Face's cache, and the trees of other programs. */
export async function listLibrary(trees: readonly string[] = treeFolders()): Promise<LibraryEntry[]> {
  const own = await treeEntries(libraryFolder(), "library")
  const others = await Promise.all(trees.map((t) => treeEntries(resolve(t), "tree")))
  return [...own, ...(await hubEntries()), ...others.flat()]
}

const entriesOf = (folder: string): Promise<Dirent[]> =>
  readdir(folder, { withFileTypes: true }).catch(() => [])

async function treeEntries(root: string, where: LibraryEntry["where"]): Promise<LibraryEntry[]> {
  const out: LibraryEntry[] = []
  for (const base of [root, join(root, "models")])
    for (const entry of await entriesOf(base)) {
      const kind = folderKinds[entry.name.toLowerCase()]
      if (kind) await collect(join(base, entry.name), kind, where, depth, out)
    }
  return out.sort((a, b) => a.name.localeCompare(b.name))
}

async function collect(
  folder: string,
  kind: Kind,
  where: LibraryEntry["where"],
  left: number,
  out: LibraryEntry[],
): Promise<void> {
  for (const { name } of await entriesOf(folder)) {
    const path = join(folder, name)
    const found = await stat(path).catch(() => null)
    if (
      found?.isDirectory() &&
      kind === "model" &&
      (await stat(join(path, "model_index.json")).catch(() => null))
    )
      out.push({ name, kind, path, bytes: await sizeOf(path), where })
    else if (found?.isDirectory() && left > 0) await collect(path, kind, where, left - 1, out)
    else if (found?.isFile() && files.test(name)) {
      const origin = await readOrigin(path)
      const shown = basename(name, extname(name))
      out.push({ name: shown, kind, path, bytes: found.size, where, ...(origin ? { origin } : {}) })
    }
  }
}

async function sizeOf(folder: string): Promise<number> {
  let sum = 0
  for (const entry of await entriesOf(folder)) {
    const path = join(folder, entry.name)
    const found = await stat(path).catch(() => null)
    sum += found?.isDirectory() ? await sizeOf(path) : (found?.size ?? 0)
  }
  return sum
}

async function hubEntries(): Promise<LibraryEntry[]> {
  const out: LibraryEntry[] = []
  for (const entry of await entriesOf(hubFolder())) {
    if (!entry.name.startsWith("models--")) continue
    const name = entry.name.slice("models--".length).replace("--", "/")
    for (const { name: sha } of await entriesOf(join(hubFolder(), entry.name, "snapshots"))) {
      const path = join(hubFolder(), entry.name, "snapshots", sha)
      if (await stat(join(path, "model_index.json")).catch(() => null))
        out.push({ name, kind: "model", path, bytes: await sizeOf(path), where: "hub" })
      else
        for (const file of await entriesOf(path))
          if (file.name.endsWith(".safetensors")) {
            const at = join(path, file.name)
            const bytes = (await stat(at).catch(() => null))?.size ?? 0
            out.push({ name: `${name}:${file.name}`, kind: "model", path: at, bytes, where: "hub" })
          }
    }
  }
  return out
}

const originFile = (path: string): string => `${path.replace(/\.[^.]+$/, "")}.origin.json`

/** Keeps what is known of a fetched file beside it. */
export const writeOrigin = (path: string, origin: CivitaiOrigin): Promise<void> =>
  writeFile(originFile(path), `${JSON.stringify(origin, null, 2)}\n`)

async function readOrigin(path: string): Promise<CivitaiOrigin | undefined> {
  try {
    return JSON.parse(await readFile(originFile(path), "utf8")) as CivitaiOrigin
  } catch {
    return undefined
  }
}

/**
 * The one entry of this name, with or without its ending, of any kind or of the one asked for.
 * @throws MODEL_NOT_FOUND, MODEL_AMBIGUOUS
 */
export async function findInLibrary(
  name: string,
  { trees, kind }: { trees?: readonly string[]; kind?: Kind } = {},
): Promise<LibraryEntry | null> {
  const wanted = name.toLowerCase().replace(files, "")
  const found = (await listLibrary(trees)).filter(
    (e) => e.name.toLowerCase().replace(files, "") === wanted && (kind === undefined || e.kind === kind),
  )
  if (found.length > 1)
    fail("MODEL_AMBIGUOUS", `${name} is the name of ${found.length} files`, {
      hint: `name one by its path: ${found.map((e) => e.path).join(", ")}`,
    })
  return found[0] ?? null
}

/**
 * Removes a model that we or Hugging Face's tools fetched, with content that no other name refers to. Files of other
 * programs' trees are never touched. @returns bytes that are free again. @throws MODEL_NOT_FOUND, MODEL_FOREIGN
 */
export async function removeFromLibrary(name: string): Promise<number> {
  const entry = await findInLibrary(name, { trees: [] })
  if (!entry) {
    const foreign = await findInLibrary(name)
    return foreign
      ? fail("MODEL_FOREIGN", `${name} belongs to another program: ${foreign.path}`, {
          hint: "remove it there",
          file: foreign.path,
        })
      : fail("MODEL_NOT_FOUND", `there is no model ${name} here`, { hint: "see `aquatint models list`" })
  }
  if (entry.where === "hub") return removeFromHub(entry)
  await rm(entry.path, { recursive: true })
  await rm(originFile(entry.path), { force: true })
  return entry.bytes
}

async function removeFromHub(entry: LibraryEntry): Promise<number> {
  const repository = entry.path.split(sep)
  const root = repository.slice(0, repository.lastIndexOf("snapshots")).join(sep)
  await rm(entry.path, { recursive: true })
  const used = new Set(await linked(join(root, "snapshots")))
  let freed = 0
  for (const blob of await entriesOf(join(root, "blobs"))) {
    const path = join(root, "blobs", blob.name)
    if (used.has(path)) continue
    freed += (await lstat(path)).size
    await rm(path, { force: true })
  }
  if (used.size === 0) await rm(root, { recursive: true, force: true })
  return freed
}

/** Content that the names under a folder refer to. */
async function linked(folder: string): Promise<string[]> {
  const out: string[] = []
  for (const entry of await entriesOf(folder)) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) out.push(...(await linked(path)))
    else if (entry.isSymbolicLink()) out.push(resolve(dirname(path), await readlink(path)))
    else out.push(await realpath(path))
  }
  return out
}

/** Makes sure that the library's folder can be written. @throws OUTPUT_WRITE */
export async function makeLibrary(): Promise<string> {
  const folder = libraryFolder()
  await mkdir(folder, { recursive: true }).catch((cause: Error) =>
    fail("OUTPUT_WRITE", `${folder} cannot be made: ${cause.message}`, {
      file: folder,
      hint: "set AQUATINT_MODELS to a folder that you may write to",
    }),
  )
  return folder
}

/** How an entry's path is shown: short where it lies under the home folder. */
export const shortPath = (path: string): string => {
  const home = relative(homedir(), path)
  return home.startsWith("..") ? path : `~${sep}${home}`
}

import type { Download, WebModel } from "../../web.ts"
import { StableDiffusion } from "../../web.ts"
import { table } from "../state/disk.ts"

/** A model this browser keeps, so that the page can be used without a network. */
export interface KeptModel {
  readonly id: string
  readonly name: string
  /** Files in the browser's own file system, or the address whose files are in its cache. */
  readonly from: { readonly paths: readonly string[] } | { readonly url: string }
}

/** Cache Storage of models named by an address; the service worker keeps their small files there too. */
export const modelCache = "aquatint-models"

const kept = table<KeptModel>("files")

export const keptModels = (): Promise<KeptModel[]> => kept.all()

export interface Progress {
  readonly url: string
  readonly share: number | null
}

/** Opens a model of whatever kind and puts it to use. @throws AquatintError */
export function openModel(
  from: WebModel,
  keep: boolean,
  on: (progress: Progress) => void,
): Promise<StableDiffusion> {
  const progress = ({ url, done, total }: Download) => on({ url, share: total ? done / total : null })
  const cache = keep && typeof from === "string" ? modelCache : undefined
  // tests ask for a device by the page's address
  const asked = new URLSearchParams(location.search).get("device")
  const device = asked === "wasm" || asked === "webgpu" ? asked : "auto"
  return StableDiffusion.load(from, { progress, cache, device })
}

/** Opens a model that was kept. @throws AquatintError, NotFoundError */
export async function openKept(model: KeptModel, on: (progress: Progress) => void): Promise<StableDiffusion> {
  if ("url" in model.from) return openModel(model.from.url, true, on)
  const files = await Promise.all(model.from.paths.map((path) => readBack(model.id, path)))
  return openModel(files.length === 1 ? files[0]! : files, false, on)
}

/** Keeps what a model was opened from: an address by name, files by copying them. */
export async function keepModel(name: string, from: WebModel): Promise<void> {
  const id = crypto.randomUUID?.() ?? String(Date.now())
  if (typeof from === "string") {
    const known = (await kept.all()).find((m) => "url" in m.from && m.from.url === from)
    await kept.put({ id: known?.id ?? id, name, from: { url: from } })
  } else if (!(from instanceof URL)) {
    const files = from instanceof Blob ? [from as File] : from
    const paths: string[] = []
    for (const file of files) paths.push(await writeDown(id, file))
    await kept.put({ id, name, from: { paths } })
  }
  // without this, browsers may clear large files when the disk gets full
  await navigator.storage?.persist?.()
}

export async function forgetModel(model: KeptModel): Promise<void> {
  await kept.delete(model.id)
  if ("url" in model.from) {
    const cache = await caches.open(modelCache)
    const { url } = model.from
    for (const request of await cache.keys()) if (request.url.startsWith(url)) await cache.delete(request)
  } else await (await root()).removeEntry(model.id, { recursive: true }).catch(() => {})
}

const root = async (): Promise<FileSystemDirectoryHandle> =>
  (await navigator.storage.getDirectory()).getDirectoryHandle("models", { create: true })

/** The folder and the name of a path within a model's own folder. */
async function place(id: string, path: string, create: boolean): Promise<FileSystemFileHandle> {
  let folder = await (await root()).getDirectoryHandle(id, { create })
  const parts = path.split("/").filter((part) => part && part !== "." && part !== "..")
  for (const part of parts.slice(0, -1)) folder = await folder.getDirectoryHandle(part, { create })
  return folder.getFileHandle(parts.at(-1) ?? "model", { create })
}

async function writeDown(id: string, file: File): Promise<string> {
  const path = file.webkitRelativePath || file.name || "model.safetensors"
  const out = await (await place(id, path, true)).createWritable()
  await file.stream().pipeTo(out)
  return path
}

async function readBack(id: string, path: string): Promise<File> {
  const file = await (await place(id, path, false)).getFile()
  // as if it had been chosen in its folder
  Object.defineProperty(file, "webkitRelativePath", { value: path.includes("/") ? path : "" })
  return file
}

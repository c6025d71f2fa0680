import { readdir, realpath, stat } from "node:fs/promises"
import { basename, dirname, extname, isAbsolute, join, resolve, sep } from "node:path"
import { fail } from "../errors.ts"
import { openControlNet, openImageEncoder } from "../weights/components.ts"
import { scanFinite } from "../weights/finite.ts"
import { hashFile } from "../weights/hash.ts"
import { findInLibrary } from "../weights/hub/library.ts"
import type { Component } from "../weights/model-files.ts"
import { openSafetensors, withFile } from "../weights/open-file.ts"
import { seesWith } from "./image-prompts.ts"
import type { Guide, OpenedFile } from "./other-files.ts"
import { refusePickle } from "./pickled.ts"

/** Folders in which programs keep what goes beside a model, by what it is. */
const folders = {
  adapter: ["loras", "lora", "Lora", "LyCORIS", "lycoris", "adapters"],
  embedding: ["embeddings", "embedding", "textual_inversion"],
  upscaler: ["upscale_models", "upscalers", "ESRGAN", "RealESRGAN"],
} as const
const endings = [".safetensors", ".pth", ".pt", ".bin", ".ckpt"]
const deepest = 4

/**
 * Finds a file by its path or, beside the model and in the folders programs keep such files in, by its name: with or
 * without the ending, in subfolders too. What a prompt names is looked for beside the model alone: prompts come from
 * strangers, and must not tell them which files there are.
 * @throws ADAPTER_NOT_FOUND, EMBEDDING_NOT_FOUND
 */
export async function findBeside(
  name: string,
  model: string,
  what: keyof typeof folders,
  fromPrompt = false,
): Promise<string> {
  if (fromPrompt && (/^([\\/~]|[A-Za-z]:)/.test(name) || name.split(/[\\/]/).includes("..")))
    fail(`${what.toUpperCase()}_NOT_FOUND`, `${name} is a path, and a prompt names files beside the model`, {
      hint: "give the path by --lora, or the name alone",
    })
  for (const path of fromPrompt ? [] : [name, ...endings.map((ending) => name + ending)]) {
    const found = await stat(path).catch(() => null)
    if (found?.isFile()) return resolve(path)
    if (found?.isDirectory()) {
      const inside = await weightsIn(path)
      if (inside) return inside
    }
  }
  const near = isAbsolute(name) ? [] : await placesFor(model, what)
  for (const place of near) {
    const hit = await search(place.path, name, place.depth)
    if (hit) return hit
  }
  const kept = isAbsolute(name) ? undefined : await inLibrary(name, what)
  if (kept !== undefined) return kept
  return fail(`${what.toUpperCase()}_NOT_FOUND`, `there is no ${what} ${name}`, {
    file: name,
    hint: `name its path, or put it in a folder ${folders[what][0]} beside the model`,
  })
}

/** A file of the library by its name; of several with that name, none. */
async function inLibrary(name: string, what: keyof typeof folders): Promise<string | undefined> {
  const kind = what === "adapter" ? "lora" : "embedding"
  const entry = await findInLibrary(name.split(/[\\/]/).at(-1)!, { kind }).catch(() => null)
  return entry?.path
}

/** A folder as PEFT and diffusers save an adapter or an embedding: its one file of weights. */
async function weightsIn(folder: string): Promise<string | undefined> {
  const usual = ["pytorch_lora_weights", "adapter_model", "learned_embeds"]
  for (const stem of usual) {
    const path = join(folder, `${stem}.safetensors`)
    if ((await stat(path).catch(() => null))?.isFile()) return resolve(path)
  }
  return undefined
}

/** Where to look, nearest first: beside the model, folders there, and folders one level up (A1111, ComfyUI). */
async function placesFor(
  model: string,
  what: keyof typeof folders,
): Promise<{ path: string; depth: number }[]> {
  const here = await realpath(model).catch(() => resolve(model))
  const bases = [...new Set([resolve(model), here])].flatMap((path) => [
    path,
    dirname(path),
    dirname(dirname(path)),
  ])
  return [...new Set(bases)].flatMap((base) => [
    { path: base, depth: 0 },
    ...folders[what].map((folder) => ({ path: join(base, folder), depth: deepest })),
  ])
}

async function search(folder: string, name: string, depth: number): Promise<string | undefined> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const wanted = name.split(/[\\/]/).join(sep)
  for (const ending of ["", ...endings]) {
    const path = join(folder, wanted + ending)
    if (extname(path) !== "" && (await stat(path).catch(() => null))?.isFile()) return path
  }
  if (depth === 0) return undefined
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const hit = entry.isDirectory() ? await search(join(folder, entry.name), name, depth - 1) : undefined
    if (hit) return hit
  }
  return undefined
}

/** Names for people: the file's stem, or its folder's where the file has the name that every such file has. */
const nameOf = (path: string): string => {
  const stem = basename(path).replace(/\.[^.]+$/, "")
  return /^(pytorch_lora_weights|adapter_model|learned_embeds)$/.test(stem) ? basename(dirname(path)) : stem
}

/**
 * The folder or file of a ControlNet, T2I-Adapter or IP-Adapter, with finite weights; an IP-Adapter's picture encoder is
 * looked for beside it and in the model's folder. @throws CONTROLNET_NOT_ONE, IMAGE_ENCODER_*, WEIGHTS_NOT_FINITE, FOLDER_*, FILE_*
 */
export async function openControl(
  path: string,
  { encoder, model }: { encoder?: string | undefined; model: string },
): Promise<Guide & { encoder?: Guide }> {
  const guide = await sound(path, openControlNet)
  if (guide.component.className !== "IPAdapter") return guide
  const places = encoder === undefined ? encodersNear(path, model) : [encoder]
  for (const place of places) {
    if (!(await stat(place).catch(() => null))) continue
    const found = await sound(place, openImageEncoder)
    if (encoder !== undefined || seesWith(guide.component, found.component))
      return { ...guide, encoder: found }
  }
  return fail("IMAGE_ENCODER_NOT_FOUND", `${path} has no picture encoder that fits beside it`, {
    file: path,
    hint: "name one: encoder=PATH, the folder image_encoder of h94/IP-Adapter",
  })
}

/** Where published adapters have their encoder: the SDXL ones that see with the smaller one, in the other folder. */
const encodersNear = (path: string, model: string): string[] =>
  [
    dirname(resolve(path)),
    join(dirname(dirname(resolve(path))), "models"),
    resolve(model),
    dirname(resolve(model)),
  ].map((folder) => join(folder, "image_encoder"))

/** Opens a network's files and refuses NaN in them, once per state of the files. */
async function sound(path: string, open: (path: string) => Promise<Component>): Promise<Guide> {
  if (/\.(ckpt|pt|pth|bin)$/i.test(path)) refusePickle(path)
  const component = await open(path)
  const states = await Promise.all(component.files.map((file) => stat(file)))
  const id = [resolve(path), ...states.map(({ ino, size, mtimeMs }) => `${ino}-${size}-${mtimeMs}`)].join(" ")
  if (!vouched.has(id))
    await scanFinite(component.weights.values(), (file, into, position) =>
      withFile(file, async (source) => {
        into.set(await source.read(position, into.length))
      }),
    )
  vouched.add(id)
  return { id, component }
}

const vouched = new Set<string>()

async function hashesOf(path: string, dataStart: number) {
  const { sha256, autov3 = "" } = await hashFile(path, { dataStart })
  return { whole: sha256, data: autov3 }
}

const known = new Map<string, OpenedFile>()

/** Opens a file of weights once per state of the file; NaN and infinities are refused. @throws SAFETENSORS_*, WEIGHTS_NOT_FINITE */
export async function openWeights(path: string): Promise<OpenedFile> {
  if (/\.(ckpt|pt|pth|bin)$/i.test(path)) refusePickle(path)
  const { ino, size, mtimeMs } = await stat(path)
  const id = `${path} ${ino} ${size} ${mtimeMs}`
  const hit = known.get(id)
  if (hit) return hit
  const header = await openSafetensors(path)
  await withFile(path, (source) =>
    scanFinite(header.tensors.values(), async (_file, into, position) => {
      into.set(await source.read(position, into.length))
    }),
  )
  const read = (offset: number, length: number) => withFile(path, (source) => source.read(offset, length))
  let hashed: ReturnType<NonNullable<OpenedFile["hashes"]>> | undefined
  const hashes = () => (hashed ??= hashesOf(path, header.dataStart))
  const opened: OpenedFile = { id, name: nameOf(path), path, header, read, hashes }
  known.set(id, opened)
  return opened
}

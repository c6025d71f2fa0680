import { fail } from "../errors.ts"
import type { ReadWeights } from "../runtime/gather.ts"
import { type BuiltInModel, isBuiltIn } from "../weights/built-in.ts"
import { openCheckpoint } from "../weights/checkpoint.ts"
import { controlNetComponent } from "../weights/controlnet.ts"
import { scanFinite } from "../weights/finite.ts"
import { readFolder, type Tree } from "../weights/folder-layout.ts"
import { kindOf } from "../weights/kinds.ts"
import { parseLdmConfig } from "../weights/ldm-yaml.ts"
import type { Component, ModelFiles } from "../weights/model-files.ts"
import { readSafetensorsHeader } from "../weights/safetensors.ts"
import { type ByteSource, blobSource } from "../weights/source.ts"
import { Weights } from "../weights/view.ts"
import { type FetchOptions, fetchFile, fetchText, isThere } from "./fetch.ts"
import type { FileRef, OpenedFile, OtherFiles } from "./other-files.ts"
import { Sha256 } from "./sha256.ts"
import type { ReadText } from "./tokenizers.ts"
import { type OpenedUpscaler, openedUpscaler } from "./upscaler.ts"
import { type Vouched, vouched } from "./vouched.ts"

/** What a model in a browser comes from. */
export type WebModel = string | URL | Blob | readonly File[]

export interface WebFilesOptions extends FetchOptions {
  /** Text of the LDM `.yaml` that belongs to a single file. */
  readonly config?: string
  /**
   * Where the package's folder `assets/embedded` is served, for the model "embedded"; "embedded-fast" lies beside it.
   * Default: beside this module.
   */
  readonly embedded?: string | URL
}

// in two steps: a bundler would look for one file of that name
const beside = "../../assets/embedded"

function builtInUrl(name: BuiltInModel, embedded: string | URL | undefined): URL {
  const url = new URL(String(embedded ?? new URL(beside, import.meta.url)), globalThis.location?.href)
  url.pathname = url.pathname.replace(/\/+$/, "")
  return name === "embedded" ? url : new URL(name, url)
}

const textLimit = 32 * 1024 * 1024

/** A model's files in a browser: Blobs by name, read in pieces as they are needed. */
export class WebFiles implements OtherFiles {
  /** Name of the model, for people. */
  readonly name: string
  readonly model: ModelFiles
  readonly readText: ReadText
  private readonly sources: Map<string, ByteSource>

  private constructor(name: string, model: ModelFiles, sources: Map<string, ByteSource>, readText: ReadText) {
    this.name = name.replace(/\.safetensors$/, "")
    this.model = model
    this.sources = sources
    this.readText = readText
  }

  /** Opens headers and configs. @throws MODEL_*, FOLDER_*, SAFETENSORS_* */
  static async open(from: WebModel, options: WebFilesOptions): Promise<WebFiles> {
    if (from instanceof Blob)
      return WebFiles.single(from, from instanceof File ? from.name : "model", options)
    if (Array.isArray(from)) return WebFiles.folder(fileTree(from), rootOf(from))
    const named = isBuiltIn(from) ? builtInUrl(from, options.embedded) : from
    const url = new URL(String(named), globalThis.location?.href)
    const path = url.pathname.replace(/\/+$/, "")
    if (isPickle(path)) refusePickle(path)
    if (path.endsWith(".safetensors"))
      return WebFiles.single(await fetchFile(url.href, options), path.split("/").at(-1)!, options)
    return WebFiles.folder(urlTree(url, options), url.origin + path)
  }

  private static async single(blob: Blob, name: string, { config }: WebFilesOptions): Promise<WebFiles> {
    if (isPickle(name)) refusePickle(name)
    const source = blobSource(blob, name)
    const ldm = config === undefined ? undefined : parseLdmConfig(config, `the config of ${name}`)
    const model = await openCheckpoint(source, { path: name, ldm })
    return new WebFiles(name, model, new Map([[name, source]]), async () => undefined)
  }

  private static async folder(files: BlobTree, root: string): Promise<WebFiles> {
    const sources = new Map<string, ByteSource>()
    const header = async (path: string) => {
      const source = blobSource(await files.blob(path), path)
      sources.set(path, source)
      return readSafetensorsHeader(source)
    }
    const model = await readFolder({ ...files, header }, root)
    const readText = async (folder: string, file: string) => {
      const text = await files.text(files.join(folder, file), textLimit).catch(() => "")
      return text === "" ? undefined : text
    }
    return new WebFiles(root.split("/").at(-1)!, model, sources, readText)
  }

  private source(name: string): ByteSource {
    return this.sources.get(name) ?? fail("FILE_NOT_FOUND", `${name} is not open`, { blame: "here" })
  }

  readonly readWeights: ReadWeights = (name, offset, length) => this.source(name).read(offset, length)

  private readonly opened = new Map<FileRef, OpenedFile>()

  /** An adapter or embedding: a File or Blob, or the URL of a `.safetensors`. @throws SAFETENSORS_*, WEIGHTS_NOT_FINITE */
  async open(ref: FileRef): Promise<OpenedFile> {
    const known = this.opened.get(ref)
    if (known) return known
    const path = ref instanceof Blob ? (ref instanceof File ? ref.name : "adapter") : ref
    if (isPickle(path)) refusePickle(path)
    const url = ref instanceof Blob ? null : new URL(ref, globalThis.location?.href)
    const blob = ref instanceof Blob ? ref : await fetchFile(url!.href, {})
    // two files of one name are two files
    const id = `${path} ${this.opened.size}`
    const source = blobSource(blob, id)
    const header = await readSafetensorsHeader(source)
    this.sources.set(id, source)
    await scanFinite(header.tensors.values(), async (_file, into, position) => {
      into.set(await source.read(position, into.length))
    })
    const name = path
      .split("/")
      .at(-1)!
      .replace(/\.safetensors$/, "")
    const file = { id, name, path, header, read: source.read }
    this.opened.set(ref, file)
    return file
  }

  /** An upscaler in one `.safetensors`. @throws UPSCALER_NOT_ONE, WEIGHTS_DO_NOT_FIT */
  async upscaler(ref: FileRef): Promise<OpenedUpscaler> {
    const { header, ...about } = await this.open(ref)
    return openedUpscaler(header.tensors, about)
  }

  /** A ControlNet in one file. @throws CONTROLNET_NOT_ONE */
  async control(ref: FileRef): Promise<{ id: string; component: Component }> {
    const { id, path, header } = await this.open(ref)
    if (kindOf(header.tensors) !== "controlnet")
      fail("CONTROLNET_NOT_ONE", `${path} holds no ControlNet`, {
        file: path,
        hint: "a ControlNet was expected",
      })
    const tensors = new Weights()
    for (const [key, view] of header.tensors) tensors.set(key.replace(/^control_model\./, ""), view)
    return { id, component: controlNetComponent(tensors) }
  }

  /** Reads every weight once, for NaN and infinities, and once more for the hash of the denoiser's file. */
  vouch(): Vouched {
    const { components } = this.model
    const views = [...components.values()].flatMap((c) => [...c.weights.values()])
    const look = scanFinite(views, async (name, into, position) => {
      into.set(await this.source(name).read(position, into.length))
    })
    return vouched(look, async (_, rest) => {
      const source = this.source(components.get("unet")!.files[0]!)
      const hash = new Sha256()
      const piece = 1024 * 1024
      for (let at = 0; at < source.size; at += piece) {
        hash.update(await source.read(at, Math.min(piece, source.size - at)))
        await rest()
      }
      return { sha256: hash.hex() }
    })
  }
}

const isPickle = (path: string): boolean => /\.(ckpt|pt|pth|bin)$/i.test(path)

function refusePickle(name: string): never {
  fail("MODEL_PICKLE", `${name} is a pickled checkpoint`, {
    hint: "such files can hold programs and are not opened; find the model as .safetensors",
    file: name,
  })
}

const join = (...parts: string[]): string => parts.join("/")
const absent = (path: string): never => fail("FILE_NOT_FOUND", `${path}: no such file`, { file: path })

type BlobTree = Omit<Tree, "header"> & { blob(path: string): Promise<Blob> }

/** The folder above all of an `<input webkitdirectory>`'s files. */
const rootOf = (files: readonly File[]): string => files[0]?.webkitRelativePath.split("/")[0] ?? ""

/** A folder that the user chose. */
function fileTree(files: readonly File[]): BlobTree {
  const byPath = new Map(files.map((file) => [file.webkitRelativePath || file.name, file]))
  const find = (path: string): File => byPath.get(path) ?? absent(path)
  return {
    join,
    list: async (path) => [
      ...new Set(
        [...byPath.keys()]
          .filter((p) => p.startsWith(`${path}/`))
          .map((p) => p.slice(path.length + 1).split("/")[0]!),
      ),
    ],
    text: async (path, limit) => {
      const file = find(path)
      if (file.size > limit)
        fail("CONFIG_SIZE", `${path} has ${file.size} bytes, over the limit of ${limit}`, { file: path })
      return file.text()
    },
    blob: async (path) => find(path),
  }
}

/** A diffusers folder behind a URL. Servers list no folders: what the index names is asked for by its usual names. */
function urlTree(root: URL, options: FetchOptions): BlobTree {
  const at = (path: string): string => path + root.search
  const text: Tree["text"] = async (path, limit) =>
    (await fetchText(at(path), limit, options)) ?? absent(path)
  const list = async (path: string): Promise<string[]> => {
    const here = root.origin + root.pathname.replace(/\/+$/, "")
    if (path !== here) return present(path)
    const index = await fetchText(at(join(path, "model_index.json")), textLimit, options)
    if (index === undefined) return []
    const names = Object.keys(JSON.parse(index) as object)
    return ["model_index.json", ...names.filter((name) => !name.startsWith("_"))]
  }
  const present = async (path: string): Promise<string[]> => {
    const stem = /\/text_encoder(_\d)?$/.test(path) ? "model" : "diffusion_pytorch_model"
    const weights = [
      ".safetensors",
      ".fp16.safetensors",
      ".safetensors.index.json",
      ".safetensors.index.fp16.json",
    ]
    for (const name of weights.map((ending) => stem + ending))
      if (await isThere(at(join(path, name)), options)) return ["config.json", name]
    return ["config.json"]
  }
  return { join, list, text, blob: (path) => fetchFile(at(path), options) }
}

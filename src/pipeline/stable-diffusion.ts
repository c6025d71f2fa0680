import { stat } from "node:fs/promises"
import { basename, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { AquatintError, fail } from "../errors.ts"
import { encodeImage } from "../image/codec.ts"
import { chooseDevice } from "../runtime/devices.ts"
import type { DeviceName, Engine } from "../runtime/engine.ts"
import { spawnEngine } from "../runtime/spawn.ts"
import { tryDevice } from "../runtime/trial.ts"
import { type BuiltInModel, isBuiltIn } from "../weights/built-in.ts"
import { openVae } from "../weights/components.ts"
import { openFolder } from "../weights/folder.ts"
import { cachedHubModel } from "../weights/hub/cache.ts"
import { findInLibrary } from "../weights/hub/library.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import { openSingleFile } from "../weights/single-file.ts"
import { findBeside, openControl, openWeights } from "./adapter-files.ts"
import { codeFiles } from "./code-files.ts"
import { cacheFolder, vouch } from "./facts.ts"
import { readIfThere, writeAtomic } from "./files.ts"
import { Model } from "./model.ts"
import { type ComputeType, Networks } from "./networks.ts"
import type { OtherFiles } from "./other-files.ts"
import { refusePickle } from "./pickled.ts"
import { findPreviewVae } from "./preview-files.ts"
import { openTokenizers } from "./tokenizers.ts"
import { openUpscalerFile } from "./upscaler-files.ts"

export interface LoadOptions {
  /** Default `auto`: the fastest device that works here. */
  device?: "auto" | DeviceName
  /** How to compute; default `auto`, which is single precision so far. */
  dtype?: "auto" | ComputeType
  /** Give each network's memory back as soon as a generation is done with it; default false. */
  frugal?: boolean
  /** Where facts of weight files (hash, finite) are remembered; default: the user's cache folder; null for nowhere. */
  cache?: string | null
  /** Another VAE: a folder or file of AutoencoderKL or AutoencoderTiny (TAESD), with its own scaling factor. */
  vae?: string
  /**
   * LoRAs will come: the denoiser is built with room for them from the start, so that the first one costs no more than
   * later ones. Default false: it is built again, once, when the first one comes.
   */
  expectLoras?: boolean
  /** The file that a prompt means by `<lora:NAME>`; where it says none, and by default: one of that name beside the model. */
  lora?: (name: string) => string | undefined | Promise<string | undefined>
  /**
   * A small autoencoder (TAESD) that decodes previews: folder or file, or `beside` for the one that lies beside the model,
   * if there is one. Default: previews are rough.
   */
  preview?: string
  /** An engine to share; it is not ended by `release`. Default: a child process of this model's own. */
  engine?: Engine
}

const output = { encode: encodeImage, save: writeAtomic }

/** A Stable Diffusion model, ready to draw. */
export class StableDiffusion extends Model {
  /**
   * Opens a model by name or path: a `.safetensors` checkpoint or a diffusers folder. Every header and config is
   * checked; weights are mapped when a network is first used.
   * @throws MODEL_*, FOLDER_*, SAFETENSORS_*, WEIGHTS_*, DEVICE_*
   */
  static async load(name: string, options: LoadOptions = {}): Promise<StableDiffusion> {
    const began = performance.now()
    // the engine's process starts while headers are read
    const engine = options.engine ?? spawnEngine()
    try {
      const files = await openModel(name)
      if (options.vae !== undefined)
        files.components.set("vae", await openVae(await vaePath(options.vae), { family: files.family }))
      const { device } = await chooseDevice(options.device ?? "auto")
      const dtype = options.dtype === "int8" ? "int8" : "fp32"
      const { expectLoras } = options
      const networks = new Networks(files, engine, device, {
        dtype,
        expectLoras,
        ...keptCodes(files, options),
      })
      await addPreviewer(networks, files, options.preview)
      await tryDevice(engine, device)
      const vouched = vouch(files, options.cache)
      const tokenizers = await openTokenizers(files, (folder, file) => readIfThere(join(folder, file)))
      return new StableDiffusion({
        name: basename(files.path).replace(/\.safetensors$/, ""),
        files,
        device,
        engine,
        shared: options.engine !== undefined,
        networks,
        tokenizers,
        vouched,
        frugal: options.frugal ?? false,
        loadSeconds: (performance.now() - began) / 1000,
        output,
        others: othersOf(files, options),
      })
    } catch (error) {
      if (!options.engine) await engine.close()
      throw error
    }
  }
}

async function addPreviewer(networks: Networks, files: ModelFiles, preview: string | undefined) {
  if (preview === undefined) return
  const { path, family } = files
  if (preview !== "beside") return networks.addPreviewer(await openVae(preview, { family }))
  const found = await findPreviewVae(path, family)
  try {
    if (found) networks.addPreviewer(found)
  } catch (error) {
    // nobody asked for this file: previews stay rough
    if (!(error instanceof AquatintError)) throw error
  }
}

/** Files that a request names beside the model. */
function othersOf({ path: model }: ModelFiles, { lora }: LoadOptions): OtherFiles {
  const find = async (name: string, what: "adapter" | "embedding", fromPrompt?: boolean) => {
    const meant = fromPrompt && what === "adapter" ? await lora?.(name) : undefined
    return meant ?? findBeside(name, model, what, fromPrompt)
  }
  return {
    open: async (ref, what, fromPrompt) =>
      typeof ref === "string" ? openWeights(await find(ref, what, fromPrompt)) : refuseBlob(),
    upscaler: async (ref) =>
      openUpscalerFile(typeof ref === "string" ? await findBeside(ref, model, "upscaler") : refuseBlob()),
    control: async (ref, encoder) => {
      const [path, beside] = [ref, encoder].map((r) => (r instanceof Blob ? refuseBlob() : r))
      return openControl(path!, { encoder: beside, model })
    },
  }
}

/** Codes of eight-bit weights lie in the cache folder. */
const keptCodes = (files: ModelFiles, { cache = cacheFolder() }: LoadOptions) =>
  cache === null ? {} : { store: codeFiles(files, cache) }

/** The folder of a model that comes with the package. */
export const builtInFolder = (name: BuiltInModel): string =>
  fileURLToPath(new URL(`../../assets/${name}`, import.meta.url))

/** The model that comes with the package. */
export const embeddedFolder = builtInFolder("embedded")

/** A model of Hugging Face's cache or of our library. */
const byName = async (name: string): Promise<string | null> =>
  (await cachedHubModel(name)) ?? (await findInLibrary(name, { kind: "model" }))?.path ?? null

/** A path, or the name of a VAE of the library. */
const vaePath = async (name: string): Promise<string> =>
  (await stat(name).catch(() => null)) ? name : ((await findInLibrary(name, { kind: "vae" }))?.path ?? name)

const refuseBlob = (): never =>
  fail("REQUEST_FILE", "a Blob where a path is needed", { hint: "name the file by its path" })

/** Opens a model's headers and configs by path. */
export async function openModel(name: string): Promise<ModelFiles> {
  const here = isBuiltIn(name) ? builtInFolder(name) : resolve(name)
  const path = (await stat(here).catch(() => null)) ? here : ((await byName(name)) ?? here)
  const found = await stat(path).catch(() => null)
  if (!found) {
    const what = isBuiltIn(name)
      ? `this build carries no model ${name}`
      : `${name} is no file or folder, and no model of the library or of Hugging Face's cache`
    return fail("MODEL_NOT_FOUND", what, {
      hint: "name a checkpoint: --model path/to/model.safetensors, or a diffusers folder",
      file: name,
    })
  }
  if (found.isDirectory()) return openFolder(path)
  if (/\.(ckpt|pt|pth|bin)$/i.test(path)) refusePickle(path)
  return openSingleFile(path)
}

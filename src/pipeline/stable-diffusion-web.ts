import { encodeImage } from "../image/codec-web.ts"
import { chooseWebDevice } from "../runtime/devices-web.ts"
import type { Engine } from "../runtime/engine.ts"
import { spawnWebEngine } from "../runtime/spawn-web.ts"
import { tryDevice } from "../runtime/trial.ts"
import type { Output } from "./image.ts"
import { Model } from "./model.ts"
import { Networks } from "./networks.ts"
import { openTokenizers } from "./tokenizers.ts"
import { WebFiles, type WebFilesOptions, type WebModel } from "./web-files.ts"

export interface LoadOptions extends WebFilesOptions {
  /** Default `auto`: the GPU where WebGPU reaches a real one, else WebAssembly. */
  device?: "auto" | "webgpu" | "wasm"
  /** Give each network's memory back as soon as a generation is done with it; default false. */
  frugal?: boolean
  /** Folder that serves onnxruntime-web's `.wasm` and `.mjs` files; default: where the bundler put them. */
  wasm?: string
  /** Default: the cores, at most 8, on pages that are cross-origin isolated, else 1. */
  threads?: number
  /** An engine to share; it is not ended by `release`. Default: a web worker of this model's own. */
  engine?: Engine
}

const output: Output = {
  encode: encodeImage,
  async save(name, bytes) {
    const url = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>]))
    const link = document.createElement("a")
    link.href = url
    link.download = name.split("/").at(-1)!
    link.click()
    // the download has taken its own hold of the bytes by then
    setTimeout(() => URL.revokeObjectURL(url), 60_000)
  },
}

/** A Stable Diffusion model in a browser, ready to draw. */
export class StableDiffusion extends Model {
  /**
   * Opens a single-file checkpoint (a File, a Blob, or the URL of a `.safetensors`) or a diffusers folder (its URL, or
   * the files of an `<input webkitdirectory>`). Every header and config is checked; weights are read when a network is
   * first used.
   * @throws MODEL_*, FOLDER_*, SAFETENSORS_*, WEIGHTS_*, DEVICE_*
   */
  static async load(from: WebModel, options: LoadOptions = {}): Promise<StableDiffusion> {
    const began = performance.now()
    const files = await WebFiles.open(from, options)
    const { device } = await chooseWebDevice(options.device ?? "auto")
    const { wasm, threads } = options
    const engine = options.engine ?? spawnWebEngine(device, { wasm, threads })
    try {
      const networks = new Networks(files.model, engine, device, { read: files.readWeights })
      await tryDevice(engine, device)
      const vouched = files.vouch()
      return new StableDiffusion({
        name: files.name,
        files: files.model,
        device,
        engine,
        shared: options.engine !== undefined,
        networks,
        tokenizers: await openTokenizers(files.model, files.readText),
        vouched,
        frugal: options.frugal ?? false,
        loadSeconds: (performance.now() - began) / 1000,
        output,
        others: files,
      })
    } catch (error) {
      if (!options.engine) await engine.close()
      throw error
    }
  }
}

import { fail } from "../errors.ts"
import type { Picture } from "../image/pixels.ts"
import { vaeFactor } from "../models/index.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import type { Networks } from "./networks.ts"
import type { Preset } from "./presets.ts"
import { checkRequest, checkSize, type GenerateRequest } from "./request.ts"

/** A request with every default filled in from the model. */
export interface Settings {
  /** What the model or an adapter was distilled for, where nothing was asked for. */
  readonly preset: Preset | null
  readonly prompt: string
  readonly negative: string
  readonly steps: number
  readonly cfg: number
  readonly imageCfg: number
  readonly guidanceRescale: number
  readonly clipSkip: number | undefined
  readonly seed: number
  readonly width: number
  readonly height: number
  readonly count: number
  readonly rng: "cpu" | "cuda"
  readonly strength: number
  readonly init: Picture | undefined
  readonly mask: Picture | undefined
  readonly promptSyntax: "a1111" | "comfy" | "compel" | "plain"
  readonly zeroNegative: boolean
  readonly instruct: boolean
}

/** A config must not ask for a picture that fills the memory, in pixels. */
const largestNative = 4096

/** Side of the pictures a model was trained on, in pixels. */
export function nativeSize(files: ModelFiles, factor: number): number {
  const said = files.components.get("unet")?.config.sample_size
  if (typeof said === "number") {
    if (!(said > 0 && said * factor <= largestNative))
      fail("MODEL_CONFIG", `U-Net config: sample_size ${said} is no model's size`, {
        file: files.path,
        hint: "compare the config.json with the model's origin",
      })
    return said * factor
  }
  if (files.family === "sdxl" || files.family === "sdxl-refiner") return 1024
  return files.family === "sd2" && files.prediction === "v_prediction" ? 768 : 512
}

/** A default that the model's own folder names, beside what diffusers reads there. */
function ownDefault(files: ModelFiles, key: string): number | undefined {
  const own = files.index._aquatint
  const value = typeof own === "object" && own !== null ? (own as Record<string, unknown>)[key] : undefined
  return typeof value === "number" && value >= 1 && value <= 150 ? value : undefined
}

const wholeEights = (pixels: number, step: number) => Math.max(step, Math.floor(pixels / step) * step)

/** Fills in defaults and refuses what this model cannot do. @throws REQUEST_* */
export function settle(
  ask: GenerateRequest,
  files: ModelFiles,
  networks: Networks,
  preset: Preset | null = null,
): Settings {
  checkRequest(ask)
  const factor = vaeFactor(networks.vae)
  const step = Math.max(8, factor)
  const native = wholeEights(nativeSize(files, factor), step)
  const width = ask.width ?? (ask.init ? wholeEights(ask.init.width, step) : native)
  const height = ask.height ?? (ask.init ? wholeEights(ask.init.height, step) : native)
  checkSize(width, height, factor)
  const latents = networks.vae.latent_channels
  const channels = networks.unet.in_channels
  if (![latents, 2 * latents, 2 * latents + 1].includes(channels))
    fail("MODEL_CHANNELS", `a U-Net of ${channels} input channels for ${latents} latent channels`, {
      file: files.path,
    })
  if (channels !== latents && !ask.init) {
    fail(
      "REQUEST_INIT",
      `this ${channels === 2 * latents ? "instruct" : "inpainting"} model needs a start picture`,
      { hint: "name one with --init" },
    )
  }
  const own = (key: string) => ownDefault(files, key)
  return {
    prompt: ask.prompt,
    negative: ask.negative ?? "",
    preset,
    steps: ask.steps ?? own("steps") ?? preset?.steps ?? 20,
    cfg: ask.cfg ?? own("cfg") ?? preset?.cfg ?? 7.5,
    imageCfg: ask.imageCfg ?? 1.5,
    guidanceRescale: ask.guidanceRescale ?? 0,
    clipSkip: ask.clipSkip,
    seed: ask.seed ?? Math.floor(Math.random() * 2 ** 32),
    width,
    height,
    count: ask.count ?? 1,
    rng: ask.rng ?? "cpu",
    strength: ask.strength ?? 0.75,
    init: ask.init,
    mask: ask.mask,
    promptSyntax: ask.promptSyntax ?? "a1111",
    zeroNegative: files.index.force_zeros_for_empty_prompt === true && ask.negative === undefined,
    instruct: channels === 2 * latents,
  }
}

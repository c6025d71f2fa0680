import { fail } from "../errors.ts"
import type { Wrap } from "../graph/index.ts"
import type { Picture } from "../image/pixels.ts"
import type { Sides } from "../image/region.ts"
import { vaeFactor } from "../models/index.ts"
import type { EmphasisMode } from "../text/prompt.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import { type Hires, hiresOf, upscalerOf } from "./hires.ts"
import type { Networks } from "./networks.ts"
import type { FileRef } from "./other-files.ts"
import type { Preset } from "./presets.ts"
import { checkRequest, checkSize, type Fill, type GenerateRequest, type InpaintArea } from "./request.ts"
import { extended } from "./scene.ts"
import { type Shortcuts, shortcutsOf } from "./shortcuts.ts"

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
  readonly shortcuts: Shortcuts
  readonly clipSkip: number | undefined
  readonly seed: number
  readonly width: number
  readonly height: number
  /** Pixels per latent. */
  readonly factor: number
  readonly count: number
  readonly rng: "cpu" | "cuda"
  readonly strength: number
  readonly init: Picture | undefined
  readonly mask: Picture | undefined
  readonly inpaintArea: InpaintArea
  readonly maskPadding: number
  /** Undefined where diffusers' reading is asked for: the drawn picture as it is, nothing laid over it. */
  readonly maskBlur: number | undefined
  readonly fill: Fill
  /** Pixels that the start picture was extended by. */
  readonly extended: Sides | undefined
  readonly variation: VariationSettings
  readonly hires: Hires | undefined
  readonly upscale: number
  readonly upscaler: FileRef
  readonly sdUpscale: { readonly scale: number; readonly overlap: number } | undefined
  /** Axes along which edges meet; null for none. */
  readonly wrap: Wrap | null
  readonly promptSyntax: "a1111" | "comfy" | "compel" | "plain"
  readonly emphasis: EmphasisMode
  readonly zeroNegative: boolean
  readonly instruct: boolean
}

/** The seed of picture i: variations share one (A1111). */
export const seedOf = ({ seed, variation }: Pick<Settings, "seed" | "variation">, i: number): number =>
  variation.strength > 0 ? seed : seed + i

/** How the noise of a picture is varied; `from` in pixels. */
export interface VariationSettings {
  readonly seed: number
  readonly strength: number
  readonly from: { readonly width: number; readonly height: number } | undefined
}

const randomSeed = () => Math.floor(Math.random() * 2 ** 32)

const variationOf = ({
  variationSeed,
  variationStrength = 0,
  seedFrom,
}: GenerateRequest): VariationSettings => ({
  seed: variationSeed ?? (variationStrength > 0 ? randomSeed() : 0),
  strength: variationStrength,
  from: seedFrom,
})

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

/** Steps and guidance scale where a request names none. */
export const ownSteps = (files: ModelFiles, preset: Preset | null): { steps: number; cfg: number } => ({
  steps: ownDefault(files, "steps") ?? preset?.steps ?? 20,
  cfg: ownDefault(files, "cfg") ?? preset?.cfg ?? 7.5,
})

/** Side of the pictures that are drawn where a request names none: a multiple of `step`. */
export const ownSide = (files: ModelFiles, factor: number, step: number): number =>
  wholeEights(nativeSize(files, factor), step)

const wholeEights = (pixels: number, step: number) => Math.max(step, Math.floor(pixels / step) * step)

/** Width and height of what is drawn. */
function sizeOf(ask: GenerateRequest, native: number, step: number): { width: number; height: number } {
  // a part of the start picture is drawn at the size the model knows best
  const like = ask.inpaintArea === "masked" || ask.sdUpscale ? undefined : ask.init
  return {
    width: ask.width ?? (like ? wholeEights(like.width, step) : native),
    height: ask.height ?? (like ? wholeEights(like.height, step) : native),
  }
}

function sdUpscaleOf({ sdUpscale }: GenerateRequest, width: number, height: number): Settings["sdUpscale"] {
  if (!sdUpscale) return undefined
  const { scale = 2, overlap = 64 } = sdUpscale
  if (2 * overlap > Math.min(width, height))
    fail("REQUEST_UPSCALE", `tiles of ${width}x${height} cannot overlap by ${overlap} pixels`, {
      hint: `use at most ${Math.floor(Math.min(width, height) / 2)}`,
    })
  return { scale, overlap }
}

/** Refuses start pictures for networks that cannot read them, and none for those that need one. */
function checkChannels(channels: number, latents: number, ask: GenerateRequest, path: string): void {
  if (![latents, 2 * latents, 2 * latents + 1].includes(channels))
    fail("MODEL_CHANNELS", `a U-Net of ${channels} input channels for ${latents} latent channels`, {
      file: path,
    })
  if (channels !== latents && !ask.init) {
    fail(
      "REQUEST_INIT",
      `this ${channels === 2 * latents ? "instruct" : "inpainting"} model needs a start picture`,
      { hint: "name one with --init" },
    )
  }
}

/** What a picture begins from, and what of that is drawn anew. */
const startOf = (ask: GenerateRequest) => ({
  strength: ask.strength ?? 0.75,
  init: ask.init,
  mask: ask.mask,
  inpaintArea: ask.inpaintArea ?? "whole",
  maskPadding: ask.maskPadding ?? 32,
  maskBlur: ask.maskBlur ?? (ask.inpaintArea === "masked" ? 0 : undefined),
  fill: ask.fill ?? "original",
  extended: ask.extend,
})

const syntaxOf = ({ promptSyntax = "a1111", emphasis = "original" }: GenerateRequest) => ({
  promptSyntax,
  emphasis,
})

/** Fills in defaults and refuses what this model cannot do. @throws REQUEST_* */
export function settle(
  asked: GenerateRequest,
  files: ModelFiles,
  networks: Networks,
  preset: Preset | null = null,
): Settings {
  checkRequest(asked)
  const factor = vaeFactor(networks.vae)
  const step = Math.max(8, factor)
  const ask = { ...asked, ...extended(asked, step) }
  const { width, height } = sizeOf(ask, ownSide(files, factor, step), step)
  checkSize(width, height, factor)
  const latents = networks.vae.latent_channels
  const channels = networks.unet.in_channels
  checkChannels(channels, latents, ask, files.path)
  const own = ownSteps(files, preset)
  const { steps = own.steps, cfg = own.cfg } = ask
  const hires = hiresOf(ask, { width, height, steps, cfg }, step)
  if (hires) checkSize(hires.width, hires.height, factor)
  return {
    prompt: ask.prompt,
    negative: ask.negative ?? "",
    preset,
    steps,
    cfg,
    imageCfg: ask.imageCfg ?? 1.5,
    guidanceRescale: ask.guidanceRescale ?? 0,
    shortcuts: shortcutsOf(ask),
    clipSkip: ask.clipSkip,
    seed: ask.seed ?? randomSeed(),
    width,
    height,
    factor,
    count: ask.count ?? 1,
    rng: ask.rng ?? "cpu",
    ...startOf(ask),
    variation: variationOf(ask),
    hires,
    upscale: ask.upscale ?? 1,
    upscaler: upscalerOf(ask.upscaler ?? "lanczos"),
    sdUpscale: sdUpscaleOf(ask, width, height),
    wrap: ask.tiling ? { x: ask.tiling !== "y", y: ask.tiling !== "x" } : null,
    ...syntaxOf(ask),
    zeroNegative: files.index.force_zeros_for_empty_prompt === true && ask.negative === undefined,
    instruct: channels === 2 * latents,
  }
}

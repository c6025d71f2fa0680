import { AquatintError } from "../errors.ts"
import { type Infotext, writeInfotext } from "../image/infotext.ts"
import type { EncodeOptions } from "../image/options.ts"
import type { Picture } from "../image/pixels.ts"
import type { Strength } from "../text/networks.ts"
import { xmpMark } from "../trust/mark.ts"
import { behaviour, version } from "../version.ts"
import type { AdapterReport } from "./adapters.ts"
import type { FileMarks } from "./file-marks.ts"
import { upscalerLabel } from "./hires.ts"
import type { ComputeType } from "./networks.ts"
import { nameOf } from "./presets.ts"
import { comfyGraph, comfySampler } from "./recipe/comfy-graph.ts"
import type { GenerateRequest } from "./request.ts"
import { samplerChoice } from "./samplers.ts"
import { type Settings, seedOf } from "./settings.ts"
import type { FileFacts } from "./vouched.ts"

export type ImageFormat = "png" | "jpeg" | "webp"

/** How pictures leave a platform. */
export interface Output {
  encode(picture: Picture, options: EncodeOptions): Promise<Uint8Array>
  /** Puts a whole file where its name says; browsers offer it for download. */
  save(name: string, bytes: Uint8Array): Promise<void>
}

interface Origin {
  ask: GenerateRequest
  settings: Settings
  index: number
  model: string
  /** The model's form, and its own scheduler's config. */
  folder: boolean
  scheduler: Readonly<Record<string, unknown>>
  adapters: readonly AdapterReport[]
  marks: FileMarks
  dtype: ComputeType
  facts: FileFacts
}

/** A ComfyUI graph of a picture drawn from text in one pass, where ComfyUI has its sampler. */
function graphOf({ ask, settings, index, model, folder, scheduler, adapters }: Origin) {
  const { init, hires, preset, variation } = settings
  if (init || hires || settings.wrap || variation.strength > 0 || ask.controls?.length || ask.refiner)
    return null
  const named = ask.sampler ?? preset?.sampler
  const recipe = named === undefined ? undefined : samplerChoice(named, ask.schedule ?? preset?.schedule)
  const found = comfySampler(recipe?.sampler, recipe?.schedule, scheduler)
  const loras = adapters.flatMap(({ path, unet, text }) =>
    typeof unet === "number" && typeof text === "number"
      ? [{ name: path.split(/[\\/]/).at(-1)!, unet, text }]
      : [],
  )
  if (!found || loras.length < adapters.length || settings.rng !== "cpu") return null
  const { prompt, negative, steps, cfg, width, height, clipSkip } = settings
  return comfyGraph({
    ...{ prompt, negative, steps, cfg, width, height, clipSkip, loras },
    seed: seedOf(settings, index),
    sampler: found[0],
    scheduler: found[1],
    model: { name: folder ? model : `${model}.safetensors`, folder },
  })
}

/** Adapters asked for beside the prompt, as A1111 names them in prompts. */
function loraTagsOf({ loras = [] }: GenerateRequest): string {
  const written = (strength: Strength) =>
    typeof strength === "number" ? String(strength) : strength.map((point) => point.join("@")).join(",")
  return loras
    .flatMap(({ file, weight = 1, text = weight, unet = weight }) => {
      const name = typeof file === "string" ? nameOf(file) : ""
      const weights = written(text) === written(unet) ? written(unet) : `${written(text)}:${written(unet)}`
      return name === "" ? [] : [`<lora:${name}:${weights}>`]
    })
    .join("")
}

/** How the prompt was read, where that is not A1111's usual way. */
function textFields({ promptSyntax, emphasis }: Settings, adapters: string): [string, string][] {
  const mode = { "no-norm": "No norm", ignore: "Ignore", none: "None", original: "" }[emphasis]
  return [
    ...(promptSyntax === "a1111" ? [] : [["Prompt syntax", promptSyntax] as [string, string]]),
    ...(mode && promptSyntax === "a1111" ? [["Emphasis", mode] as [string, string]] : []),
    ...(adapters ? [["Adapters", adapters] as [string, string]] : []),
  ]
}

/** Shortcuts that were taken. */
function shortcutFields({ shortcuts: s }: Settings): [string, string][] {
  return [
    ...(s.stepCache > 1 ? [["Step cache", String(s.stepCache)] as [string, string]] : []),
    ...(s.guidanceStart > 0 ? [["Guidance start", String(s.guidanceStart)] as [string, string]] : []),
    // A1111's own name for it
    ...(s.tokenMerge > 0 ? [["Token merging ratio", String(s.tokenMerge)] as [string, string]] : []),
    ...(s.guidanceHold < 1 ? [["Guidance hold", String(s.guidanceHold)] as [string, string]] : []),
    ...(s.guidanceEnd < 1 ? [["Guidance end", String(s.guidanceEnd)] as [string, string]] : []),
  ]
}

function samplingFields({ eta, guidanceRescale, refiner }: GenerateRequest): [string, string][] {
  return [
    ...(eta ? [["Eta DDIM", String(eta)] as [string, string]] : []),
    ...(guidanceRescale ? [["Guidance rescale", String(guidanceRescale)] as [string, string]] : []),
    ...(refiner
      ? ([
          ["Refiner", refiner.model.name],
          ["Refiner switch at", String(refiner.at ?? 0.8)],
        ] as [string, string][])
      : []),
  ]
}

/** What A1111 writes of the modes in force, under its keys. */
function modeFields(settings: Settings): [string, string][] {
  const { init, mask, inpaintArea, maskPadding, maskBlur, fill, variation } = settings
  const found: [string, string][] = []
  if (settings.wrap)
    found.push(["Tiling", settings.wrap.x && settings.wrap.y ? "True" : settings.wrap.x ? "x" : "y"])
  if (variation.from) found.push(["Seed resize from", `${variation.from.width}x${variation.from.height}`])
  if (init && mask && maskBlur) found.push(["Mask blur", String(maskBlur)])
  if (init && mask && inpaintArea === "masked")
    found.push(["Inpaint area", "Only masked"], ["Masked area padding", String(maskPadding)])
  if (init && mask && fill !== "original") found.push(["Masked content", fill.replace("-", " ")])
  return [...found, ...hiresFields(settings), ...enlargedFields(settings)]
}

function enlargedFields({ upscale, upscaler, sdUpscale }: Settings): [string, string][] {
  const label = upscalerLabel(upscaler)
  const tiles: [string, string][] = sdUpscale
    ? [
        ["SD upscale by", String(sdUpscale.scale)],
        ["SD upscale overlap", String(sdUpscale.overlap)],
        ["SD upscale upscaler", label],
      ]
    : []
  const after: [string, string][] =
    upscale > 1
      ? [
          ["Postprocess upscale by", String(upscale)],
          ["Postprocess upscaler", label],
        ]
      : []
  return [...tiles, ...after]
}

/** A1111's fields of a second pass. */
function hiresFields({ hires, prompt, negative }: Settings): [string, string][] {
  if (!hires) return []
  const { ask } = hires
  const found: [string, string | number | undefined][] = [
    ask.width === undefined && ask.height === undefined
      ? ["Hires upscale", ask.scale ?? 2]
      : ["Hires resize", `${ask.width ?? 0}x${ask.height ?? 0}`],
    ["Hires steps", ask.steps],
    ["Hires upscaler", upscalerLabel(hires.upscaler)],
    ["Hires sampler", ask.sampler],
    ["Hires schedule type", ask.schedule],
    ["Hires CFG Scale", ask.cfg],
    ["Hires prompt", hires.prompt === prompt ? undefined : hires.prompt],
    ["Hires negative prompt", hires.negative === negative ? undefined : hires.negative],
  ]
  return found.flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]]))
}

const formats: Record<string, ImageFormat> = { png: "png", jpg: "jpeg", jpeg: "jpeg", webp: "webp" }

/** The format that a file name's extension stands for. @throws OUTPUT_FORMAT */
export function formatOf(path: string): ImageFormat {
  const extension = /\.([^./\\]+)$/.exec(path)?.[1]?.toLowerCase() ?? ""
  const format = formats[extension]
  if (!format)
    throw new AquatintError("OUTPUT_FORMAT", `${path} does not end in .png, .jpg or .webp`, {
      hint: "choose one of these extensions",
    })
  return format
}

/** A drawn picture; every encoding carries its generation parameters and the mark that a machine made it. */
export class GeneratedImage {
  readonly picture: Picture
  readonly seed: number
  private readonly origin: Origin
  private readonly output: Output

  constructor(picture: Picture, origin: Origin, output: Output) {
    this.picture = picture
    this.origin = origin
    this.output = output
    this.seed = seedOf(origin.settings, origin.index)
  }

  /** What was drawn, in words. */
  get prompt(): string {
    return this.origin.settings.prompt
  }

  /** A picture made of this one, a grid for instance, with this one's parameters and mark. */
  around(picture: Picture): GeneratedImage {
    return new GeneratedImage(picture, this.origin, this.output)
  }

  get width(): number {
    return this.picture.width
  }

  get height(): number {
    return this.picture.height
  }

  /** Generation parameters in AUTOMATIC1111's form. */
  get infotext(): string {
    const { ask, settings, index, model, facts, marks } = this.origin
    const { variation, promptSyntax } = settings
    const tags = loraTagsOf(ask)
    const tagged = promptSyntax === "a1111" && tags !== ""
    const record: Infotext = {
      prompt: tagged ? `${settings.prompt} ${tags}` : settings.prompt,
      negativePrompt: settings.negative,
      steps: settings.steps,
      sampler: ask.sampler,
      scheduleType: ask.schedule,
      cfgScale: settings.cfg,
      imageCfgScale: settings.instruct ? settings.imageCfg : undefined,
      seed: this.seed,
      width: settings.width,
      height: settings.height,
      modelHash: facts.sha256.slice(0, 10),
      model,
      vaeHash: facts.vae?.sha256.slice(0, 10),
      vae: facts.vae?.name,
      variationSeed: variation.strength > 0 ? (variation.seed + index) % 2 ** 32 : undefined,
      variationSeedStrength: variation.strength > 0 ? variation.strength : undefined,
      denoisingStrength: settings.init ? settings.strength : settings.hires?.strength,
      clipSkip: settings.clipSkip,
      rng: settings.rng === "cuda" ? "NV" : "CPU",
      loraHashes: { ...marks.loras },
      embeddingHashes: { ...marks.embeddings },
      version: `aquatint ${version}`,
      extra: [
        ...textFields(settings, tagged ? "" : tags),
        ...modeFields(settings),
        ...samplingFields(ask),
        ...shortcutFields(settings),
        ...(this.origin.dtype === "fp32" ? [] : [["Compute type", this.origin.dtype] as [string, string]]),
        ["Behaviour", String(behaviour)],
      ],
    }
    return writeInfotext(record)
  }

  /** ComfyUI's graphs of the same drawing, as JSON; null where ComfyUI cannot draw it so. */
  get graph(): { readonly prompt: string; readonly workflow: string } | null {
    return graphOf(this.origin)
  }

  /** The file's bytes: PNG (lossless), JPEG or WebP. */
  encode(format: ImageFormat = "png", quality?: number): Promise<Uint8Array> {
    const xmp = xmpMark({
      composite: this.origin.settings.init !== undefined,
      system: `aquatint, ${this.origin.model}`,
      version,
    })
    const metadata = { parameters: this.infotext, ...this.graph, xmp }
    return this.output.encode(this.picture, { format, quality, metadata })
  }

  /** The file as a Blob, for `URL.createObjectURL` and uploads. */
  async blob(format: ImageFormat = "png", quality?: number): Promise<Blob> {
    const bytes = await this.encode(format, quality)
    return new Blob([bytes as Uint8Array<ArrayBuffer>], { type: `image/${format}` })
  }

  /** Writes a file whose extension chooses the format, never a partial one; in browsers it is offered for download. */
  async save(path: string): Promise<void> {
    await this.output.save(path, await this.encode(formatOf(path)))
  }
}

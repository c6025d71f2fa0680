import { fail } from "../errors.ts"
import type { Picture } from "../image/pixels.ts"
import type { Sides } from "../image/region.ts"

import type { Strength } from "../text/networks.ts"
import { type EmphasisMode, emphases } from "../text/prompt.ts"
import type { ControlRequest } from "./control.ts"
import { checkHires, type HiresRequest } from "./hires.ts"
import type { Model } from "./model.ts"
import type { FileRef } from "./other-files.ts"
import { mostMerged, type Speed, speeds } from "./shortcuts.ts"

/** A LoRA or one of its kin (LoCon, LoHa, LoKr, DoRA) and how strongly it acts. */
export interface LoraRequest {
  /** Path, or name beside the model or in its `loras` folder; in browsers a File or Blob. */
  file: FileRef
  /** Default 1; strengths at places of the run go from one to the next. */
  weight?: Strength
  /** Strength in the text encoders; default: `weight` (of the first call, as texts are encoded once). */
  text?: Strength
  /** Strength in the U-Net; default: `weight`. */
  unet?: Strength
}

/** A textual inversion whose word is another than its file's name. */
export interface EmbeddingRequest {
  file: FileRef
  word: string
}

export const inpaintAreas = ["whole", "masked"] as const
/** How much of the picture inpainting draws. */
export type InpaintArea = (typeof inpaintAreas)[number]

export const tilings = ["x", "y", "both"] as const
/** Axes along which a picture goes on at its other edge. */
export type Tiling = (typeof tilings)[number]

export const fills = ["fill", "original", "latent-noise", "latent-nothing"] as const
/** What masked places begin from: blurred colours around them, the picture itself, noise, or nought. */
export type Fill = (typeof fills)[number]

/** A picture enlarged and redrawn tile by tile (A1111's "SD upscale"). */
export interface SdUpscaleRequest {
  /** Default 2. */
  scale?: number
  /** Pixels that tiles share with the next, default 64. */
  overlap?: number
}

/** What a picture is asked to be. Lengths in pixels; everything but the prompt has a default. */
export interface GenerateRequest {
  prompt: string
  /** Default: empty. */
  negative?: string
  /** Denoising steps; default 20, or the model's preset. */
  steps?: number
  /** Guidance scale (Ho & Salimans 2022); 1 switches guidance off. Default 7.5, or the model's preset. */
  cfg?: number
  /** A sampler id or an A1111 or ComfyUI label; default: the model's own scheduler config. */
  sampler?: string
  /** A schedule id; default `normal`, or what the sampler's label says. */
  schedule?: string
  /** Share of fresh noise, 0..1, of DDIM and TCD; default 0. */
  eta?: number
  /** 1 is the text encoder's last layer, as A1111 counts; default: the model's. */
  clipSkip?: number
  /** 32-bit integer; picture i uses seed + i. Default: random, and reported. */
  seed?: number
  /** Multiples of 8; default: the model's native size, or that of `init`. */
  width?: number
  height?: number
  /** Number of pictures, default 1. */
  count?: number
  /** Noise as torch draws it on the CPU (default) or on CUDA. */
  rng?: "cpu" | "cuda"
  /** Image to image: the start picture. */
  init?: Picture
  /** How much of `init` is redrawn, 0..1, default 0.75. */
  strength?: number
  /** Inpainting: white is repainted. */
  mask?: Picture
  /**
   * `whole` (default) draws the picture anew at its own size; `masked` draws only the part around the mask, at
   * width x height, and puts it back into `init`, which keeps its size.
   */
  inpaintArea?: InpaintArea
  /** Pixels of `init` around the mask that are drawn along with `inpaintArea: "masked"`, default 32. */
  maskPadding?: number
  /**
   * Softens the mask's edge, in pixels: what was drawn fades into `init` there, and outside the mask `init` stays to
   * the bit. Default: no overlay with `whole` (diffusers), 0 with `masked`. A1111's default is 4.
   */
  maskBlur?: number
  /** What the masked places begin from, default `original`: A1111's "masked content". */
  fill?: Fill
  /** Outpainting: pixels that `init` grows by on each side; width and height follow from it. */
  extend?: Sides
  /** A second pass over the enlarged result of the first (A1111's hires fix); text to image only. */
  hires?: HiresRequest
  /** The noise leans towards this seed's, picture i towards seed + i's. Default: random where a strength is given. */
  variationSeed?: number
  /** Share of the variation, 0..1, default 0; above 0 every picture has the same `seed`. */
  variationStrength?: number
  /** Size in pixels whose noise the picture keeps in its middle, so that a seed means the same scene at another size. */
  seedFrom?: { readonly width: number; readonly height: number }
  /** Enlarges what was drawn by this factor, 1 to 8. */
  upscale?: number
  /** What `upscale` and `sdUpscale` enlarge by: `lanczos` (default), `nearest`, or a file of the ESRGAN family. */
  upscaler?: FileRef
  /** `init` enlarged and drawn anew in overlapping tiles of width x height, tile k by seed + k. */
  sdUpscale?: SdUpscaleRequest
  /** Seamless pictures: edges that meet along x, along y, or both (circular convolutions). */
  tiling?: Tiling
  /** Second guidance of instruct-pix2pix models, default 1.5. */
  imageCfg?: number
  /** Rescale of guided predictions (Lin et al. 2024, sec. 3.4), 0..1, default 0. */
  guidanceRescale?: number
  /** `fast` leaves out work that changes the picture a little; default `exact`. */
  speed?: Speed
  /** The network's deep part runs at every so many calls, 1 (always) to 10; default: by `speed`. */
  stepCache?: number
  /** Shares of the way between which guidance is applied, 0 and 1; default: by `speed`. */
  guidanceStart?: number
  guidanceEnd?: number
  /** Share of the way from which guidance repeats its last difference, 0..1; 1: never. Default: by `speed`. */
  guidanceHold?: number
  /** Share of the places that self-attention on the largest map merges with others like them, 0 to 0.75; default: by `speed`. */
  tokenMerge?: number
  promptSyntax?: "a1111" | "comfy" | "compel" | "plain"
  /** How A1111's syntax weighs words (its "Emphasis mode"), default `original`. */
  emphasis?: EmphasisMode
  /** Adapters, beside those that the prompt names as `<lora:name:weight>`; their weights add up. */
  loras?: readonly LoraRequest[]
  /** Textual inversions: paths, or names beside the model or in its `embeddings` folder; in browsers Files or Blobs. */
  embeddings?: readonly (FileRef | EmbeddingRequest)[]
  /** ControlNets with their pictures. */
  controls?: readonly ControlRequest[]
  /** SDXL's refiner, or another model of the same latents, walks the rest of the way and decodes. */
  refiner?: RefinerRequest
}

/** A second model for the last steps. */
export interface RefinerRequest {
  model: Model
  /** Share of the way at which it takes over, above 0 and below 1, default 0.8 (A1111's "switch at"). */
  at?: number
}

type Range = readonly [low: number, high: number, kind: "whole" | "real"]

const ranges: Partial<Record<keyof GenerateRequest, Range>> = {
  steps: [1, 1000, "whole"],
  cfg: [0, 100, "real"],
  eta: [0, 1, "real"],
  clipSkip: [1, 100, "whole"],
  seed: [0, 2 ** 32 - 1, "whole"],
  width: [8, 8192, "whole"],
  height: [8, 8192, "whole"],
  count: [1, 1000, "whole"],
  strength: [0, 1, "real"],
  imageCfg: [0, 100, "real"],
  guidanceRescale: [0, 1, "real"],
  stepCache: [1, 10, "whole"],
  guidanceStart: [0, 1, "real"],
  guidanceEnd: [0, 1, "real"],
  guidanceHold: [0, 1, "real"],
  tokenMerge: [0, mostMerged, "real"],
  maskPadding: [0, 1024, "whole"],
  maskBlur: [0, 256, "real"],
  upscale: [1, 8, "real"],
  variationSeed: [0, 2 ** 32 - 1, "whole"],
  variationStrength: [0, 1, "real"],
}

/** Longest prompt, in UTF-16 units. */
export const promptLimit = 8192

/** Refuses what no model can do, naming the field. @throws REQUEST_* */
export function checkRequest(ask: GenerateRequest): void {
  if (typeof ask.prompt !== "string")
    fail("REQUEST_PROMPT", "prompt is not a text", { hint: "give the prompt as a string" })
  checkPrompt("prompt", ask.prompt)
  checkPrompt("negative", ask.negative)
  for (const [field, range] of Object.entries(ranges))
    checkRange(field, ask[field as keyof GenerateRequest], range)
  checkInpainting(ask)
  if (ask.sdUpscale) checkSdUpscale(ask.sdUpscale, ask)
  checkChoice("tiling", ask.tiling, tilings)
  checkChoice("speed", ask.speed, speeds)
  checkChoice("emphasis", ask.emphasis, emphases)
  checkRange("seedFrom.width", ask.seedFrom?.width, [8, 8192, "whole"])
  checkRange("seedFrom.height", ask.seedFrom?.height, [8, 8192, "whole"])
  if (ask.hires) checkHires(ask.hires, ask)
  if (ask.rng !== undefined && ask.rng !== "cpu" && ask.rng !== "cuda")
    fail("REQUEST_RNG", `rng is ${String(ask.rng)}`, { hint: "use cpu or cuda" })
}

/** @throws REQUEST_PROMPT */
export function checkPrompt(field: string, text: string | undefined): void {
  if (text !== undefined && text.length > promptLimit)
    fail("REQUEST_PROMPT", `${field} has ${text.length} characters`, { hint: `use at most ${promptLimit}` })
}

/** Refuses a number out of its range. @throws REQUEST_RANGE */
export function checkRange(field: string, value: unknown, [low, high, kind]: Range): void {
  if (value === undefined) return
  const fits =
    typeof value === "number" && value >= low && value <= high && (kind === "real" || Number.isInteger(value))
  if (!fits)
    fail("REQUEST_RANGE", `${field} is ${String(value)}`, {
      hint: `use a ${kind === "whole" ? "whole " : ""}number from ${low} to ${high}`,
      details: { field },
    })
}

function checkSdUpscale({ scale, overlap }: SdUpscaleRequest, ask: GenerateRequest): void {
  checkRange("sdUpscale.scale", scale, [1, 8, "real"])
  checkRange("sdUpscale.overlap", overlap, [0, 1024, "whole"])
  if (!ask.init || ask.mask || ask.extend)
    fail("REQUEST_UPSCALE", `redrawing by tiles ${ask.init ? "with a mask" : "without a start picture"}`, {
      hint: "name the picture with --init, and no mask",
    })
}

function checkInpainting(ask: GenerateRequest): void {
  if (ask.refiner) {
    checkRange("refiner.at", ask.refiner.at, [0.01, 0.99, "real"])
    if (ask.hires || ask.mask)
      fail("REQUEST_REFINER", `a refiner with a ${ask.hires ? "second pass" : "mask"}`, {
        hint: "draw first, then enlarge or repaint",
      })
  }
  if (ask.mask && !ask.init)
    fail("REQUEST_MASK", "a mask without a start picture", {
      hint: "name the picture to repaint with --init",
    })
  checkChoice("inpaintArea", ask.inpaintArea, inpaintAreas)
  checkChoice("fill", ask.fill, fills)
  const masked = ask.mask !== undefined || ask.extend !== undefined
  for (const field of ["inpaintArea", "fill", "maskBlur", "maskPadding"] as const)
    if (ask[field] !== undefined && !masked)
      fail("REQUEST_MASK", `${field} without a mask`, { hint: "name what is repainted with --mask" })
  if (ask.extend) checkExtend(ask, ask.extend)
}

function checkExtend(ask: GenerateRequest, extend: Sides): void {
  if (!ask.init) fail("REQUEST_EXTEND", "nothing to extend", { hint: "name the picture with --init" })
  const sides = [extend.left, extend.right, extend.top, extend.bottom].map((n) => n ?? 0)
  if (!sides.every((n) => Number.isInteger(n) && n >= 0 && n <= 8192) || sides.every((n) => n === 0))
    fail("REQUEST_EXTEND", `a picture cannot grow by ${sides.join(", ")} pixels`, {
      hint: "give whole numbers from 0 to 8192 for left, right, top and bottom, one of them above 0",
    })
  if (ask.inpaintArea === "masked" || ask.width !== undefined || ask.height !== undefined)
    fail("REQUEST_EXTEND", `${ask.inpaintArea === "masked" ? "inpaintArea masked" : "a size"} with extend`, {
      hint: "the size of an extended picture follows from the picture and its sides",
    })
}

/** Refuses a word that is none of a field's. @throws REQUEST_CHOICE */
export function checkChoice(field: string, value: unknown, known: readonly string[]): void {
  if (value !== undefined && !known.includes(value as string))
    fail("REQUEST_CHOICE", `${field} is ${String(value)}`, {
      hint: `use one of ${known.join(", ")}`,
      details: { field },
    })
}

/** Pictures whose sides no latent grid matches are refused, with the nearest that fit. */
export function checkSize(width: number, height: number, factor: number): void {
  const step = Math.max(8, factor)
  for (const [side, value] of Object.entries({ width, height })) {
    if (value % step !== 0) {
      const near = Math.max(step, Math.round(value / step) * step)
      fail("REQUEST_SIZE", `${side} ${value} is not a multiple of ${step}`, {
        hint: `try ${near}`,
        details: { field: side },
      })
    }
  }
  if (width * height > 64 * 1024 * 1024)
    fail("REQUEST_SIZE", `${width}x${height} is more than 64 megapixels`, {
      hint: "make it smaller, then upscale",
    })
}

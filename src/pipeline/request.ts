import { fail } from "../errors.ts"
import type { Picture } from "../image/pixels.ts"
import type { Strength } from "../text/networks.ts"
import type { ControlRequest } from "./control.ts"
import type { FileRef } from "./other-files.ts"

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
  /** Second guidance of instruct-pix2pix models, default 1.5. */
  imageCfg?: number
  /** Rescale of guided predictions (Lin et al. 2024, sec. 3.4), 0..1, default 0. */
  guidanceRescale?: number
  promptSyntax?: "a1111" | "comfy" | "compel" | "plain"
  /** Adapters, beside those that the prompt names as `<lora:name:weight>`; their weights add up. */
  loras?: readonly LoraRequest[]
  /** Textual inversions: paths, or names beside the model or in its `embeddings` folder; in browsers Files or Blobs. */
  embeddings?: readonly FileRef[]
  /** ControlNets with their pictures. */
  controls?: readonly ControlRequest[]
}

const ranges: Partial<Record<keyof GenerateRequest, readonly [number, number, "whole" | "real"]>> = {
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
}

/** Longest prompt, in UTF-16 units. */
export const promptLimit = 8192

/** Refuses what no model can do, naming the field. @throws REQUEST_* */
export function checkRequest(ask: GenerateRequest): void {
  if (typeof ask.prompt !== "string")
    fail("REQUEST_PROMPT", "prompt is not a text", { hint: "give the prompt as a string" })
  for (const field of ["prompt", "negative"] as const) {
    const text = ask[field] ?? ""
    if (text.length > promptLimit)
      fail("REQUEST_PROMPT", `${field} has ${text.length} characters`, { hint: `use at most ${promptLimit}` })
  }
  for (const [field, [low, high, kind]] of Object.entries(ranges)) {
    const value = ask[field as keyof GenerateRequest]
    if (value === undefined) continue
    const fits =
      typeof value === "number" &&
      value >= low &&
      value <= high &&
      (kind === "real" || Number.isInteger(value))
    if (!fits)
      fail("REQUEST_RANGE", `${field} is ${String(value)}`, {
        hint: `use a ${kind === "whole" ? "whole " : ""}number from ${low} to ${high}`,
        details: { field },
      })
  }
  if (ask.mask && !ask.init)
    fail("REQUEST_MASK", "a mask without a start picture", {
      hint: "name the picture to repaint with --init",
    })
  if (ask.rng !== undefined && ask.rng !== "cpu" && ask.rng !== "cuda")
    fail("REQUEST_RNG", `rng is ${String(ask.rng)}`, { hint: "use cpu or cuda" })
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

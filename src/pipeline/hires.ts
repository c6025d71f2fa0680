import type { Interpolation } from "../diffusion/interpolate.ts"
import { fail } from "../errors.ts"
import type { FileRef } from "./other-files.ts"
import { checkPrompt, checkRange, type GenerateRequest } from "./request.ts"

/** Ways to enlarge latents, under A1111's labels. */
export const latentUpscalers = {
  latent: { label: "Latent", mode: "bilinear" },
  "latent-antialiased": { label: "Latent (antialiased)", mode: "bilinear-aa" },
  "latent-bicubic": { label: "Latent (bicubic)", mode: "bicubic" },
  "latent-bicubic-antialiased": { label: "Latent (bicubic antialiased)", mode: "bicubic-aa" },
  "latent-nearest": { label: "Latent (nearest)", mode: "nearest" },
  "latent-nearest-exact": { label: "Latent (nearest-exact)", mode: "nearest-exact" },
} as const satisfies Record<string, { label: string; mode: Interpolation }>

export type LatentUpscaler = keyof typeof latentUpscalers

/** Ways to enlarge pictures that need no file. */
export const pictureUpscalers = { lanczos: "Lanczos", nearest: "Nearest", none: "None" } as const

/** A second pass over the enlarged result of the first: A1111's "hires fix". Lengths in pixels. */
export interface HiresRequest {
  /** Factor of both sides, default 2. */
  scale?: number
  /** Instead of a factor. One alone keeps the shape; of both, the first pass is enlarged to cover them and cut. */
  width?: number
  height?: number
  /**
   * `latent` (default) and its kin enlarge latents; `lanczos`, `nearest`, `none` and files of the ESRGAN family enlarge
   * the decoded picture. A1111's labels are understood.
   */
  upscaler?: FileRef
  /** Steps of the second pass, all of them taken; default: those of the first. */
  steps?: number
  /** How much is redrawn, above 0 to 1, default 0.75. */
  strength?: number
  /** Default: those of the first pass. */
  sampler?: string
  schedule?: string
  cfg?: number
  prompt?: string
  negative?: string
}

/** A second pass with every default filled in. */
export interface Hires {
  readonly ask: HiresRequest
  /** Size of the result. */
  readonly width: number
  readonly height: number
  /** Size that the first pass is enlarged to; what is more than the result is cut evenly. */
  readonly grown: readonly [width: number, height: number]
  readonly upscaler: LatentUpscaler | FileRef
  readonly steps: number
  readonly strength: number
  readonly cfg: number
  readonly prompt: string
  readonly negative: string
}

/** Refuses what no second pass can do. @throws REQUEST_* */
export function checkHires(hires: HiresRequest, ask: GenerateRequest): void {
  if (ask.init)
    fail("REQUEST_HIRES", "a second pass with a start picture", {
      hint: "draw from text, or enlarge the picture by --sd-upscale",
    })
  checkRange("hires.scale", hires.scale, [1, 8, "real"])
  checkRange("hires.width", hires.width, [8, 8192, "whole"])
  checkRange("hires.height", hires.height, [8, 8192, "whole"])
  checkRange("hires.steps", hires.steps, [1, 1000, "whole"])
  checkRange("hires.strength", hires.strength, [0.01, 1, "real"])
  checkRange("hires.cfg", hires.cfg, [0, 100, "real"])
  checkPrompt("hires.prompt", hires.prompt)
  checkPrompt("hires.negative", hires.negative)
}

/** A1111's labels and ids of upscalers; anything else names a file. */
export function upscalerOf(name: FileRef): LatentUpscaler | FileRef {
  if (typeof name !== "string") return name
  const same = (label: string) => label.toLowerCase() === name.toLowerCase()
  for (const [id, { label }] of Object.entries(latentUpscalers)) if (id === name || same(label)) return id
  for (const [id, label] of Object.entries(pictureUpscalers)) if (id === name || same(label)) return id
  return name
}

export const isLatent = (upscaler: FileRef): upscaler is LatentUpscaler =>
  typeof upscaler === "string" && Object.hasOwn(latentUpscalers, upscaler)

/** What infotexts call an upscaler. */
export function upscalerLabel(upscaler: FileRef): string {
  if (typeof upscaler !== "string") return "file" in upscaler ? String(upscaler.file) : "file"
  if (isLatent(upscaler)) return latentUpscalers[upscaler].label
  if (Object.hasOwn(pictureUpscalers, upscaler)) return pictureUpscalers[upscaler as "lanczos"]
  return upscaler
    .split(/[\\/]/)
    .at(-1)!
    .replace(/\.(safetensors|pth|pt|bin|ckpt)$/i, "")
}

/** Sizes as A1111's calculate_target_resolution, in whole latents. */
function sizesOf(
  { scale = 2, width = 0, height = 0 }: HiresRequest,
  first: { width: number; height: number },
  step: number,
): Pick<Hires, "width" | "height" | "grown"> {
  const whole = (n: number) => Math.max(step, Math.floor(n / step) * step)
  const sized = (w: number, h: number) => [whole(w), whole(h)] as const
  if (width === 0 && height === 0) {
    const grown = sized(first.width * scale, first.height * scale)
    return { width: grown[0], height: grown[1], grown }
  }
  const byWidth = sized(width, Math.floor((width * first.height) / first.width))
  const byHeight = sized(Math.floor((height * first.width) / first.height), height)
  if (width === 0 || height === 0) {
    const grown = height === 0 ? byWidth : byHeight
    return { width: grown[0], height: grown[1], grown }
  }
  const grown = first.width / first.height < width / height ? byWidth : byHeight
  return { width: Math.min(grown[0], whole(width)), height: Math.min(grown[1], whole(height)), grown }
}

/** The second pass of a request, or none. */
export function hiresOf(
  ask: GenerateRequest,
  first: { width: number; height: number; steps: number; cfg: number },
  step: number,
): Hires | undefined {
  const { hires } = ask
  if (!hires) return undefined
  return {
    ask: hires,
    ...sizesOf(hires, first, step),
    upscaler: upscalerOf(hires.upscaler ?? "latent"),
    steps: hires.steps ?? first.steps,
    strength: hires.strength ?? 0.75,
    cfg: hires.cfg ?? first.cfg,
    prompt: hires.prompt ?? ask.prompt,
    negative: hires.negative ?? ask.negative ?? "",
  }
}

/** The schedule of which the second pass takes the last `steps`, and the share that makes it so. */
export function hiresSchedule({ steps, strength }: Pick<Hires, "steps" | "strength">): {
  steps: number
  strength: number
} {
  const all = Math.max(steps, Math.trunc(steps / Math.min(strength, 0.999)))
  // half a step more, so that rounding down gives the very number
  return { steps: all, strength: Math.min(1, (steps + 0.5) / all) }
}

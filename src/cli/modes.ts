import { type Command, Option } from "commander"
import {
  AquatintError,
  fills,
  type HiresRequest,
  inpaintAreas,
  latentUpscalers,
  type Sides,
  tilings,
} from "../index.ts"
import { number } from "./options.ts"

/** The ways of drawing beside the plain ones. */
export function addModeOptions(command: Command): void {
  addInpainting(command)
  addHires(command)
  addVariation(command)
  addEnlarging(command)
}

/** A second pass; any of these asks for one. */
function addHires(command: Command): void {
  const ids = [...Object.keys(latentUpscalers), "lanczos", "nearest"].join(" ")
  command
    .option(
      "--hires-scale <factor>",
      "draw once more at this factor of the size (default: 2 in a second pass)",
      number,
    )
    .option(
      "--hires-size <WxH>",
      "size of the second pass; 0 for a side keeps the shape (default: none)",
      size,
    )
    .option("--hires-upscaler <name>", `${ids}, or a file of the ESRGAN family (default: latent)`)
    .option("--hires-steps <n>", "steps of the second pass (default: --steps)", number)
    .option("--hires-strength <share>", "how much the second pass redraws, 0..1 (default: 0.75)", number)
    .option("--hires-sampler <id>", "sampler of the second pass (default: --sampler)")
    .option("--hires-schedule <id>", "schedule of the second pass (default: --schedule)")
    .option("--hires-cfg <scale>", "guidance scale of the second pass (default: --cfg)", number)
    .option("--hires-prompt <text>", "prompt of the second pass (default: the prompt)")
    .option("--hires-negative <text>", "negative prompt of the second pass (default: --negative)")
}

function addEnlarging(command: Command): void {
  command
    .option("--upscale <factor>", "enlarge what was drawn, 1..8 (default: 1)", number)
    .option("--upscaler <name>", "lanczos, nearest, or a file of the ESRGAN family (default: lanczos)")
    .option(
      "--sd-upscale <factor>",
      "enlarge --init and draw it anew in tiles of -W x -H (default: none)",
      number,
    )
    .option("--tile-overlap <pixels>", "what tiles of --sd-upscale share (default: 64)", number)
}

function addVariation(command: Command): void {
  const tiling = new Option("--tiling <axes>", "pictures whose edges meet along x, y or both (default: none)")
  command
    .addOption(tiling.choices(tilings))
    .option("--variation-seed <n>", "seed that the noise leans to (default: random with a strength)", number)
    .option(
      "--variation-strength <share>",
      "how far, 0..1; above 0 all pictures have one seed (default: 0)",
      number,
    )
    .option(
      "--seed-from <WxH>",
      "keep the noise a picture of this size has in the middle (default: none)",
      size,
    )
}

/** What commander makes of the options that ask for a second pass. */
export interface HiresOptions {
  hires?: HiresRequest
  hiresScale?: number
  hiresSize?: { width: number; height: number }
  hiresUpscaler?: string
  hiresSteps?: number
  hiresStrength?: number
  hiresSampler?: string
  hiresSchedule?: string
  hiresCfg?: number
  hiresPrompt?: string
  hiresNegative?: string
}

/** Takes the options of a second pass together, over what a recipe says of one. */
export function withHires<T extends HiresOptions>(
  options: T,
): Omit<T, keyof HiresOptions> & { hires?: HiresRequest } {
  const {
    hires,
    hiresScale: scale,
    hiresSize,
    hiresUpscaler: upscaler,
    hiresSteps: steps,
    hiresStrength: strength,
    hiresSampler: sampler,
    hiresSchedule: schedule,
    hiresCfg: cfg,
    hiresPrompt: prompt,
    hiresNegative: negative,
    ...rest
  } = options
  const sized = { width: hiresSize?.width || undefined, height: hiresSize?.height || undefined }
  const asked = { scale, ...sized, upscaler, steps, strength, sampler, schedule, cfg, prompt, negative }
  const given = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined))
  return hires || Object.keys(given).length > 0 ? { ...rest, hires: { ...hires, ...given } } : rest
}

/** Reads `768x512`. @throws USAGE_SIZE */
export function size(text: string): { width: number; height: number } {
  const [, width, height] = /^(\d+)x(\d+)$/.exec(text) ?? []
  if (width === undefined)
    throw new AquatintError("USAGE_SIZE", `${text} is no size`, { hint: "write width x height: 768x512" })
  return { width: Number(width), height: Number(height) }
}

/** Inpainting and outpainting. */
function addInpainting(command: Command): void {
  command
    .addOption(
      new Option(
        "--inpaint-area <area>",
        "draw the whole picture anew, or only the part around the mask (default: whole)",
      ).choices(inpaintAreas),
    )
    .option(
      "--mask-padding <pixels>",
      "drawn around the mask with --inpaint-area masked (default: 32)",
      number,
    )
    .option(
      "--mask-blur <pixels>",
      "softens the mask, and keeps the rest of the picture to the bit (default: no overlay, 0 with masked)",
      number,
    )
    .addOption(
      new Option("--fill <kind>", "what masked places begin from (default: original)").choices(fills),
    )
    .option(
      "--extend <sides>",
      "outpaint --init: pixels for every side, or left=64,right=64,top=0,bottom=32 (default: none)",
      sides,
    )
}

const names = ["left", "right", "top", "bottom"] as const

/** Reads `64` or `left=64,top=32`. @throws USAGE_EXTEND */
export function sides(text: string): Sides {
  const refuse = (): never => {
    throw new AquatintError("USAGE_EXTEND", `--extend ${text} names no sides`, {
      hint: "write one number for every side, or left=64,right=64,top=0,bottom=32",
    })
  }
  if (/^\d+$/.test(text)) return Object.fromEntries(names.map((name) => [name, Number(text)]))
  const found: Partial<Record<(typeof names)[number], number>> = {}
  for (const part of text.split(",")) {
    const [, name, pixels] = /^(left|right|top|bottom)=(\d+)$/.exec(part.trim()) ?? refuse()
    found[name as (typeof names)[number]] = Number(pixels)
  }
  return found
}

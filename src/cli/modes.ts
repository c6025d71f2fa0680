import { type Command, Option } from "commander"
import { AquatintError, fills, inpaintAreas, type Sides } from "../index.ts"
import { number } from "./options.ts"

/** Inpainting and outpainting. */
export function addModeOptions(command: Command): void {
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

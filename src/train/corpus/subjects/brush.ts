import { type Path, rectangle, transform } from "../geometry.ts"
import { lighten, luma, shade } from "../look.ts"
import type { Part } from "../parts.ts"
import type { Random } from "../random.ts"
import type { Rgb } from "../raster.ts"

/** What a subject knows when it is drawn: its colour, the side of the light, whether lamps shine, and luck. */
export interface Sketch {
  main: Rgb
  /** -1 when the light comes from the left of the unit coordinates, 1 from the right. */
  light: 1 | -1
  lit: boolean
  random: Random
}

/** Draws a subject in unit coordinates: y up, standing on y = 0 around x = 0, about 1 high. */
export type Draw = (sketch: Sketch) => Part[]

export const WOOD: Rgb = [134, 90, 60]
export const DARK: Rgb = [70, 56, 80]
export const CREAM: Rgb = [251, 240, 218]
export const LAMP: Rgb = [255, 224, 122]
export const GLASS: Rgb = [168, 216, 236]
export const METAL: Rgb = [196, 204, 218]

export const solid = (path: Path, colour: Rgb): Part => ({ path, colour, body: true })
export const detail = (path: Path, colour: Rgb): Part => ({ path, colour })
export const within = (path: Path, clip: Path, colour: Rgb): Part => ({ path, clip, colour })

/** A solid form whose side away from the light, beyond x = `split`, is darker. */
export const shaded = (path: Path, colour: Rgb, light: 1 | -1, split: number, amount = 0.2): Part[] => [
  solid(path, colour),
  shadow(light < 0 ? rectangle(split, -1, 3, 4) : rectangle(-split - 3, -1, 3, 4), path, colour, amount),
]

/** A darker area of a form of the given colour. */
export const shadow = (path: Path, clip: Path, colour: Rgb, amount = 0.2): Part => ({
  path,
  clip,
  colour: shade(colour, amount),
  modelling: true,
})

/** The parts moved sideways, to stand over x = 0. */
export const shifted = (dx: number, parts: Part[]): Part[] =>
  parts.map((p) => ({
    ...p,
    path: transform(p.path, 1, dx, 1, 0),
    ...(p.clip ? { clip: transform(p.clip, 1, dx, 1, 0) } : {}),
  }))

/** A lighter area of a form of the given colour. */
export const highlight = (path: Path, clip: Path, colour: Rgb, amount = 0.3): Part => ({
  path,
  clip,
  colour: lighten(colour, amount),
  modelling: true,
})

/** A pane that shines when lamps are lit. */
export const pane = (path: Path, lit: boolean): Part => ({ path, colour: lit ? LAMP : GLASS, lamp: lit })

/** A quiet roof, so that the walls alone say the colour: slate, or pale over black walls. */
export const roofFor = (walls: Rgb): Rgb => (luma(walls) < 70 ? [158, 148, 170] : [84, 72, 102])

/** A second tone beside the main colour, for stripes: white, or grey beside white itself. */
export const stripeFor = (main: Rgb): Rgb => (luma(main) > 232 ? [186, 198, 216] : [252, 248, 240])

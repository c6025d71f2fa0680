import { type Box, bounds, type Path, stroke, transform } from "./geometry.ts"
import { contour, INK, type Look, PAPER } from "./look.ts"
import { Canvas, type Rgb } from "./raster.ts"

/** One filled path of a subject. Colours are daylight's; the look of the scene changes them when it is painted. */
export interface Part {
  path: Path
  colour: Rgb
  /** Belongs to the silhouette: outlined in the outline style, and counted in the subject's box. */
  body?: boolean
  /** Painted only inside this path. */
  clip?: Path
  alpha?: number
  /** Shines by itself: keeps its colour at night. */
  lamp?: boolean
  /** A shadow or highlight, left out of linocuts. */
  modelling?: boolean
}

/** Moves parts from unit coordinates (y up, standing on 0) into the scene; `flip` mirrors them. */
export function placeParts(parts: readonly Part[], x: number, y: number, unit: number, flip: 1 | -1): Part[] {
  const move = (path: Path) => transform(path, unit * flip, x, -unit, y)
  return parts.map((p) => ({ ...p, path: move(p.path), ...(p.clip ? { clip: move(p.clip) } : {}) }))
}

/** The box around a subject's silhouette. */
export const partsBox = (parts: readonly Part[]): Box =>
  bounds(parts.filter((p) => p.body).map((p) => p.path))

/** Width of the bars behind a filled form; half of it shows around the form. */
export const OUTLINE = 9

/** Paints placed parts in the style of the scene. */
export function paintParts(canvas: Canvas, parts: readonly Part[], look: Look): void {
  const { style } = look.spec
  if (style === "neon") paintGlow(canvas, parts, look)
  if (style === "lino") carveAround(canvas, parts)
  for (const part of parts) {
    if (part.modelling && style === "lino") continue
    const colour = look.thing(part.colour, part.lamp)
    if (style === "outline" && part.body) canvas.fill(stroke(part.path, OUTLINE), { colour: contour(colour) })
    const clip = part.clip ? canvas.mask(part.clip) : null
    if (!part.clip || clip) canvas.fill(part.path, { colour, alpha: part.alpha }, clip)
  }
}

/** A linocut's key block: an ink contour around the form, and a rim of paper cleared around that. */
function carveAround(canvas: Canvas, parts: readonly Part[]): void {
  const body = parts.filter((p) => p.body)
  for (const part of body) canvas.fill(stroke(part.path, 15), { colour: PAPER })
  for (const part of body) canvas.fill(stroke(part.path, 8), { colour: INK })
}

const GLOW_SHRINK = 4
const GLOW_REACH = 40

/** Light around the silhouette: its parts drawn small, blurred three times and added. */
function paintGlow(canvas: Canvas, parts: readonly Part[], look: Look): void {
  const n = Math.max(16, Math.floor(canvas.size / GLOW_SHRINK))
  const small = new Canvas(n)
  for (const part of parts)
    if (part.body) small.fill(part.path, { colour: look.thing(part.colour, part.lamp) })
  const light = new Float32Array(small.bytes())
  for (let i = 0; i < light.length; i++) light[i] = 0.85 * light[i]!
  const radius = Math.max(1, Math.floor((n * 3) / 64))
  for (let i = 0; i < 3; i++) {
    boxBlur(light, n, 3, n * 3, radius)
    boxBlur(light, n, n * 3, 3, radius)
  }
  const { x, y, width, height } = partsBox(parts)
  canvas.addLight(light, n, {
    x: x - GLOW_REACH,
    y: y - GLOW_REACH,
    width: width + 2 * GLOW_REACH,
    height: height + 2 * GLOW_REACH,
  })
}

/** Mean over 2r + 1 neighbours along one axis of a square RGB plane; beyond the edge is black. */
function boxBlur(pixels: Float32Array, n: number, step: number, across: number, r: number): void {
  const lane = new Float32Array(n)
  for (let line = 0; line < n; line++)
    for (let c = 0; c < 3; c++) {
      const base = line * across + c
      for (let i = 0; i < n; i++) lane[i] = pixels[base + i * step]!
      let sum = 0
      for (let i = 0; i < r; i++) sum += lane[i]!
      for (let i = 0; i < n; i++) {
        if (i + r < n) sum += lane[i + r]!
        if (i - r > 0) sum -= lane[i - r - 1]!
        pixels[base + i * step] = sum / (2 * r + 1)
      }
    }
}

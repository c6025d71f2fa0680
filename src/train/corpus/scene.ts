import { fail } from "../../errors.ts"
import { type Box, ellipse } from "./geometry.ts"
import { city, desert, forest, type Ground, hills, mountains, snow } from "./land.ts"
import { type Look, lighten, makeLook } from "./look.ts"
import { type Part, paintParts, partsBox, placeParts } from "./parts.ts"
import { Random } from "./random.ts"
import { Canvas } from "./raster.ts"
import { cloud, lightAt, paintFall, paintSky } from "./sky.ts"
import type { SceneSpec, Thing } from "./spec.ts"
import { SUBJECT_TABLE } from "./subjects/index.ts"
import { beach, headland, islet, lake, sea } from "./water.ts"

/** Where a thing is: the box around its silhouette, in pixels, cut at the picture's edge. */
export interface ThingBox extends Thing, Box {}

export interface Scene {
  width: number
  height: number
  /** RGB bytes, row by row. */
  data: Uint8Array
  /** One box for every thing, the first subject's first. */
  boxes: ThingBox[]
}

interface Placement {
  thing: Thing
  x: number
  /** Height of the ground, water or basket under it. */
  y: number
  unit: number
  flip: 1 | -1
}

const SIZE_FACTOR = { small: 0.74, medium: 1.05, large: 1.36 }
const CENTRES = { left: 66, centre: 128, right: 190 }

/**
 * Draws a scene. Pure arithmetic on numbers: the same spec and size give the same bytes on every machine.
 * @param spec what to show
 * @param size width and height in pixels, 16 to 2048
 * @throws AquatintError CORPUS_SIZE
 * @example drawScene(randomSpec(new Random(7), "train"), 256).data.length // 196608
 */
export function drawScene(spec: SceneSpec, size: number): Scene {
  if (!Number.isInteger(size) || size < 16 || size > 2048)
    fail("CORPUS_SIZE", `The corpus cannot draw a picture of ${size} pixels.`, {
      hint: "Choose a whole number from 16 to 2048.",
    })
  const random = new Random(spec.seed)
  const sun = lightAt(spec, random)
  const look = makeLook(spec, sun.side, random)
  const canvas = new Canvas(size)
  const ground: Ground = { canvas, look, random }
  const placements = layOut(spec, random)
  paintSky(canvas, look, sun.x, random)
  paintLand(ground, placements, sun.x)
  paintFall(canvas, look, 0, random)
  const boxes = placements.map((p) => paintThing(ground, p, size))
  paintFall(canvas, look, 1, random)
  return { width: size, height: size, data: canvas.bytes(), boxes }
}

function layOut(spec: SceneSpec, random: Random): Placement[] {
  const { second, subject, position, count } = spec
  if (second !== null) {
    const other = position === "left" ? "right" : "left"
    return [
      place(spec, subject, CENTRES[position], 104, random),
      place(spec, second, CENTRES[other], 104, random),
    ]
  }
  if (count === 1) return [place(spec, subject, CENTRES[position], 158, random)]
  const centres = count === 2 ? [68, 188] : [45, 128, 211]
  return centres.map((x) => place(spec, subject, x, count === 2 ? 104 : 70, random))
}

function place(spec: SceneSpec, thing: Thing, centre: number, room: number, random: Random): Placement {
  const { unit: medium, width, stands, faces } = SUBJECT_TABLE[thing.kind]
  const unit = Math.min(medium * SIZE_FACTOR[spec.size] * random.range(0.95, 1.05), room / width)
  const reach = (unit * width) / 2 + 7
  const x = Math.min(256 - reach, Math.max(reach, centre + random.range(-5, 5)))
  const y = baseline(spec, stands, unit) + random.range(-3, 4)
  return { thing, x, y, unit, flip: faces ? random.pick([1, -1] as const) : 1 }
}

function baseline(spec: SceneSpec, stands: string, unit: number): number {
  if (stands === "air") return 106 + unit * 0.42
  if (stands === "water") return spec.place === "sea" ? 190 : 228
  return 222
}

const PAINTERS = { hills, mountains, desert, snow, forest, city }

const stands = (p: Placement) => SUBJECT_TABLE[p.thing.kind].stands
const halfWidth = (p: Placement) => (p.unit * SUBJECT_TABLE[p.thing.kind].width) / 2

/** Land, and under the things what they need: water for boats, a shore for the rest. */
function paintLand(g: Ground, placements: Placement[], lightX: number): void {
  const { place } = g.look.spec
  const landed = placements.filter((p) => stands(p) === "ground" || stands(p) === "launch")
  if (place === "sea") {
    paintSea(g, landed, lightX)
    return
  }
  PAINTERS[place](g)
  if (!placements.some((p) => stands(p) === "water")) return
  lake(g, lightX)
  for (const p of landed) headland(g, p.x, p.y, halfWidth(p))
}

/** The sea, with a beach for several things and, at times, a rock for one. */
function paintSea(g: Ground, landed: Placement[], lightX: number): void {
  const { count, second } = g.look.spec
  sea(g, lightX)
  const open = g.random.chance(0.6) && (landed.length === 0 || (count === 1 && second === null))
  if (!open) beach(g)
  else
    for (const p of landed) {
      p.y -= 8
      islet(g, p.x, p.y, halfWidth(p))
    }
}

function paintThing(g: Ground, p: Placement, size: number): ThingBox {
  const { canvas, look, random } = g
  const { draw } = SUBJECT_TABLE[p.thing.kind]
  const lift = stands(p) === "launch" ? 0.2 * p.unit : 0
  const light = (look.light * p.flip) as 1 | -1
  const parts = placeParts(
    draw({ main: look.pigment(p.thing.colour), light, lit: look.lit, random }),
    p.x,
    p.y - lift,
    p.unit,
    p.flip,
  )
  paintFooting(canvas, look, p)
  paintParts(canvas, parts, look)
  return { ...p.thing, ...boxInPixels(parts, size) }
}

/** The shadow on the ground, the ripples on water, or a rocket's smoke. */
function paintFooting(canvas: Canvas, look: Look, p: Placement): void {
  const { x, y, unit } = p
  const [footing, half] = [stands(p), halfWidth(p)]
  const { style } = look.spec
  const dark = { colour: style === "neon" ? ([6, 2, 20] as const) : ([36, 28, 76] as const), alpha: 0.2 }
  if (footing === "launch") {
    const smoke = look.thing([244, 240, 248])
    canvas.fill(cloud(x - unit * 0.2, y + 4, unit * 0.26), { colour: smoke })
    canvas.fill(cloud(x + unit * 0.2, y + 5, unit * 0.28), { colour: smoke })
  }
  if (style === "lino") return
  if (footing === "ground") canvas.fill(ellipse(x - look.light * half * 0.16, y + 1, half * 1.02, 5.5), dark)
  if (footing === "water") {
    canvas.fill(ellipse(x, y + 2, half * 1.08, 5), {
      colour: lighten(look.land([64, 150, 200], 0), 0.55),
      alpha: 0.7,
    })
    canvas.fill(ellipse(x, y + 1, half * 0.9, 3.4), dark)
  }
}

function boxInPixels(parts: readonly Part[], size: number): Box {
  const { x, y, width, height } = partsBox(parts)
  const cut = (v: number) => Math.min(size, Math.max(0, Math.round((v * size) / 256)))
  const [left, top] = [cut(x), cut(y)]
  return { x: left, y: top, width: cut(x + width) - left, height: cut(y + height) - top }
}

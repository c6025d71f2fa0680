import { ellipse, line, polygon, rectangle, roundRectangle, stroke, union } from "./geometry.ts"
import { contour, INK, type Look, lighten, mix, PAPER, TONE } from "./look.ts"
import { OUTLINE } from "./parts.ts"
import type { Random } from "./random.ts"
import type { Canvas, Rgb } from "./raster.ts"
import type { SceneSpec } from "./spec.ts"

/** Height of the land's far edge, behind which a low sun sinks. */
const SKYLINE: Record<SceneSpec["place"], number> = {
  hills: 146,
  mountains: 112,
  sea: 150,
  desert: 146,
  snow: 146,
  forest: 124,
  city: 118,
}

/** Where sun or moon stands: away from the subject. */
export function lightAt(spec: SceneSpec, random: Random): { x: number; side: 1 | -1 } {
  const spread = spec.second !== null || spec.count === 2
  const side = spec.position === "left" ? 1 : spec.position === "right" ? -1 : random.pick([1, -1] as const)
  const x = spread ? 128 + side * random.range(2, 12) : 128 + side * random.range(66, 90)
  return { x, side }
}

/** Sky, stars, sun or moon, and clouds. */
export function paintSky(canvas: Canvas, look: Look, x: number, random: Random): void {
  const { time, weather, style } = look.spec
  const [zenith, middle, horizon] = look.sky
  canvas.fill(rectangle(0, 0, 256, 256), { colour: zenith, to: middle, top: 0, bottom: 86 })
  canvas.fill(rectangle(0, 86, 256, 170), { colour: middle, to: horizon, top: 86, bottom: 168 })
  if (style === "lino" && time === "sunset") paintCarvedDusk(canvas)
  const bright = weather === "clear" || weather === "cloudy"
  if (time === "night") {
    if (weather === "clear" || style === "neon") paintStars(canvas, look, x, random)
    if (bright || weather === "fog") paintMoon(canvas, look, x, random.range(34, 48))
  } else if (bright || (weather === "fog" && time === "dawn")) paintSun(canvas, look, x, random)
  paintClouds(canvas, look, x, random)
}

/** A linocut's evening: bars of tone that thicken towards the horizon. */
function paintCarvedDusk(canvas: Canvas): void {
  for (let i = 0; i < 8; i++) canvas.fill(rectangle(0, 20 + i * 18, 256, 3 + i * 1.6), { colour: TONE })
}

function paintSun(canvas: Canvas, look: Look, x: number, random: Random): void {
  const { time, style, weather } = look.spec
  const low = time !== "day"
  const r = low ? random.range(25, 30) : random.range(16, 20)
  const y = low ? SKYLINE[look.spec.place] - r * (time === "dawn" ? 0.25 : 0.75) : random.range(34, 46)
  if (style === "lino") {
    if (!low) for (let i = 0; i < 12; i++) paintRay(canvas, x, y, r, i)
    canvas.fill(ellipse(x, y, r + (low ? 6 : 0)), { colour: low ? PAPER : INK })
    if (low) canvas.fill(ellipse(x, y, r), { colour: [222, 108, 62] })
    return
  }
  const tint: Rgb = time === "day" ? [255, 226, 110] : time === "dawn" ? [255, 238, 186] : [255, 226, 140]
  const veiled = weather === "clear" ? tint : mix(tint, look.sky[1], weather === "fog" ? 0.45 : 0.2)
  const colour = style === "pastel" ? mix(veiled, [255, 250, 240], 0.3) : veiled
  canvas.glow(x, y, r * (low ? 4.4 : 2.8), lighten(colour, 0.3), low ? 0.6 : 0.5)
  if (style === "outline")
    canvas.fill(ellipse(x, y, r + OUTLINE / 2), { colour: mix(colour, [196, 112, 40], 0.8) })
  canvas.fill(ellipse(x, y, r), { colour })
}

function paintRay(canvas: Canvas, x: number, y: number, r: number, i: number): void {
  const [u, v] = CLOCK[i]!
  const tip = (d: number, w: number) => [x + u * d - v * w, y + v * d + u * w] as const
  canvas.fill(polygon(tip(r + 5, -3), tip(r + 15, -1.6), tip(r + 15, 1.6), tip(r + 5, 3)), { colour: INK })
}

const H = 0.8660254
const CLOCK: readonly (readonly [number, number])[] = [
  [1, 0],
  [H, 0.5],
  [0.5, H],
  [0, 1],
  [-0.5, H],
  [-H, 0.5],
  [-1, 0],
  [-H, -0.5],
  [-0.5, -H],
  [0, -1],
  [0.5, -H],
  [H, -0.5],
]

function paintMoon(canvas: Canvas, look: Look, x: number, y: number): void {
  const { style, weather } = look.spec
  const pale: Rgb = style === "lino" ? PAPER : style === "neon" ? [255, 236, 250] : [252, 244, 214]
  const colour = weather === "clear" ? pale : mix(pale, look.sky[0], weather === "fog" ? 0.62 : 0.3)
  if (style !== "lino") canvas.glow(x, y, 62, lighten(look.sky[2], 0.35), 0.42)
  const disc = ellipse(x, y, 19)
  if (style === "outline" && weather !== "fog")
    canvas.fill(ellipse(x, y, 19 + OUTLINE / 2), { colour: contour(look.sky[1]) })
  canvas.fill(disc, { colour })
  const mask = canvas.mask(disc)
  if (style === "lino" || weather === "fog" || !mask) return
  for (const [dx, dy, r] of [
    [-7, -4, 4.5],
    [5, 6, 5.5],
    [6, -8, 3],
  ] as const)
    canvas.fill(ellipse(x + dx, y + dy, r), { colour: mix(colour, look.sky[1], 0.16) }, mask)
}

/** Stars of at least four pixels, one in every cell of a loose grid, clear of the moon. */
function paintStars(canvas: Canvas, look: Look, moon: number, random: Random): void {
  const colour: Rgb = look.spec.style === "lino" ? PAPER : [252, 246, 224]
  for (let row = 0; row < 3; row++)
    for (let column = 0; column < 5; column++) {
      const x = column * 51 + random.range(10, 42)
      const y = row * 38 + random.range(10, 32)
      const r = random.range(2, 2.7)
      if (random.chance(0.25) || (x - moon) * (x - moon) + (y - 41) * (y - 41) < 42 * 42) continue
      canvas.fill(random.chance(0.28) ? sparkle(x, y, r * 2.4) : ellipse(x, y, r), { colour, alpha: 0.95 })
    }
}

const sparkle = (x: number, y: number, r: number) => {
  const s = r * 0.28
  return polygon(
    [x, y - r],
    [x + s, y - s],
    [x + r, y],
    [x + s, y + s],
    [x, y + r],
    [x - s, y + s],
    [x - r, y],
    [x - s, y - s],
  )
}

/** One cloud: three puffs on a flat base. */
export const cloud = (x: number, y: number, w: number) =>
  union(
    roundRectangle(x - w, y - w * 0.24, 2 * w, w * 0.42, w * 0.21),
    ellipse(x - w * 0.36, y - w * 0.24, w * 0.36, w * 0.34),
    ellipse(x + w * 0.22, y - w * 0.34, w * 0.46, w * 0.44),
  )

function paintClouds(canvas: Canvas, look: Look, light: number, random: Random): void {
  const { time, weather, style } = look.spec
  const heavy = weather === "cloudy" || weather === "rain" || weather === "snowfall"
  const wisps =
    weather === "clear" && time !== "night" && style !== "neon" && random.chance(0.62)
      ? 1 + random.integer(2)
      : 0
  const count = heavy ? 5 : wisps
  if (count === 0) return
  const colour = cloudColour(look)
  const start = random.range(0, 60)
  for (let i = 0; i < count; i++) {
    const x = heavy ? i * 58 + random.range(0, 24) : (start + i * 118 + random.range(0, 40)) % 256
    const y = heavy ? 26 + (i % 2) * 26 + random.range(-6, 6) : random.range(36, 76)
    if (!heavy && (x - light) * (x - light) < 52 * 52) continue
    const shape = cloud(x, y, heavy ? random.range(34, 46) : random.range(20, 30))
    if (style === "outline")
      canvas.fill(stroke(shape, OUTLINE - 2), { colour: mix(contour(colour), look.sky[0], 0.35) })
    canvas.fill(shape, {
      colour,
      to: style === "lino" ? colour : mix(colour, look.sky[1], 0.22),
      top: y - 18,
      bottom: y + 12,
    })
  }
}

function cloudColour(look: Look): Rgb {
  const { time, weather, style } = look.spec
  if (style === "lino") return time === "night" ? [92, 84, 88] : TONE
  if (weather === "rain") return mix(look.sky[0], [92, 104, 124], 0.4)
  const lit: Rgb =
    time === "day"
      ? [255, 255, 255]
      : time === "dawn"
        ? [255, 236, 228]
        : time === "sunset"
          ? [255, 176, 146]
          : [96, 108, 152]
  const grey = weather === "snowfall" ? 0.35 : weather === "cloudy" ? 0.14 : 0.06
  return mix(
    style === "pastel" ? mix(lit, [255, 248, 242], 0.3) : lit,
    look.sky[0],
    time === "night" ? 0.35 : grey,
  )
}

/** Rain or falling snow over everything; `part` 0 falls behind the subjects, 1 before them. */
export function paintFall(canvas: Canvas, look: Look, part: 0 | 1, random: Random): void {
  const { weather, time } = look.spec
  if (weather !== "rain" && weather !== "snowfall") return
  const night = time === "night"
  for (let row = 0; row < 6; row++)
    for (let column = 0; column < 5; column++) {
      const x = column * 54 + random.range(0, 46) + (row % 2) * 12
      const y = row * 44 + random.range(0, 36)
      if (random.chance(part === 0 ? 0.35 : 0.6)) continue
      if (weather === "snowfall")
        canvas.fill(ellipse(x, y, random.range(2.2, 3.4)), {
          colour: night ? [232, 238, 252] : [255, 255, 255],
        })
      else
        canvas.fill(line(2.4, [x, y], [x - 5, y + 16]), {
          colour: night ? [150, 172, 220] : [232, 240, 250],
          alpha: 0.75,
        })
    }
}

import { ellipse, type Path, polygon, rectangle, roundRectangle, sine, stroke, union } from "./geometry.ts"
import { contour, type Look, lighten, mix, RIDGE_LIGHT, shade } from "./look.ts"
import { OUTLINE } from "./parts.ts"
import type { Random } from "./random.ts"
import type { Canvas, Rgb } from "./raster.ts"

/** What the places are painted with: a canvas, the look, luck, and whether the foreground is water. */
export interface Ground {
  canvas: Canvas
  look: Look
  random: Random
}

/** The area under a curve y = f(x). */
export function under(f: (x: number) => number, step = 6): Path {
  const out: number[] = []
  for (let x = -12; x <= 268; x += step) out.push(x, f(x))
  return [[...out, 268, 270, -12, 270]]
}

/** A long soft wave around a height. */
export function wave(
  random: Random,
  height: number,
  amplitude: number,
  length: number,
): (x: number) => number {
  const [p, q] = [random.unit(), random.unit()]
  return (x) => height + amplitude * (0.72 * sine(x / length + p) + 0.28 * sine((2.3 * x) / length + q))
}

/** Paints one layer of land, from `top` downwards, with its ridge light, outline and mist. */
export function layer({ canvas, look }: Ground, path: Path, colour: Rgb, depth: number, top: number): void {
  const { style, place, weather } = look.spec
  const near = look.land(colour, depth)
  if (style === "outline")
    canvas.fill(stroke(path, OUTLINE - 1), { colour: mix(contour(near), look.haze, depth * 0.35) })
  if (style === "neon") {
    const light = mix(RIDGE_LIGHT[place], near, depth * 0.45)
    canvas.fill(stroke(path, 20), { colour: light, alpha: depth < 0.6 ? 0.14 : 0.07 })
    if (depth < 0.6) canvas.fill(stroke(path, 8), { colour: light })
  }
  const lit =
    style === "lino" ? near : style === "neon" ? mix(near, RIDGE_LIGHT[place], 0.28) : lighten(near, 0.1)
  const dark = style === "lino" ? near : shade(near, 0.08)
  canvas.fill(path, { colour: lit, to: dark, top, bottom: style === "neon" ? top + 40 : top + 70 })
  if (weather === "fog")
    canvas.fill(path, {
      colour: look.haze,
      alpha: 0,
      alphaTo: 0.75 - 0.6 * (1 - depth),
      top,
      bottom: top + 46,
    })
}

export function hills(g: Ground): void {
  const warm = g.random.unit()
  const tone = (c: Rgb): Rgb => mix(c, [206, 190, 96], warm * 0.28)
  layer(g, under(wave(g.random, 150, 11, 190)), tone([140, 196, 150]), 0.9, 140)
  layer(g, under(wave(g.random, 172, 12, 150)), tone([112, 184, 112]), 0.45, 162)
  layer(g, under(wave(g.random, 199, 5, 210)), tone([84, 164, 88]), 0, 194)
}

export function mountains(g: Ground): void {
  range(g, [156, 170, 206], 0.9, g.random.range(92, 100), 3)
  range(g, [112, 130, 176], 0.4, g.random.range(108, 120), 2)
  layer(g, under(wave(g.random, 184, 5, 180)), [118, 176, 120], 0.35, 178)
  layer(g, under(wave(g.random, 201, 4, 220)), [88, 158, 94], 0, 196)
}

/** A row of peaks with a dark side and, when near, a cap of snow. */
function range(g: Ground, colour: Rgb, depth: number, top: number, count: number): void {
  const step = 256 / count
  const start = g.random.range(0.2, 0.8) * step - step
  for (let i = 0; i < count + 2; i++) {
    const x = start + i * step + g.random.range(-10, 10)
    const y = top + g.random.range(-10, 14)
    peak(g, x, y, step * g.random.range(0.62, 0.74), colour, depth)
  }
}

function peak(g: Ground, x: number, y: number, half: number, colour: Rgb, depth: number): void {
  const { canvas, look } = g
  const form = polygon([x, y], [x + half, 196], [x - half, 196])
  layer(g, form, colour, depth, y)
  if (depth > 0.6) return
  const clip = canvas.mask(form)
  if (!clip) return
  const lino = look.spec.style === "lino"
  const cap = 30
  const d = (half * cap) / (196 - y)
  const snow = polygon(
    [x, y - 4],
    [x + d * 1.2, y + cap],
    [x + d * 0.45, y + cap * 0.72],
    [x, y + cap * 1.05],
    [x - d * 0.5, y + cap * 0.7],
    [x - d * 1.2, y + cap],
  )
  canvas.fill(
    snow,
    { colour: lino ? look.land([250, 250, 250], 0) : look.land([250, 252, 255], depth * 0.4) },
    clip,
  )
  if (lino) return
  const away = -look.light
  const dark = polygon(
    [x, y - 6],
    [x + away * half * 1.2, 200],
    [x + away * 8, 200],
    [x - away * 5, y + 52],
    [x + away * 4, y + 26],
  )
  canvas.fill(dark, { colour: [52, 44, 104], alpha: look.spec.weather === "fog" ? 0.06 : 0.16 }, clip)
}

export function desert(g: Ground): void {
  if (g.random.chance(0.55) || g.look.spec.style === "lino") {
    const x = g.random.pick([44, 206]) + g.random.range(-14, 14)
    layer(g, mesa(x, 116, 34), [214, 132, 96], 0.8, 116)
    layer(g, mesa(x + (x < 128 ? 46 : -46), 132, 20), [214, 132, 96], 0.8, 132)
  }
  dune(g, 156, 18, [244, 202, 144], 0.8)
  dune(g, 176, 14, [238, 184, 120], 0.4)
  layer(g, under(wave(g.random, 200, 5, 200)), [228, 166, 98], 0, 195)
}

const mesa = (x: number, y: number, half: number): Path =>
  polygon(
    [x - half, y],
    [x + half, y],
    [x + half + 8, y + 16],
    [x + half + 12, 180],
    [x - half - 12, 180],
    [x - half - 8, y + 16],
  )

/** Dunes with sharp crests: arcs that meet at an angle. */
function dune(g: Ground, height: number, amplitude: number, colour: Rgb, depth: number): void {
  const [phase, length] = [g.random.unit(), g.random.range(230, 300)]
  const crest = (x: number) => {
    const s = sine(x / length + phase)
    return height + 8 - amplitude * (s < 0 ? -s : s)
  }
  layer(g, under(crest, 4), colour, depth, height - amplitude)
}

export function snow(g: Ground): void {
  layer(g, under(wave(g.random, 150, 12, 180)), [178, 200, 230], 0.85, 140)
  layer(g, under(wave(g.random, 173, 11, 150)), [204, 220, 242], 0.4, 164)
  layer(g, under(wave(g.random, 200, 5, 210)), [232, 240, 250], 0, 195)
}

export function forest(g: Ground): void {
  const spiky = g.random.chance(0.6)
  layer(g, treeline(g.random, 122, spiky), [116, 168, 140], 0.85, 110)
  layer(g, treeline(g.random, 148, spiky), [66, 130, 96], 0.35, 136)
  layer(g, under(wave(g.random, 200, 4, 210)), [112, 170, 92], 0, 195)
}

/** A closed edge of woods: firs as spikes, leafy trees as bumps. */
function treeline(random: Random, height: number, spiky: boolean): Path {
  const parts: Path[] = [rectangle(-20, height + (spiky ? 58 : 22), 300, 70)]
  for (let x = -16; x < 280; x += spiky ? 25 : 29) {
    const top = height + random.range(-9, 9)
    const w = random.range(17, 20)
    if (spiky) {
      parts.push(polygon([x, top], [x + w * 0.56, top + 28], [x - w * 0.56, top + 28]))
      parts.push(polygon([x, top + 18], [x + w * 1.65, top + 81], [x - w * 1.65, top + 81]))
    } else parts.push(ellipse(x, top + 22, w * 1.1, 24))
  }
  return union(...parts)
}

export function city(g: Ground): void {
  skyline(g, 112, [156, 174, 208], 0.85, false)
  skyline(g, 140, [112, 128, 172], 0.35, true)
  layer(g, roundRectangle(-10, 186, 276, 24, 10), [96, 160, 106], 0.1, 186)
  layer(g, rectangle(-10, 200, 276, 70), [190, 192, 204], 0, 200)
}

/** A row of towers; near ones have windows. */
function skyline(g: Ground, height: number, colour: Rgb, depth: number, windows: boolean): void {
  const { random, look, canvas } = g
  const parts: Path[] = []
  const panes: Path[] = []
  for (let x = -14 - random.range(0, 20); x < 262; ) {
    const w = random.range(30, 44)
    const top = height + random.range(-20, 22)
    parts.push(rectangle(x, top, w + 0.5, 204 - top))
    if (random.chance(0.3)) parts.push(rectangle(x + w / 2 - 7, top - 12, 12, 14))
    for (let wy = top + 9; windows && wy < 186; wy += 14)
      for (let k = 0; k < 3; k++)
        if (random.chance(0.7)) panes.push(rectangle(x + (w - 2) * (0.14 + k * 0.27), wy, (w - 2) * 0.18, 7))
    x += w
  }
  layer(g, union(...parts), colour, depth, height - 20)
  if (panes.length === 0) return
  const { style, weather } = look.spec
  const pane: Rgb = look.lit ? [255, 220, 130] : [206, 224, 242]
  const fade = weather === "fog" ? 0.35 : style === "lino" ? 1 : 0.72
  canvas.fill(union(...panes), {
    colour: style === "lino" ? look.land([250, 250, 250], 0) : mix(pane, look.haze, 0.15),
    alpha: fade,
  })
}

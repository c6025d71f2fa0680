import { ellipse, polygon, rectangle, roundRectangle, smooth, union } from "./geometry.ts"
import { type Ground, layer, under, wave } from "./land.ts"
import { type Look, lighten, mix, PAPER, RIDGE_LIGHT, shade } from "./look.ts"
import type { Rgb } from "./raster.ts"

const BLUE: Rgb = [64, 150, 200]
const SAND: Rgb = [242, 218, 164]
const ROCK: Rgb = [134, 130, 146]
const GRASS: Rgb = [104, 172, 98]

/** Open water from the horizon to the bottom, with glints under the light. */
export function sea(g: Ground, lightX: number): void {
  const { canvas, look } = g
  layer(g, rectangle(-10, 150, 276, 120), BLUE, 0.2, 150)
  if (look.spec.style !== "lino" && look.spec.style !== "neon") {
    const far = mix(waterColour(look), look.sky[2], 0.45)
    canvas.fill(rectangle(0, look.spec.style === "outline" ? 154 : 150, 256, 110), {
      colour: far,
      to: shade(waterColour(look), 0.06),
      top: 150,
      bottom: 216,
    })
  }
  glints(g, 158, 204, lightX)
}

const waterColour = (look: Look): Rgb => look.land(BLUE, 0.12)

/** Short bars of reflected light; under a low sun or a moon they gather into a path. */
export function glints(g: Ground, top: number, bottom: number, lightX: number): void {
  const { canvas, look, random } = g
  const { style, time } = look.spec
  const low = time === "sunset" || time === "dawn" || (time === "night" && style !== "lino")
  const colour: Rgb =
    style === "lino"
      ? PAPER
      : style === "neon"
        ? RIDGE_LIGHT.sea
        : lighten(low ? look.sky[2] : waterColour(look), 0.5)
  for (let y = top; y < bottom; y += 11) {
    const spread = low ? 10 + (y - top) * 0.3 : 108
    for (let k = 0; k < (low ? 1 : 2); k++) {
      const w = random.range(11, 20) + (low ? (y - top) * 0.1 : 0)
      const x = (low ? lightX : 128) + random.range(-spread, spread)
      canvas.fill(roundRectangle(x - w, y + random.range(-2, 2), 2 * w, 4, 2), {
        colour,
        alpha: style === "neon" || style === "lino" ? 0.9 : 0.55,
      })
    }
  }
}

/** A beach along the lower edge, with a line of foam. */
export function beach(g: Ground): void {
  const shore = wave(g.random, 206, 4, 230)
  if (g.look.spec.style !== "lino" && g.look.spec.style !== "neon")
    g.canvas.fill(
      under((x) => shore(x) - 5),
      { colour: lighten(waterColour(g.look), 0.62) },
    )
  layer(g, under(shore), SAND, 0, 202)
}

/** A grassy rock in the water, its top at `y`. */
export function islet(g: Ground, x: number, y: number, half: number): void {
  const { canvas, look } = g
  const w = half + 20
  if (look.spec.style !== "lino")
    canvas.fill(ellipse(x, y + 33, w + 14, 7), { colour: lighten(waterColour(look), 0.5), alpha: 0.7 })
  const rock = polygon(
    [x - w, y + 34],
    [x - w * 0.9, y + 12],
    [x - w * 0.6, y + 2],
    [x + w * 0.62, y + 2],
    [x + w * 0.92, y + 14],
    [x + w * 1.02, y + 34],
  )
  layer(g, rock, ROCK, 0, y)
  const clip = canvas.mask(rock)
  if (clip && look.spec.style !== "lino") {
    const away = -look.light
    canvas.fill(
      polygon(
        [x + away * w * 0.2, y],
        [x + away * w * 1.3, y],
        [x + away * w * 1.3, y + 40],
        [x + away * w * 0.34, y + 40],
        [x + away * w * 0.1, y + 18],
      ),
      { colour: [44, 36, 80], alpha: 0.2 },
      clip,
    )
  }
  const turf = smooth(
    [x - w * 0.94, y + 10],
    [x - w * 0.5, y - 4],
    [x, y - 6],
    [x + w * 0.5, y - 4],
    [x + w * 0.96, y + 11],
    [x + w * 0.4, y + 9],
    [x, y + 12],
    [x - w * 0.45, y + 9],
  )
  layer(g, turf, GRASS, 0, y - 6)
}

/** A lake in the foreground of any land. */
export function lake(g: Ground, lightX: number): void {
  const { canvas, look } = g
  const shore = wave(g.random, 200, 2.5, 160)
  const edge = (x: number) => shore(x) - 4
  if (look.spec.style !== "lino")
    canvas.fill(under(edge), {
      colour: look.land(look.spec.place === "city" ? [150, 152, 168] : [214, 200, 150], 0),
    })
  layer(g, under(shore), BLUE, 0.05, 198)
  if (look.spec.style !== "lino" && look.spec.style !== "neon")
    canvas.fill(under(shore), {
      colour: mix(waterColour(look), look.sky[2], 0.32),
      to: waterColour(look),
      top: 198,
      bottom: 246,
    })
  glints(g, 212, 250, lightX)
}

/** A tongue of land into the lake, from the side that `x` is nearer to. */
export function headland(g: Ground, x: number, y: number, half: number): void {
  const side = x < 128 ? -1 : 1
  const tip = x - side * (half + 16)
  const path = union(
    smooth(
      [side < 0 ? -40 : 296, y - 10],
      [x, y - 9],
      [tip + side * 8, y - 4],
      [tip, y + 5],
      [tip + side * 16, y + 13],
      [x, y + 20],
      [side < 0 ? -40 : 296, y + 24],
    ),
  )
  layer(g, path, g.look.spec.place === "city" ? [190, 192, 204] : GRASS, 0, y - 10)
}

import type { Random } from "./random.ts"
import type { Rgb } from "./raster.ts"
import type { Colour, SceneSpec, Time } from "./spec.ts"

/** The subjects' colours in flat daylight. */
export const PIGMENTS: Record<Colour, Rgb> = {
  red: [216, 52, 50],
  orange: [242, 134, 36],
  yellow: [250, 206, 56],
  green: [58, 158, 84],
  blue: [46, 108, 208],
  purple: [130, 74, 182],
  pink: [244, 128, 172],
  white: [250, 248, 244],
  black: [50, 48, 60],
}

/** The same under neon light: bright and pure. */
const NEON: Record<Colour, Rgb> = {
  red: [255, 56, 72],
  orange: [255, 146, 34],
  yellow: [255, 234, 70],
  green: [54, 250, 126],
  blue: [50, 138, 255],
  purple: [178, 86, 255],
  pink: [255, 112, 206],
  white: [240, 244, 255],
  black: [50, 48, 60],
}

export const INK: Rgb = [40, 34, 46]
export const PAPER: Rgb = [246, 238, 220]
/** The third block of a linocut: a quiet tone between paper and ink. */
export const TONE: Rgb = [196, 182, 160]
const CREAM: Rgb = [255, 246, 238]

/** Skies from the zenith to the horizon; one is chosen per scene. */
const SKIES: Record<Time, readonly (readonly [Rgb, Rgb, Rgb])[]> = {
  day: [
    [
      [66, 162, 232],
      [146, 208, 246],
      [224, 243, 250],
    ],
    [
      [84, 186, 228],
      [164, 224, 240],
      [238, 247, 240],
    ],
    [
      [60, 138, 220],
      [136, 192, 244],
      [218, 236, 250],
    ],
  ],
  dawn: [
    [
      [140, 184, 226],
      [226, 200, 220],
      [255, 222, 196],
    ],
    [
      [150, 168, 222],
      [240, 196, 204],
      [255, 230, 204],
    ],
    [
      [152, 200, 220],
      [244, 214, 206],
      [255, 232, 198],
    ],
  ],
  sunset: [
    [
      [84, 58, 142],
      [226, 96, 104],
      [255, 190, 98],
    ],
    [
      [64, 62, 140],
      [208, 88, 122],
      [255, 170, 98],
    ],
    [
      [122, 52, 112],
      [238, 106, 80],
      [255, 204, 108],
    ],
  ],
  night: [
    [
      [14, 20, 58],
      [32, 46, 104],
      [64, 82, 148],
    ],
    [
      [14, 24, 52],
      [24, 56, 98],
      [52, 100, 138],
    ],
    [
      [28, 20, 64],
      [54, 40, 110],
      [96, 74, 152],
    ],
  ],
}
const PASTEL_NIGHT: readonly [Rgb, Rgb, Rgb] = [
  [66, 72, 140],
  [104, 104, 172],
  [172, 156, 202],
]
const NEON_SKY: readonly [Rgb, Rgb, Rgb] = [
  [12, 8, 34],
  [34, 14, 74],
  [104, 26, 122],
]

/** What the air adds to near land: a colour and how much of it. */
const AIR: Record<Time, readonly [Rgb, number]> = {
  day: [[255, 255, 255], 0],
  dawn: [[252, 186, 172], 0.2],
  sunset: [[184, 66, 92], 0.34],
  night: [[20, 30, 86], 0.6],
}
const OVERCAST: Record<Time, Rgb> = {
  day: [172, 184, 198],
  dawn: [206, 190, 196],
  sunset: [150, 104, 118],
  night: [52, 60, 92],
}
const FOG: Record<Time, Rgb> = {
  day: [222, 228, 230],
  dawn: [246, 214, 200],
  sunset: [236, 170, 130],
  night: [104, 118, 152],
}

/** How one scene turns plain daylight colours into its own. */
export interface Look {
  readonly spec: SceneSpec
  /** Side the light comes from: -1 left, 1 right. */
  readonly light: 1 | -1
  /** Sky colours from zenith to horizon. */
  readonly sky: readonly [Rgb, Rgb, Rgb]
  /** Whether windows and lamps shine. */
  readonly lit: boolean
  /** Colour of mist, and of far land. */
  readonly haze: Rgb
  /** Land of a daylight colour at a depth of 0 (near) to 1 (far). */
  land(colour: Rgb, depth: number): Rgb
  /** A part of a subject; `lamp` for what shines by itself. */
  thing(colour: Rgb, lamp?: boolean): Rgb
  /** The main colour of a subject before `thing`. */
  pigment(colour: Colour): Rgb
}

export const mix = (a: Rgb, b: Rgb, t: number): Rgb => [
  a[0] + t * (b[0] - a[0]),
  a[1] + t * (b[1] - a[1]),
  a[2] + t * (b[2] - a[2]),
]
export const luma = (c: Rgb) => 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]
/** The side of a form turned away from the light. */
export const shade = (c: Rgb, amount = 0.24): Rgb => mix(c, [46, 28, 78], amount)
/** The side turned to it. */
export const lighten = (c: Rgb, amount = 0.3): Rgb => mix(c, [255, 252, 238], amount)
/** Outline colour: a darker shade of the fill. */
export const contour = (c: Rgb): Rgb => mix(c, [34, 22, 48], 0.58)

const soften = (c: Rgb, amount: number): Rgb => {
  const grey = luma(c)
  if (grey < 70) amount *= 0.5 // black stays dark among the pastels
  return mix(mix(c, [grey, grey, grey], 0.07), CREAM, amount)
}

/** The colours of a scene; `random` chooses among the skies of its time of day. */
export function makeLook(spec: SceneSpec, light: 1 | -1, random: Random): Look {
  const choice = random.pick(SKIES[spec.time])
  if (spec.style === "lino") return linoLook(spec, light)
  if (spec.style === "neon") return neonLook(spec, light)
  return paintedLook(spec, light, choice)
}

function paintedLook(spec: SceneSpec, light: 1 | -1, choice: readonly [Rgb, Rgb, Rgb]): Look {
  const { time, weather, style } = spec
  const pastel = style === "pastel"
  const soft = (c: Rgb) => (pastel ? soften(c, time === "night" ? 0.18 : 0.36) : c)
  const [air, amount] = AIR[time]
  const clear = pastel && time === "night" ? PASTEL_NIGHT : choice
  const veil = weather === "fog" ? FOG[time] : OVERCAST[time]
  const cover = { clear: 0, cloudy: 0.42, rain: 0.78, snowfall: 0.66, fog: 0.9 }[weather]
  const sky = clear.map((c, i) => mix(c, veil, cover * (1 - 0.12 * i))) as unknown as [Rgb, Rgb, Rgb]
  const haze = weather === "fog" ? FOG[time] : sky[2]
  const dull = weather === "rain" ? 0.26 : weather === "clear" ? 0 : 0.1
  const tint = (c: Rgb, strength: number) => mix(mix(c, veil, dull * strength), air, amount * strength)
  return {
    spec,
    light,
    sky: sky.map(soft) as unknown as [Rgb, Rgb, Rgb],
    lit: time === "night" || time === "sunset",
    haze: soft(haze),
    land: (c, depth) =>
      soft(
        mix(
          tint(c, (pastel && time === "night" ? 0.75 : 1) * (spec.place === "snow" ? 0.62 : 1)),
          haze,
          weather === "fog" ? 0.2 + 0.6 * depth : (spec.place === "snow" ? 0.25 : 0.42) * depth,
        ),
      ),
    thing: (c, lamp) => soft(lamp ? c : mix(tint(c, 0.27), haze, weather === "fog" ? 0.15 : 0)),
    pigment: (c) => PIGMENTS[c],
  }
}

/** Solid areas of ink, tone and paper; the subject is printed from a block of its own colour. */
function linoLook(spec: SceneSpec, light: 1 | -1): Look {
  const night = spec.time === "night"
  const back = night ? INK : PAPER
  return {
    spec,
    light,
    sky: [back, back, back],
    lit: true,
    haze: TONE,
    land: (c, depth) => linoLand(spec, luma(c) > 210, depth),
    thing: (c) => linoThing(c, spec),
    pigment: (c) => PIGMENTS[c],
  }
}

/** The subject's own block prints its colour; everything else is paper or ink. */
function linoThing(c: Rgb, { subject, second }: SceneSpec): Rgb {
  const near = (p: Rgb) => Math.abs(p[0] - c[0]) + Math.abs(p[1] - c[1]) + Math.abs(p[2] - c[2]) < 60
  const blocks = [PIGMENTS[subject.colour], PIGMENTS[(second ?? subject).colour]]
  return blocks.find(near) ?? (luma(c) > 150 ? PAPER : INK)
}

/** Far, middle and near land: hills run down to ink, a desert to tone, snow to paper. */
function linoLand({ time, place }: SceneSpec, cleared: boolean, depth: number): Rgb {
  const far: Rgb = time === "night" ? [92, 84, 88] : TONE
  if (cleared) return PAPER
  if (place === "snow") return depth > 0.75 ? far : depth > 0.3 ? [222, 211, 190] : PAPER
  if (place === "desert") return depth > 0.75 ? [120, 108, 104] : depth > 0.3 ? PAPER : TONE
  return depth > 0.75 ? far : depth > 0.3 ? (time === "night" ? TONE : [120, 108, 104]) : INK
}

/** A dark violet world in which the subject and the ridges shine. */
function neonLook(spec: SceneSpec, light: 1 | -1): Look {
  return {
    spec,
    light,
    sky: NEON_SKY,
    lit: true,
    haze: NEON_SKY[2],
    land: (c, depth) => mix(mix([24, 14, 54], c, 0.1), [86, 30, 120], depth * 0.45),
    thing: (c, lamp) => (lamp ? c : neonThing(c)),
    pigment: (c) => NEON[c],
  }
}

/** Pure colours keep shining, pale parts turn lilac, the rest sinks into violet. */
function neonThing(c: Rgb): Rgb {
  if (Math.max(...c) - Math.min(...c) > 100) return c
  return luma(c) > 150 ? mix(c, [196, 170, 255], 0.4) : mix(c, [66, 34, 128], 0.62)
}

/** Ridge lights of the neon world, one colour a place. */
export const RIDGE_LIGHT: Record<SceneSpec["place"], Rgb> = {
  hills: [70, 240, 150],
  mountains: [168, 110, 255],
  sea: [60, 216, 255],
  desert: [255, 168, 60],
  snow: [214, 236, 255],
  forest: [40, 220, 190],
  city: [255, 84, 190],
}

import { hashText, type Random } from "./random.ts"

/** The words of the corpus' world. Every picture is one choice from each list; see docs/corpus.md. */
export const SUBJECTS = [
  "house",
  "lighthouse",
  "tree",
  "pine",
  "sailboat",
  "windmill",
  "castle",
  "balloon",
  "cactus",
  "tent",
  "cat",
  "mushroom",
  "flower",
  "car",
  "rocket",
  "bird",
] as const
export const COLOURS = [
  "red",
  "orange",
  "yellow",
  "green",
  "blue",
  "purple",
  "pink",
  "white",
  "black",
] as const
export const PLACES = ["hills", "mountains", "sea", "desert", "snow", "forest", "city"] as const
export const TIMES = ["day", "dawn", "sunset", "night"] as const
export const WEATHERS = ["clear", "cloudy", "rain", "snowfall", "fog"] as const
export const STYLES = ["flat", "pastel", "outline", "neon", "lino"] as const
export const SIZES = ["small", "medium", "large"] as const
export const POSITIONS = ["left", "centre", "right"] as const

export type SubjectKind = (typeof SUBJECTS)[number]
export type Colour = (typeof COLOURS)[number]
export type Place = (typeof PLACES)[number]
export type Time = (typeof TIMES)[number]
export type Weather = (typeof WEATHERS)[number]
export type Style = (typeof STYLES)[number]
export type Size = (typeof SIZES)[number]
export type Position = (typeof POSITIONS)[number]
/** Pictures to learn from, or pictures whose combinations no training picture shows. */
export type Split = "train" | "evaluation"

export interface Thing {
  kind: SubjectKind
  colour: Colour
}

/** Everything a picture shows; `drawScene` is a pure function of it and of the size. */
export interface SceneSpec {
  style: Style
  place: Place
  time: Time
  weather: Weather
  subject: Thing
  count: 1 | 2 | 3
  /** Where the subject stands; several in a row stand in the "centre". */
  position: Position
  size: Size
  /** A single thing on the other side; the position is then "left" or "right". */
  second: Thing | null
  /** Seed of all that no caption names: the sky's gradient, ridges, clouds, windows. */
  seed: number
}

/** Chosen so that about 40, 22, 16, 12 and 10 in 100 are left once impossible scenes are dropped. */
const STYLE_WEIGHTS = { flat: 38, pastel: 22, outline: 15, neon: 12, lino: 15 }
const WEATHER_WEIGHTS: Record<Time, Partial<Record<Weather, number>>> = {
  day: { clear: 58, cloudy: 14, rain: 9, snowfall: 8, fog: 11 },
  dawn: { clear: 76, cloudy: 14, fog: 10 },
  sunset: { clear: 80, cloudy: 20 },
  night: { clear: 72, cloudy: 8, rain: 6, snowfall: 8, fog: 6 },
}
const GREEN_BY_NATURE: readonly SubjectKind[] = ["tree", "pine", "cactus"]

/** Share of the (kind, colour, place) triples that no training picture shows: 1 of 16. */
const HELD_TRIPLES = 16
/** Share of the unordered pairs of kinds that no training picture shows: 1 of 12. */
const HELD_PAIRS = 12

/**
 * Whether a scene shows a combination reserved for evaluation: a (kind, colour, place) triple or a pair of kinds.
 * Decided by a hash of their names alone, so the rule stays the same when lists grow.
 */
export function isHeldOut(spec: Pick<SceneSpec, "subject" | "second" | "place">): boolean {
  const { subject, second, place } = spec
  return (
    heldTriple(subject, place) ||
    (second !== null && (heldTriple(second, place) || heldPair(subject, second)))
  )
}

const heldTriple = (thing: Thing, place: Place) =>
  hashText(`triple ${thing.kind} ${thing.colour} ${place}`) % HELD_TRIPLES === 0

const heldPair = (a: Thing, b: Thing) =>
  hashText(`pair ${[a.kind, b.kind].sort().join(" ")}`) % HELD_PAIRS === 0

/**
 * Whether the world can show this clearly: neon is night and has no black; black needs light; a sailboat needs
 * water; nothing white stands in fog, snow or a pale dawn; no rain or snow falls in the desert, no rain in the snow; a linocut knows day, sunset and night.
 */
export function isPossible(spec: SceneSpec): boolean {
  const { style, place, time, weather } = spec
  if (style === "neon" && (time !== "night" || weather === "fog" || weather === "cloudy")) return false
  if (style === "lino" && (time === "dawn" || weather === "fog" || weather === "cloudy")) return false
  if (place === "desert" && (weather === "rain" || weather === "snowfall")) return false
  if (place === "snow" && weather === "rain") return false
  if (!((WEATHER_WEIGHTS[time][weather] ?? 0) > 0)) return false
  if (
    spec.second &&
    (spec.count > 1 ||
      spec.size === "large" ||
      spec.position === "centre" ||
      spec.second.kind === spec.subject.kind)
  )
    return false
  if (spec.count > 1 && (spec.position !== "centre" || spec.size === "large")) return false
  if (spec.count === 3 && spec.size !== "small") return false
  return [spec.subject, spec.second].every((thing) => thing === null || isVisible(thing, spec))
}

function isVisible({ kind, colour }: Thing, { style, place, time, weather }: SceneSpec): boolean {
  if (colour === "black" && (time === "night" || style === "neon" || style === "lino")) return false
  if (colour === "white" && (weather === "fog" || place === "snow" || style === "lino")) return false
  if (colour === "white" && style === "pastel" && time === "dawn") return false
  return kind !== "sailboat" || (place !== "desert" && place !== "snow")
}

/**
 * Draws a scene of the split: never a held-out combination for "train", always one for "evaluation".
 * @example randomSpec(new Random(7), "train")
 */
export function randomSpec(random: Random, split: Split): SceneSpec {
  for (;;) {
    const spec = anySpec(random)
    if (isPossible(spec) && isHeldOut(spec) === (split === "evaluation")) return spec
  }
}

function anySpec(random: Random): SceneSpec {
  const style = random.weighted(STYLE_WEIGHTS)
  const time = style === "neon" ? "night" : random.weighted({ day: 40, dawn: 16, sunset: 22, night: 22 })
  const place = random.pick(PLACES)
  const subject = anyThing(random, place)
  const layout = random.weighted({ single: 48, pair: 35, two: 12, three: 8 })
  const count = layout === "two" ? 2 : layout === "three" ? 3 : 1
  return {
    style,
    place,
    time,
    weather: style === "neon" || style === "lino" ? "clear" : random.weighted(WEATHER_WEIGHTS[time]),
    subject,
    count,
    position:
      count > 1 ? "centre" : random.pick(layout === "pair" ? (["left", "right"] as const) : POSITIONS),
    size:
      count === 3
        ? "small"
        : random.weighted({ small: 22, medium: 46, large: count === 1 && layout !== "pair" ? 40 : 0 }),
    second: layout === "pair" ? anyThing(random, place) : null,
    seed: random.next(),
  }
}

function anyThing(random: Random, place: Place): Thing {
  const kind = place === "sea" && random.chance(0.14) ? "sailboat" : random.pick(SUBJECTS)
  const green = GREEN_BY_NATURE.includes(kind) && random.chance(0.4)
  return { kind, colour: green ? "green" : random.pick(COLOURS) }
}

import type { Said } from "./caption.ts"
import type { Random } from "./random.ts"
import type { Colour, Place, SceneSpec, Style, SubjectKind, Thing } from "./spec.ts"
import { SUBJECT_TABLE } from "./subjects/index.ts"

export type Gender = "m" | "f" | "n"
export type Case = "nominative" | "dative"

export interface Noun {
  gender: Gender
  singular: string
  plural: string
  /** Dative plural; the dative singular of all these nouns is the nominative. */
  dative: string
}

const noun = (gender: Gender, singular: string, plural: string, dative: string): Noun => ({
  gender,
  singular,
  plural,
  dative,
})

const STEHT = [["steht", "stehen"]] as const
const WAECHST = [
  ["wächst", "wachsen"],
  ["steht", "stehen"],
] as const

export const GERMAN_SUBJECTS: Record<
  SubjectKind,
  { nouns: readonly Noun[]; verbs: readonly (readonly [string, string])[] }
> = {
  house: { nouns: [noun("n", "Haus", "Häuser", "Häusern")], verbs: STEHT },
  lighthouse: { nouns: [noun("m", "Leuchtturm", "Leuchttürme", "Leuchttürmen")], verbs: STEHT },
  tree: { nouns: [noun("m", "Baum", "Bäume", "Bäumen")], verbs: WAECHST },
  pine: { nouns: [noun("f", "Tanne", "Tannen", "Tannen")], verbs: WAECHST },
  sailboat: {
    nouns: [noun("n", "Segelboot", "Segelboote", "Segelbooten"), noun("n", "Boot", "Boote", "Booten")],
    verbs: [["segelt", "segeln"]],
  },
  windmill: { nouns: [noun("f", "Windmühle", "Windmühlen", "Windmühlen")], verbs: STEHT },
  castle: {
    nouns: [noun("n", "Schloss", "Schlösser", "Schlössern"), noun("f", "Burg", "Burgen", "Burgen")],
    verbs: STEHT,
  },
  balloon: {
    nouns: [
      noun("m", "Heißluftballon", "Heißluftballons", "Heißluftballons"),
      noun("m", "Ballon", "Ballons", "Ballons"),
    ],
    verbs: [["schwebt", "schweben"]],
  },
  cactus: { nouns: [noun("m", "Kaktus", "Kakteen", "Kakteen")], verbs: WAECHST },
  tent: { nouns: [noun("n", "Zelt", "Zelte", "Zelten")], verbs: STEHT },
  cat: { nouns: [noun("f", "Katze", "Katzen", "Katzen")], verbs: [["sitzt", "sitzen"]] },
  mushroom: { nouns: [noun("m", "Pilz", "Pilze", "Pilzen")], verbs: WAECHST },
  flower: { nouns: [noun("f", "Blume", "Blumen", "Blumen")], verbs: [["wächst", "wachsen"]] },
  car: { nouns: [noun("n", "Auto", "Autos", "Autos")], verbs: STEHT },
  rocket: { nouns: [noun("f", "Rakete", "Raketen", "Raketen")], verbs: [["startet", "starten"]] },
  bird: {
    nouns: [noun("m", "Vogel", "Vögel", "Vögeln")],
    verbs: [
      ["steht", "stehen"],
      ["sitzt", "sitzen"],
    ],
  },
}

export const GERMAN_COLOURS: Record<Colour, readonly string[]> = {
  red: ["rot"],
  orange: ["orange"],
  yellow: ["gelb"],
  green: ["grün"],
  blue: ["blau"],
  purple: ["lila"],
  pink: ["rosa"],
  white: ["weiß"],
  black: ["schwarz"],
}
const UNINFLECTED = new Set(["orange", "lila", "rosa"])

export const GERMAN_SIZES = { small: ["klein"], large: ["groß", "riesig"] } as const

/** `at` for what stands there, `over` for what flies there, `on` for what floats there, `tag` as a key word. */
const PLACES: Record<Place, { at: string[]; over: string[]; on: string[]; tag: string[] }> = {
  hills: {
    at: ["in den Hügeln", "zwischen Hügeln"],
    over: ["über den Hügeln"],
    on: ["auf einem See in den Hügeln"],
    tag: ["Hügel"],
  },
  mountains: {
    at: ["in den Bergen", "vor den Bergen"],
    over: ["über den Bergen"],
    on: ["auf einem See in den Bergen"],
    tag: ["Berge"],
  },
  sea: {
    at: ["am Meer", "an der Küste"],
    over: ["über dem Meer"],
    on: ["auf dem Meer", "auf See", "am Meer"],
    tag: ["Meer", "Küste"],
  },
  desert: {
    at: ["in der Wüste", "zwischen Sanddünen"],
    over: ["über der Wüste"],
    on: [],
    tag: ["Wüste", "Sanddünen"],
  },
  snow: {
    at: ["im Schnee", "in einer Schneelandschaft", "im Winter"],
    over: ["über dem Schnee", "über einer Schneelandschaft"],
    on: [],
    tag: ["Schnee", "Winter", "Schneelandschaft"],
  },
  forest: {
    at: ["im Wald", "am Waldrand", "vor dem Wald"],
    over: ["über dem Wald"],
    on: ["auf einem See im Wald"],
    tag: ["Wald"],
  },
  city: {
    at: ["in der Stadt", "in einer großen Stadt", "vor einer Skyline"],
    over: ["über der Stadt", "über der Skyline"],
    on: ["auf einem See in der Stadt", "vor einer Skyline"],
    tag: ["Stadt", "Skyline"],
  },
}

/** `of` goes before "von" and a dative. */
const STYLES: Record<Style, { of: string[]; in: string[]; tag: string[] }> = {
  flat: {
    of: ["flache Illustration", "eine flache Illustration"],
    in: ["im flachen Stil"],
    tag: ["flacher Stil", "flache Illustration", "flaches Design"],
  },
  pastel: {
    of: ["Pastellzeichnung", "eine Pastellzeichnung"],
    in: ["im Pastellstil", "in Pastellfarben"],
    tag: ["Pastellstil", "Pastellfarben", "Pastellzeichnung"],
  },
  outline: {
    of: ["Comic", "ein Comic"],
    in: ["im Comicstil", "mit dicken Umrissen"],
    tag: ["Comicstil", "dicke Umrisse", "Comic mit Umrissen"],
  },
  neon: {
    of: ["ein Neonbild"],
    in: ["im Neonstil", "in Neonfarben", "im Neonlicht"],
    tag: ["Neonstil", "Neonfarben", "Neonlicht"],
  },
  lino: {
    of: ["Linolschnitt", "ein Linolschnitt", "ein Linoldruck"],
    in: ["als Linolschnitt", "als Linoldruck"],
    tag: ["Linolschnitt", "Linoldruck"],
  },
}

const ANY_PICTURE = ["ein Bild", "eine Zeichnung", "eine Illustration"]
const COUNTS = { 2: "zwei", 3: "drei" } as const
const SIDES = {
  left: ["links", "auf der linken Seite"],
  centre: ["in der Mitte"],
  right: ["rechts", "auf der rechten Seite"],
}

/** An adjective after "ein" (mixed declension), or, for several, after a bare number (strong declension). */
export function inflect(adjective: string, gender: Gender, count: number, grammar: Case): string {
  if (UNINFLECTED.has(adjective)) return adjective
  if (grammar === "dative") return `${adjective}en`
  if (count > 1) return `${adjective}e`
  return adjective + { m: "er", f: "e", n: "es" }[gender]
}

/** "ein", "eine", "einem", "einer". */
export const article = (gender: Gender, grammar: Case): string =>
  grammar === "nominative" ? (gender === "f" ? "eine" : "ein") : gender === "f" ? "einer" : "einem"

/** A German caption; see `caption`. */
export function sayGerman(spec: SceneSpec, said: Said, random: Random): string {
  const place = said.place ? where(spec, said.tags, random) : ""
  const when = moments(spec, said, random)
  if (said.tags) return sayTags(spec, said, place, when, random)
  const style = STYLES[spec.style]
  const rest = random.shuffled([place, ...when].filter(Boolean))
  const form = random.weighted({ phrase: 70, verb: 15, placed: 15 })
  if (form !== "phrase" && !spec.second) {
    const text = sentence(spec, said, form === "placed", rest, random)
    if (said.style) return `${text}, ${random.pick(style.tag)}`
    return random.chance(0.3) ? `${text[0]!.toUpperCase()}${text.slice(1)}.` : text
  }
  const body = (grammar: Case) => [subjects(spec, said, grammar, random), ...rest].join(" ")
  if (!said.style)
    return random.chance(0.25) ? `${random.pick(ANY_PICTURE)} von ${body("dative")}` : body("nominative")
  const frame = random.weighted({ after: 50, of: 25, in: 25 })
  if (frame === "of") return `${random.pick(style.of)} von ${body("dative")}`
  return body("nominative") + (frame === "in" ? ` ${random.pick(style.in)}` : `, ${random.pick(style.tag)}`)
}

/** "am Meer steht ein roter Leuchtturm bei Nacht", or the subject first. */
function sentence(spec: SceneSpec, said: Said, placed: boolean, rest: string[], random: Random): string {
  const who = subjects(spec, said, "nominative", random)
  const verb = random.pick(GERMAN_SUBJECTS[spec.subject.kind].verbs)[spec.count === 1 ? 0 : 1]
  if (placed && rest.length > 0) return [rest[0], verb, who, ...rest.slice(1)].join(" ")
  const [side, bare] = split(who, spec, said)
  return [bare, verb, side, ...rest].filter(Boolean).join(" ")
}

/** Takes the side off a noun phrase, since the verb comes second: "ein Haus | steht | links". */
function split(who: string, spec: SceneSpec, said: Said): [string, string] {
  const side =
    said.position && spec.count === 1 ? SIDES[spec.position].find((s) => who.endsWith(` ${s}`)) : undefined
  return side ? [side, who.slice(0, -side.length - 1)] : ["", who]
}

function sayTags(spec: SceneSpec, said: Said, place: string, when: string[], random: Random): string {
  const side =
    said.position && !spec.second && spec.count === 1
      ? random.pick(["", "", random.pick(SIDES[spec.position])])
      : ""
  const thing = spec.second
    ? subjects(spec, said, "nominative", random)
    : phrase(spec.subject, spec.count, spec, said.colour, said.size, "nominative", false, random)
  const style = said.style ? random.pick(STYLES[spec.style].tag) : ""
  return [thing, side, ...random.shuffled([place, ...when, style])].filter(Boolean).join(", ")
}

function subjects(spec: SceneSpec, said: Said, grammar: Case, random: Random): string {
  const first = phrase(spec.subject, spec.count, spec, said.colour, said.size, grammar, true, random)
  if (!spec.second)
    return said.position && spec.count === 1 ? `${first} ${random.pick(SIDES[spec.position])}` : first
  const size = said.size && random.chance(0.4)
  const other = (g: Case) => phrase(spec.second!, 1, spec, said.secondColour, size, g, true, random)
  const [here, there] = spec.position === "left" ? (["left", "right"] as const) : (["right", "left"] as const)
  if (!said.position)
    return random.chance(0.5) ? `${first} und ${other(grammar)}` : `${first} neben ${other("dative")}`
  const form = random.weighted({ both: 40, turned: 30, relative: 30 })
  if (form === "both")
    return `${first} ${random.pick(SIDES[here])} und ${other(grammar)} ${random.pick(SIDES[there])}`
  if (form === "turned")
    return `${other(grammar)} ${random.pick(SIDES[there])} und ${first} ${random.pick(SIDES[here])}`
  return `${first} ${SIDES[here][0]} von ${other("dative")}`
}

/** Article or number, size, colour and noun in a case. */
function phrase(
  thing: Thing,
  count: number,
  spec: SceneSpec,
  colour: boolean,
  size: boolean,
  grammar: Case,
  withArticle: boolean,
  random: Random,
): string {
  const { nouns } = GERMAN_SUBJECTS[thing.kind]
  const word = random.chance(0.75) ? nouns[0]! : random.pick(nouns)
  const adjective = (a: string) => inflect(a, word.gender, count, grammar)
  const large = size && spec.size !== "medium" ? adjective(random.pick(GERMAN_SIZES[spec.size])) : ""
  const tint = colour ? adjective(random.pick(GERMAN_COLOURS[thing.colour])) : ""
  const head = count > 1 ? COUNTS[count as 2 | 3] : withArticle ? article(word.gender, grammar) : ""
  const form = count === 1 ? word.singular : grammar === "dative" ? word.dative : word.plural
  return [head, large, tint, form].filter(Boolean).join(" ")
}

function where(spec: SceneSpec, tags: boolean, random: Random): string {
  const { at, over, on, tag } = PLACES[spec.place]
  if (tags && random.chance(0.6)) return random.pick(tag)
  const stands = SUBJECT_TABLE[spec.subject.kind].stands
  if (spec.second) return random.pick(at)
  if (stands === "water") return random.pick(on)
  return random.pick(stands === "air" && random.chance(0.7) ? over : at)
}

/** Time and weather, said apart or in one ("an einem nebligen Morgen"). */
function moments(spec: SceneSpec, said: Said, random: Random): string[] {
  const { time, weather } = spec
  if (said.time && said.weather && weather !== "clear" && time !== "night" && random.chance(0.3)) {
    const word = { cloudy: "bewölkten", rain: "regnerischen", snowfall: "verschneiten", fog: "nebligen" }[
      weather
    ]
    return [`an einem ${word} ${{ day: "Tag", dawn: "Morgen", sunset: "Abend" }[time]}`]
  }
  return [
    said.time ? random.pick(timeWords(spec)) : "",
    said.weather ? random.pick(weatherWords(spec)) : "",
  ].filter(Boolean)
}

function timeWords({ time, weather, style }: SceneSpec): string[] {
  const clear = weather === "clear"
  const painted = style === "flat" || style === "outline"
  if (time === "day")
    return [
      "bei Tag",
      "am Tag",
      ...(clear ? ["an einem sonnigen Tag"] : []),
      ...(clear && painted ? ["unter blauem Himmel"] : []),
    ]
  if (time === "dawn") return ["bei Sonnenaufgang", "am Morgen", "am frühen Morgen", "im Morgengrauen"]
  if (time === "sunset") return ["bei Sonnenuntergang", "am Abend", "im Abendlicht"]
  return [
    "bei Nacht",
    "bei Nacht",
    "in der Nacht",
    ...(clear ? ["unter den Sternen", "unter dem Sternenhimmel", "im Mondlicht"] : []),
  ]
}

function weatherWords({ weather }: SceneSpec): string[] {
  if (weather === "cloudy") return ["unter Wolken", "unter bewölktem Himmel"]
  if (weather === "rain") return ["im Regen", "bei Regen"]
  if (weather === "snowfall") return ["bei Schneefall", "im Schneefall"]
  return weather === "fog" ? ["im Nebel", "bei Nebel", "in dichtem Nebel"] : [""]
}

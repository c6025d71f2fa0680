import type { Said } from "./caption.ts"
import type { Random } from "./random.ts"
import type { Colour, Place, SceneSpec, Style, SubjectKind, Thing } from "./spec.ts"
import { SUBJECT_TABLE } from "./subjects/index.ts"

interface Word {
  /** Singular and plural; the first pair is the commonest. */
  nouns: readonly (readonly [string, string])[]
  /** What one does, and what several do. */
  verbs: readonly (readonly [string, string])[]
}

const STANDS = [["stands", "stand"]] as const
const GROWS = [
  ["grows", "grow"],
  ["stands", "stand"],
] as const

export const ENGLISH_SUBJECTS: Record<SubjectKind, Word> = {
  house: {
    nouns: [
      ["house", "houses"],
      ["cottage", "cottages"],
    ],
    verbs: STANDS,
  },
  lighthouse: { nouns: [["lighthouse", "lighthouses"]], verbs: STANDS },
  tree: { nouns: [["tree", "trees"]], verbs: GROWS },
  pine: {
    nouns: [
      ["pine tree", "pine trees"],
      ["fir tree", "fir trees"],
      ["pine", "pines"],
    ],
    verbs: GROWS,
  },
  sailboat: {
    nouns: [
      ["sailboat", "sailboats"],
      ["sailing boat", "sailing boats"],
      ["boat", "boats"],
    ],
    verbs: [
      ["floats", "float"],
      ["sails", "sail"],
    ],
  },
  windmill: { nouns: [["windmill", "windmills"]], verbs: STANDS },
  castle: { nouns: [["castle", "castles"]], verbs: STANDS },
  balloon: {
    nouns: [
      ["hot air balloon", "hot air balloons"],
      ["balloon", "balloons"],
    ],
    verbs: [["floats", "float"]],
  },
  cactus: { nouns: [["cactus", "cacti"]], verbs: GROWS },
  tent: { nouns: [["tent", "tents"]], verbs: STANDS },
  cat: {
    nouns: [
      ["cat", "cats"],
      ["kitten", "kittens"],
    ],
    verbs: [["sits", "sit"]],
  },
  mushroom: { nouns: [["mushroom", "mushrooms"]], verbs: GROWS },
  flower: { nouns: [["flower", "flowers"]], verbs: [["grows", "grow"]] },
  car: { nouns: [["car", "cars"]], verbs: STANDS },
  rocket: { nouns: [["rocket", "rockets"]], verbs: [["takes off", "take off"]] },
  bird: {
    nouns: [["bird", "birds"]],
    verbs: [
      ["stands", "stand"],
      ["sits", "sit"],
    ],
  },
}

export const ENGLISH_COLOURS: Record<Colour, readonly string[]> = {
  red: ["red"],
  orange: ["orange"],
  yellow: ["yellow"],
  green: ["green"],
  blue: ["blue"],
  purple: ["purple", "purple", "violet"],
  pink: ["pink"],
  white: ["white"],
  black: ["black"],
}

export const ENGLISH_SIZES = { small: ["small", "little", "tiny"], large: ["large", "big", "huge"] } as const

/** `at` for what stands there, `over` for what flies there, `on` for what floats there, `tag` as a key word. */
const PLACES: Record<Place, { at: string[]; over: string[]; on: string[]; tag: string[] }> = {
  hills: {
    at: ["in the hills", "among rolling hills"],
    over: ["over the hills", "above the hills"],
    on: ["on a lake in the hills"],
    tag: ["hills", "rolling hills"],
  },
  mountains: {
    at: ["in the mountains", "in front of the mountains", "in front of snowy mountains"],
    over: ["over the mountains", "above the mountains"],
    on: ["on a lake in the mountains", "on a mountain lake"],
    tag: ["mountains", "snowy mountains"],
  },
  sea: {
    at: ["by the sea", "at the seaside", "on the coast", "by the ocean"],
    over: ["over the sea", "above the ocean"],
    on: ["on the sea", "at sea", "on the ocean", "by the sea"],
    tag: ["sea", "ocean", "coast"],
  },
  desert: {
    at: ["in the desert", "among sand dunes", "in a sandy desert"],
    over: ["over the desert", "above sand dunes"],
    on: [],
    tag: ["desert", "sand dunes"],
  },
  snow: {
    at: ["in the snow", "in a snowy landscape", "in winter"],
    over: ["over the snow", "above a snowy landscape"],
    on: [],
    tag: ["snow", "winter", "snowy landscape"],
  },
  forest: {
    at: ["in the forest", "in the woods", "at the edge of the forest"],
    over: ["over the forest", "above the woods"],
    on: ["on a lake in the forest", "on a lake in the woods"],
    tag: ["forest", "woods"],
  },
  city: {
    at: ["in the city", "in a big city", "in front of a skyline"],
    over: ["over the city", "above the skyline"],
    on: ["on a lake in the city", "in front of a skyline"],
    tag: ["city", "skyline"],
  },
}

const STYLES: Record<Style, { of: string[]; in: string[]; tag: string[] }> = {
  flat: {
    of: ["a flat illustration of", "flat vector art of"],
    in: ["in flat style", "in a flat design"],
    tag: ["flat style", "flat illustration", "flat vector art", "flat design"],
  },
  pastel: {
    of: ["a pastel illustration of", "a pastel drawing of"],
    in: ["in pastel style", "in soft pastel colours", "in pastel colors"],
    tag: ["pastel style", "pastel illustration", "soft pastel colours", "pastel colors"],
  },
  outline: {
    of: ["a cartoon of", "an outline drawing of"],
    in: ["in outline style", "with bold outlines", "in cartoon style"],
    tag: ["outline style", "bold outlines", "cartoon style", "outline drawing"],
  },
  neon: {
    of: ["neon art of", "a neon picture of"],
    in: ["in neon style", "in glowing neon", "in neon lights"],
    tag: ["neon style", "neon art", "glowing neon", "neon lights"],
  },
  lino: {
    of: ["a linocut of", "a lino print of"],
    in: ["as a linocut", "in linocut style", "as a lino print"],
    tag: ["linocut", "linocut style", "lino print"],
  },
}

const ANY_PICTURE = ["a picture of", "an image of", "a drawing of", "an illustration of"]
const COUNTS = { 2: ["two", "two", "a pair of"], 3: ["three"] } as const
const SIDES = {
  left: ["on the left", "to the left", "on the left side"],
  centre: ["in the middle", "in the centre", "in the center"],
  right: ["on the right", "to the right", "on the right side"],
}

/** An English caption; see `caption`. */
export function sayEnglish(spec: SceneSpec, said: Said, random: Random): string {
  const place = said.place ? where(spec, said.tags, random) : ""
  const when = moments(spec, said, random)
  if (said.tags) return sayTags(spec, said, place, when, random)
  const style = STYLES[spec.style]
  const form = random.weighted({ phrase: 66, placed: 10, verb: 14, there: 10 })
  if (form === "phrase" || spec.second) {
    const body = [subjects(spec, said, random), ...random.shuffled([place, ...when])]
      .filter(Boolean)
      .join(" ")
    const frame = random.weighted({ after: 50, of: 25, in: 25 })
    if (!said.style) return random.chance(0.25) ? `${random.pick(ANY_PICTURE)} ${body}` : body
    if (frame === "of") return `${random.pick(style.of)} ${body}`
    return frame === "in" ? `${body} ${random.pick(style.in)}` : `${body}, ${random.pick(style.tag)}`
  }
  return finish(
    sentence(spec, said, form, place, when, random),
    said.style ? random.pick(style.tag) : "",
    random,
  )
}

function sentence(
  spec: SceneSpec,
  said: Said,
  form: string,
  place: string,
  when: string[],
  random: Random,
): string {
  const who = subjects(spec, said, random)
  const verb = random.pick(ENGLISH_SUBJECTS[spec.subject.kind].verbs)[spec.count === 1 ? 0 : 1]
  const rest = random.shuffled([place, ...when].filter(Boolean))
  if (form === "verb") return [who, verb, ...rest].join(" ")
  if (form === "placed" && rest.length > 0) return `${rest[0]}, ${[who, ...rest.slice(1)].join(" ")}`
  return [`there ${spec.count === 1 ? "is" : "are"}`, who, ...rest].join(" ")
}

function finish(text: string, style: string, random: Random): string {
  if (style) return random.chance(0.3) ? `${style}: ${text}` : `${text}, ${style}`
  return random.chance(0.3) ? `${text[0]!.toUpperCase()}${text.slice(1)}.` : text
}

function sayTags(spec: SceneSpec, said: Said, place: string, when: string[], random: Random): string {
  const side = said.position && !spec.second && spec.count === 1 ? spec.position : null
  const things = spec.second
    ? [subjects(spec, said, random)]
    : [
        described(spec.subject, spec.count, spec, said.colour, said.size, random),
        side ? random.pick(["", "", side === "centre" ? "centre" : side]) : "",
      ]
  const style = said.style ? random.pick(STYLES[spec.style].tag) : ""
  return [things.filter(Boolean).join(", "), ...random.shuffled([place, ...when, style])]
    .filter(Boolean)
    .join(", ")
}

/** The subjects with their sides: "a red house on the left and a cat on the right". */
function subjects(spec: SceneSpec, said: Said, random: Random): string {
  const first = nounPhrase(spec.subject, spec.count, spec, said.colour, said.size, random)
  if (!spec.second) {
    return said.position && spec.count === 1 ? `${first} ${random.pick(SIDES[spec.position])}` : first
  }
  const second = nounPhrase(spec.second, 1, spec, said.secondColour, said.size && random.chance(0.4), random)
  const [here, there] = spec.position === "left" ? (["left", "right"] as const) : (["right", "left"] as const)
  if (!said.position) return `${first} ${random.pick(["and", "and", "next to", "beside"])} ${second}`
  const form = random.weighted({ both: 40, turned: 30, relative: 30 })
  if (form === "both")
    return `${first} ${random.pick(SIDES[here])} and ${second} ${random.pick(SIDES[there])}`
  if (form === "turned")
    return `${second} ${random.pick(SIDES[there])} and ${first} ${random.pick(SIDES[here])}`
  return `${first} to the ${here} of ${second}`
}

function nounPhrase(
  thing: Thing,
  count: number,
  spec: SceneSpec,
  colour: boolean,
  size: boolean,
  random: Random,
): string {
  const text = described(thing, count, spec, colour, size, random)
  return count === 1 ? `${/^[aeiou]/.test(text) ? "an" : "a"} ${text}` : text
}

/** Number, size, colour and noun without an article. */
function described(
  thing: Thing,
  count: number,
  spec: SceneSpec,
  colour: boolean,
  size: boolean,
  random: Random,
): string {
  const { nouns } = ENGLISH_SUBJECTS[thing.kind]
  const noun = (random.chance(0.72) ? nouns[0]! : random.pick(nouns))[count === 1 ? 0 : 1]
  const number = count === 1 ? "" : random.pick(COUNTS[count as 2 | 3])
  const large = size && spec.size !== "medium" ? random.pick(ENGLISH_SIZES[spec.size]) : ""
  return [number, large, colour ? random.pick(ENGLISH_COLOURS[thing.colour]) : "", noun]
    .filter(Boolean)
    .join(" ")
}

function where(spec: SceneSpec, tags: boolean, random: Random): string {
  const { at, over, on, tag } = PLACES[spec.place]
  if (tags && random.chance(0.6)) return random.pick(tag)
  const stands = SUBJECT_TABLE[spec.subject.kind].stands
  if (spec.second) return random.pick(at)
  if (stands === "water") return random.pick(on)
  return random.pick(stands === "air" && random.chance(0.7) ? over : at)
}

/** Time and weather, said apart or in one ("on a foggy morning"). */
function moments(spec: SceneSpec, said: Said, random: Random): string[] {
  const { time, weather } = spec
  if (said.time && said.weather && weather !== "clear" && random.chance(0.3)) {
    const word = { cloudy: "cloudy", rain: "rainy", snowfall: "snowy", fog: "foggy" }[weather]
    return [`on a ${word} ${{ day: "day", dawn: "morning", sunset: "evening", night: "night" }[time]}`]
  }
  return [said.time ? random.pick(timeWords(spec)) : "", said.weather ? random.pick(weatherWords(spec)) : ""]
}

function timeWords({ time, weather, style }: SceneSpec): string[] {
  const clear = weather === "clear"
  const painted = style === "flat" || style === "outline"
  if (time === "day")
    return [
      "by day",
      "during the day",
      "in daylight",
      ...(clear ? ["on a sunny day"] : []),
      ...(clear && painted ? ["under a blue sky"] : []),
    ]
  if (time === "dawn") return ["at dawn", "at sunrise", "in the early morning", "in the morning light"]
  if (time === "sunset") return ["at sunset", "at dusk", "in the evening", "in the evening light"]
  return [
    "at night",
    "at night",
    "by night",
    ...(clear ? ["under the stars", "under a starry sky", "in the moonlight", "under the moon"] : []),
  ]
}

function weatherWords({ weather }: SceneSpec): string[] {
  if (weather === "cloudy") return ["under a cloudy sky", "under clouds", "in cloudy weather"]
  if (weather === "rain") return ["in the rain", "in rainy weather"]
  if (weather === "snowfall") return ["in falling snow", "with falling snow"]
  return weather === "fog" ? ["in the fog", "in the mist", "in thick fog"] : [""]
}

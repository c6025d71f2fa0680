import { sayEnglish } from "./english.ts"
import { sayGerman } from "./german.ts"
import type { Random } from "./random.ts"
import type { SceneSpec } from "./spec.ts"

export type Language = "en" | "de"

/** Which facts of a scene a caption states; what it leaves out it never contradicts. */
export interface Said {
  colour: boolean
  secondColour: boolean
  size: boolean
  position: boolean
  place: boolean
  time: boolean
  weather: boolean
  style: boolean
  /** Key words between commas instead of a sentence. */
  tags: boolean
}

const ALL: Said = {
  colour: true,
  secondColour: true,
  size: true,
  position: true,
  place: true,
  time: true,
  weather: true,
  style: true,
  tags: false,
}

/** 75 % English, 25 % German. */
export const randomLanguage = (random: Random): Language => (random.chance(0.25) ? "de" : "en")

/**
 * A caption of a scene with some of its facts left out; all that it states is true of the picture.
 * @param language drawn when absent: English three times in four
 * @example caption(spec, new Random(1), "de") // "ein roter Leuchtturm am Meer bei Nacht, flache Illustration"
 */
export function caption(
  spec: SceneSpec,
  random: Random,
  language: Language = randomLanguage(random),
): string {
  return say(spec, choose(spec, random), random, language)
}

/** A caption that states every fact, for evaluation. */
export const fullCaption = (spec: SceneSpec, random: Random, language: Language): string =>
  say(spec, ALL, random, language)

const say = (spec: SceneSpec, said: Said, random: Random, language: Language) =>
  language === "en" ? sayEnglish(spec, said, random) : sayGerman(spec, said, random)

function choose(spec: SceneSpec, random: Random): Said {
  return {
    colour: random.chance(0.88),
    secondColour: random.chance(0.86),
    size: random.chance(0.85),
    position: random.chance(spec.second ? 0.75 : 0.7),
    place: random.chance(0.92),
    time: random.chance(spec.style === "neon" ? 0.5 : 0.88),
    weather: random.chance(0.92),
    style: random.chance(spec.style === "flat" ? 0.6 : 0.85),
    tags: random.chance(0.12),
  }
}

import { expect, test } from "vitest"
import { caption, fullCaption, type Language } from "./caption.ts"
import { article, GERMAN_SUBJECTS, inflect } from "./german.ts"
import { Random } from "./random.ts"
import { randomSpec, type SceneSpec } from "./spec.ts"

/** What words say about a scene, written apart from the tables that made the captions. */
const SAYS: Record<Language, Record<string, Record<string, RegExp>>> = {
  en: {
    time: {
      day: /by day|during the day|daylight|(sunny|rainy|cloudy|foggy|snowy) day|blue sky/,
      dawn: /dawn|sunrise|morning/,
      sunset: /sunset|dusk|evening/,
      night: /night|stars|starry|moon/,
    },
    place: {
      hills: /hills/,
      mountains: /mountain/,
      sea: /\bsea\b|seaside|ocean|coast/,
      desert: /desert|sand dunes/,
      snow: /in the snow\b|snowy landscape|winter|over the snow\b|, snow\b|^snow,/,
      forest: /forest|woods/,
      city: /city|skyline/,
    },
    style: {
      flat: /\bflat\b/,
      pastel: /pastel/,
      outline: /outline|cartoon/,
      neon: /neon/,
      lino: /linocut|lino print/,
    },
    weather: {
      cloudy: /cloud/,
      rain: /rain/,
      snowfall: /falling snow|snowy (day|night|evening|morning)/,
      fog: /fog|mist/,
    },
    count: { "2": /\btwo\b|a pair of/, "3": /\bthree\b/ },
    size: { small: /\b(small|little|tiny)\b/, large: /\b(large|huge)\b|\bbig (?!city)/ },
  },
  de: {
    time: {
      day: /bei tag|am tag|(sonnigen|bewölkten|regnerischen|verschneiten|nebligen) tag|blauem himmel/,
      dawn: /morgen|sonnenaufgang/,
      sunset: /abend|sonnenuntergang/,
      night: /nacht|sternen|mondlicht/,
    },
    place: {
      hills: /hügel/,
      mountains: /berge/,
      sea: /meer|küste|auf see\b/,
      desert: /wüste|sanddünen/,
      snow: /schnee\b|schneelandschaft|winter/,
      forest: /wald/,
      city: /stadt|skyline/,
    },
    style: {
      flat: /flache/,
      pastel: /pastell/,
      outline: /comic|umriss/,
      neon: /neon/,
      lino: /lino/,
    },
    weather: {
      cloudy: /wolken|bewölkt/,
      rain: /regen|regnerisch/,
      snowfall: /schneefall|verschneit/,
      fog: /nebel|neblig/,
    },
    count: { "2": /\bzwei\b/, "3": /\bdrei\b/ },
    size: { small: /\bklein/, large: /\bgroß(?!en stadt)|\briesig/ },
  },
}

const COLOURS: Record<Language, Record<string, string>> = {
  en: {
    red: "red",
    orange: "orange",
    yellow: "yellow",
    green: "green",
    blue: "blue",
    purple: "purple|violet",
    pink: "pink",
    white: "white",
    black: "black",
  },
  de: {
    red: "rot",
    orange: "orange",
    yellow: "gelb",
    green: "grün",
    blue: "blau",
    purple: "lila",
    pink: "rosa",
    white: "weiß",
    black: "schwarz",
  },
}
const NOUNS: Record<Language, Record<string, string>> = {
  en: {
    house: "house|cottage",
    lighthouse: "lighthouse",
    tree: "tree",
    pine: "pine|fir",
    sailboat: "sailboat|sailing|boat",
    windmill: "windmill",
    castle: "castle",
    balloon: "hot air|balloon",
    cactus: "cact",
    tent: "tent",
    cat: "cats?\\b|kitten",
    mushroom: "mushroom",
    flower: "flower",
    car: "cars?\\b",
    rocket: "rocket",
    bird: "bird",
  },
  de: {
    house: "haus|häuser",
    lighthouse: "leucht",
    tree: "baum|bäume",
    pine: "tanne",
    sailboat: "segel|boot",
    windmill: "windm",
    castle: "schl|burg",
    balloon: "heiß|ballon",
    cactus: "kakt",
    tent: "zelt",
    cat: "katze",
    mushroom: "pilz",
    flower: "blume",
    car: "auto",
    rocket: "rakete",
    bird: "vogel|vögel",
  },
}
const keyOf = (table: Record<string, string>, text: string) =>
  Object.keys(table).find((key) => new RegExp(`^(${table[key]})`).test(text))

test.each(["en", "de"] as const)("captions in %s state only what is true", (language) => {
  const random = new Random(11)
  for (let i = 0; i < 2000; i++) {
    const spec = randomSpec(random, i % 2 ? "train" : "evaluation")
    const text = caption(spec, random, language).toLowerCase()
    for (const [fact, words] of Object.entries(SAYS[language]))
      for (const [value, pattern] of Object.entries(words))
        if (pattern.test(text))
          expect([text, fact, String(spec[fact as keyof SceneSpec])]).toEqual([text, fact, value])
    const ending = language === "de" ? "(?:e|er|es|en)?" : ""
    const colours = Object.values(COLOURS[language]).join("|")
    for (const [, colour, noun] of text.matchAll(
      new RegExp(`(?<![a-zß])(${colours})${ending} ([a-zäöüß]+(?: air)?)`, "g"),
    )) {
      if (noun === "himmel" || noun === "sky") continue
      const thing = { kind: keyOf(NOUNS[language], noun!), colour: keyOf(COLOURS[language], colour!) }
      expect([text, [spec.subject, spec.second]]).toEqual([text, expect.arrayContaining([thing])])
    }
  }
})

test.each(["en", "de"] as const)("full captions in %s state every fact", (language) => {
  const random = new Random(12)
  for (let i = 0; i < 600; i++) {
    const spec = randomSpec(random, "evaluation")
    const text = fullCaption(spec, random, language).toLowerCase()
    for (const fact of ["time", "place", "style"] as const)
      expect([text, SAYS[language][fact]![spec[fact]]!.test(text)]).toEqual([text, true])
    if (spec.weather !== "clear") expect(text).toMatch(SAYS[language].weather![spec.weather]!)
    if (spec.count > 1) expect(text).toMatch(SAYS[language].count![spec.count]!)
    if (spec.size !== "medium") expect(text).toMatch(SAYS[language].size![spec.size]!)
    if (spec.position === "left") expect(text).toMatch(/left|link/)
    for (const thing of [spec.subject, spec.second])
      if (thing) expect(text).toMatch(new RegExp(COLOURS[language][thing.colour]!))
  }
})

test("sides of a pair are told the right way round", () => {
  const random = new Random(13)
  for (let i = 0; i < 2000; i++) {
    const spec = randomSpec(random, "train")
    if (!spec.second) continue
    const text = caption(spec, random, "en")
    const relative = /^(.*) to the (left|right) of (.*)$/.exec(text)
    if (relative && !/on the|to the .* to the .* of/.test(relative[1]!))
      expect([text, relative[2]]).toEqual([text, spec.position])
  }
})

test("German adjectives and articles agree in gender, number and case", () => {
  const table = (["m", "f", "n"] as const).flatMap((g) =>
    (["nominative", "dative"] as const).map(
      (c) => `${article(g, c)} ${inflect("rot", g, 1, c)} ${inflect("rosa", g, 1, c)}`,
    ),
  )
  expect(table).toEqual([
    "ein roter rosa",
    "einem roten rosa",
    "eine rote rosa",
    "einer roten rosa",
    "ein rotes rosa",
    "einem roten rosa",
  ])
  expect(inflect("klein", "m", 2, "nominative")).toBe("kleine")
  expect(inflect("klein", "n", 3, "dative")).toBe("kleinen")
  const genders = Object.values(GERMAN_SUBJECTS).flatMap(({ nouns }) =>
    nouns.map((n) => `${n.gender} ${n.singular}, ${n.plural}, ${n.dative}`),
  )
  for (const line of [
    "m Leuchtturm, Leuchttürme, Leuchttürmen",
    "f Burg, Burgen, Burgen",
    "n Schloss, Schlösser, Schlössern",
    "m Vogel, Vögel, Vögeln",
    "n Auto, Autos, Autos",
  ])
    expect(genders).toContain(line)
})

test("German phrases in their cases", () => {
  const random = new Random(14)
  const seen = new Set<string>()
  for (let i = 0; i < 5000; i++)
    for (const text of caption(randomSpec(random, "train"), random, "de").split(/, | (?=bei|am|im|in|an) /))
      seen.add(text)
  const wrong = [...seen].filter((t) =>
    /\bvon (ein|eine|zwei (?!orange)\S+e) |\bneben (ein|eine) |\bein \S+e (Katze|Rakete|Blume|Tanne)|\beine \S+(er|es) /.test(
      t,
    ),
  )
  expect(wrong).toEqual([])
})

import { readFileSync } from "node:fs"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  type Infotext,
  parseInfotext,
  quoteValue,
  splitInfotext,
  unquoteValue,
  writeInfotext,
} from "./infotext.ts"

const golden: { text: string; prompt: string; negativePrompt: string; fields: [string, string][] }[] =
  JSON.parse(readFileSync(new URL("../../test/golden/image/infotext.json", import.meta.url), "utf8")).data

test("splits as A1111's parser", () => {
  for (const { text, prompt, negativePrompt, fields } of golden) {
    const got = splitInfotext(text)
    expect([got.prompt, got.negativePrompt, [...got.fields]]).toEqual([prompt, negativePrompt, fields])
  }
})

test("writes A1111's lines", () => {
  const record: Infotext = {
    prompt: "a (cat:1.2)",
    negativePrompt: "dog",
    steps: 20,
    sampler: "Euler a",
    scheduleType: "Karras",
    cfgScale: 7.5,
    seed: 1,
    width: 512,
    height: 768,
    modelHash: "6ce0161689",
    model: "v1-5",
    denoisingStrength: 0.75,
    clipSkip: 2,
    rng: "NV",
    loraHashes: { style: "0123456789ab", pose: "c0ffee" },
    version: "aquatint 0.1.0",
    extra: [
      ["Hires prompt", "line\nbreak: 猫"],
      ["Tiling", "Tiling"],
    ],
  }
  const text = writeInfotext(record)
  expect(text).toBe(`a (cat:1.2)
Negative prompt: dog
Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.5, Seed: 1, Size: 512x768, Model hash: 6ce0161689, Model: v1-5, Denoising strength: 0.75, Clip skip: 2, RNG: NV, Lora hashes: "style: 0123456789ab, pose: c0ffee", Hires prompt: "line\\nbreak: 猫", Tiling, Version: aquatint 0.1.0`)
  // a key equal to its value is written alone, and so is lost to every reader, A1111's too
  expect(parseInfotext(text)).toEqual({ ...record, extra: [["Hires prompt", "line\nbreak: 猫"]] })
})

test("no negative prompt, no line; no prompt, no empty first line", () => {
  const bare: Infotext = { prompt: "", negativePrompt: "", steps: 4, sampler: "LCM", seed: 3, extra: [] }
  expect(writeInfotext(bare)).toBe("Steps: 4, Sampler: LCM, Seed: 3")
  expect(parseInfotext("Steps: 4, Sampler: LCM, Seed: 3")).toEqual(bare)
})

test("values of the wrong form stay in extra, in order", () => {
  const got = parseInfotext(
    "x\nSteps: many, Zed: 1, Size: big, Seed: 7, Lora hashes: none, CFG scale: 7.000000",
  )
  expect(got).toEqual({
    prompt: "x",
    negativePrompt: "",
    seed: 7,
    cfgScale: 7,
    extra: [
      ["Steps", "many"],
      ["Zed", "1"],
      ["Size", "big"],
      ["Lora hashes", "none"],
    ],
  })
})

describe("properties", () => {
  const point = fc.oneof(
    fc.integer({ min: 0, max: 0xd7ff }),
    fc.integer({ min: 0xe000, max: 0x10ffff }),
    fc.integer({ min: 0, max: 127 }),
  )
  const letter = point.map((code) => String.fromCodePoint(code))
  const line = fc
    .string({ unit: letter, maxLength: 30 })
    .map((s) => splitInfotext(s.replace(/\n/g, " ")).prompt)
  const prompt = line.filter((s) => s !== "" && !s.startsWith("Negative prompt:"))
  const value = fc.string({ unit: letter, minLength: 1, maxLength: 30 })

  test("records come back", () => {
    const key = fc
      .stringMatching(/^[A-Za-z][A-Za-z0-9 /-]{0,12}[a-z]$/)
      .filter((k) => !/^(steps|sampler|seed|size|model|version)/i.test(k))
    const shape = fc.record({
      prompt,
      negativePrompt: prompt,
      seed: fc.nat(),
      cfgScale: fc.double({ min: 0, max: 30, noNaN: true, noDefaultInfinity: true }),
    })
    fc.assert(
      fc.property(
        shape,
        fc.uniqueArray(fc.tuple(key, value), { selector: ([k]) => k, maxLength: 4 }),
        (given, extra) => {
          const kept = extra.filter(
            ([k, v]) =>
              k !== v && !v.startsWith('"') && (quoteValue(v) !== v || splitInfotext(v).prompt === v),
          )
          const record: Infotext = {
            ...given,
            steps: 3,
            sampler: "Euler",
            width: 8,
            height: 8,
            version: "v",
            extra: kept,
          }
          expect(parseInfotext(writeInfotext(record))).toEqual(record)
        },
      ),
      { numRuns: 300 },
    )
  })

  test("quoting is undone", () => {
    fc.assert(
      fc.property(
        value.filter((v) => !v.startsWith('"')),
        (v) => unquoteValue(quoteValue(v)) === v,
      ),
    )
  })

  test("the scan agrees with A1111's expression", () => {
    // \s of Python's re, for the characters that occur below
    const expression = /\s*([\p{L}\p{N}_][\p{L}\p{N}_ \-/]+):\s*("(?:\\[^\n]|[^\\"])+"|[^,]*)(?:,|$)/gu
    const text = fc.string({
      unit: fc.constantFrom("a", "b", ":", ",", '"', "\\", " ", "-", "/", "é", "😀", "\t", "x: 1", "ab: "),
      maxLength: 40,
    })
    fc.assert(
      fc.property(text, (middle) => {
        const whole = `A0: 1, B0: 2, C0: 3,${middle}.`
        const want = new Map<string, string>()
        for (const [, key, v] of whole.matchAll(expression)) if (v !== "") want.set(key!, unquoteValue(v!))
        expect([...splitInfotext(whole).fields]).toEqual([...want])
      }),
      { numRuns: 2000 },
    )
  })

  test("long text of any kind is read at once", () => {
    for (const piece of [
      "a",
      "a ",
      "a:",
      'ab:"',
      "ab:\\",
      "\t",
      "😀",
      ",",
      '"',
      'ab: "\\',
      "Negative prompt:\n",
    ]) {
      const text = `x\nab: 1, cd: 2, ef: 3, ${piece.repeat(300_000 / piece.length)}`
      const start = performance.now()
      parseInfotext(text)
      expect(performance.now() - start, JSON.stringify(piece)).toBeLessThan(3000)
    }
  })
})

import fc from "fast-check"
import { expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { ClipTokenizer, type TokenizerFiles } from "./bpe.ts"
import { bundledVocabulary } from "./bundled.ts"
import { byteAlphabet, MergeTable } from "./merges.ts"
import { clean, pieces } from "./unicode.ts"

const [begin, end] = ["<|startoftext|>", "<|endoftext|>"]

function tiny(files: Partial<TokenizerFiles> = {}, merges = ["c a", "ca t</w>"]): ClipTokenizer {
  const symbols = [
    "a",
    "c",
    "t",
    "a</w>",
    "c</w>",
    "t</w>",
    ...merges.map((m) => m.replace(" ", "")),
    begin,
    end,
  ]
  const vocab = Object.fromEntries(symbols.map((symbol, id) => [symbol, id]))
  return ClipTokenizer.fromFiles({ vocab: JSON.stringify(vocab), merges: merges.join("\n"), ...files })
}

test("the bundled vocabulary is CLIP's", async () => {
  const tokenizer = await bundledVocabulary()
  expect(tokenizer).toMatchObject({ bos: 49406, eos: 49407, pad: 49407, maxLength: 77, size: 49408 })
  expect(tokenizer.encode("a photo of a cat")).toEqual([320, 1125, 539, 320, 2368])
  expect([tokenizer.id(",</w>"), tokenizer.id("photo</w>"), tokenizer.id("jekyll</w>")]).toEqual([
    267, 1125, 49405,
  ])
  expect((await bundledVocabulary("!")).pad).toBe(0)
})

test("cleaning keeps sigma, folds exotic spaces, leaves the byte order mark", () => {
  expect(clean("ΟΔΟΣ\u3000\x85 A\ufeffB")).toBe("οδοσ a\ufeffb")
  expect(clean("İ Cafe\u0301")).toBe("i\u0307 café")
  expect(pieces("it's 12 a\u0301!?")).toEqual(["it", "'s", "1", "2", "a", "\u0301!?"])
})

test("ASCII takes the same way as all of Unicode", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary-ascii" }), (text) => {
      // a last word in another script makes the whole text take the long way
      const long = pieces(clean(`${text} é`))
      expect([...pieces(clean(text)), "é"]).toEqual([...long])
    }),
  )
})

test("long words merge like short ones", () => {
  const table = new MergeTable(
    Int32Array.of(0, 2, 0, 1),
    Int32Array.of(1, 2, 0, 1),
    Int32Array.of(2, 3, 4, 5),
  )
  const naive = (ids: number[]): number[] => {
    const pairs = [
      [0, 1],
      [2, 2],
      [0, 0],
      [1, 1],
    ] // prettier-ignore
    for (const [rank, [a, b]] of pairs.entries()) {
      const at = ids.findIndex((id, i) => id === a && ids[i + 1] === b)
      if (at >= 0) return naive([...ids.slice(0, at), rank + 2, ...ids.slice(at + 2)])
    }
    return ids
  }
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 1 }), { maxLength: 120 }), (ids) => {
      expect(table.merge(ids)).toEqual(naive(ids))
    }),
  )
})

test("very long words are no trouble", async () => {
  const tokenizer = await bundledVocabulary()
  expect(tokenizer.encode("a".repeat(50_000)).length).toBeGreaterThan(1000)
  expect(tokenizer.encode("👩‍👩‍👧".repeat(500)).length).toBeGreaterThan(1000)
})

test("lone surrogates are the replacement character", async () => {
  const tokenizer = await bundledVocabulary()
  expect(tokenizer.encode("a \ud800 b")).toEqual(tokenizer.encode("a \ufffd b"))
})

test("tokenizer.json serves alone", () => {
  const model = {
    vocab: { a: 0, b: 1, "b</w>": 2, "ab</w>": 3, [begin]: 4, [end]: 5 },
    merges: [["a", "b</w>"]],
  }
  const tokenizer = { model, added_tokens: [{ id: 6, content: "<new>", special: true }] }
  const read = ClipTokenizer.fromFiles({
    tokenizer: JSON.stringify(tokenizer),
    config: { model_max_length: 40 },
  })
  expect(read.encode(`AB b<new>${end}`)).toEqual([3, 2, 6, 5])
  expect([read.maxLength, read.size]).toEqual([40, 7])
})

test("unknown symbols are the unknown token, one each", () => {
  expect(tiny().encode("cat xyz")).toEqual([7, 9, 9, 9])
})

test("textual-inversion words get ids past the vocabulary", async () => {
  const tokenizer = (await bundledVocabulary()).withWords(
    new Map([
      ["<toy>", 2],
      ["My Style", 1],
    ]),
  ) // prettier-ignore
  expect(tokenizer.encodeGroups("a <TOY>, my  style")).toEqual([[320], [49408, 49409], [267], [49410]])
  const ids = tokenizer.encode("my style")
  expect(tokenizer.wordAt(ids, 0)).toEqual({ word: { word: "My Style", first: 49410, count: 1 }, length: 2 })
})

test("damaged files are named", () => {
  const code = (make: () => unknown) => {
    try {
      make()
    } catch (error) {
      return error instanceof AquatintError ? [error.code, error.exitCode] : error
    }
    return "no error"
  }
  expect(code(() => tiny({ vocab: "{" }))).toEqual(["TOKENIZER-CONFIG", 2])
  expect(code(() => tiny({ vocab: "{}" }))).toEqual(["TOKENIZER-VOCAB", 2])
  expect(code(() => tiny({ vocab: '{"a": "x"}' }))).toEqual(["TOKENIZER-VOCAB", 2])
  expect(code(() => tiny({ merges: "c a t" }))).toEqual(["TOKENIZER-MERGES", 2])
  expect(code(() => tiny({ merges: "c z" }))).toEqual(["TOKENIZER-MERGES", 2])
  expect(code(() => tiny({ config: { model_max_length: 2 } }))).toEqual(["TOKENIZER-CONFIG", 2])
  expect(code(() => tiny({ config: [] }))).toEqual(["TOKENIZER-CONFIG", 2])
  expect(code(() => ClipTokenizer.fromFiles({}))).toEqual(["TOKENIZER-VOCAB", 2])
})

test("256 bytes have 256 characters", () => {
  expect(new Set(byteAlphabet).size).toBe(256)
})

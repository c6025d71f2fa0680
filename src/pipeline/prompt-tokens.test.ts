import { expect, test } from "vitest"
import { bundledVocabulary } from "../text/bundled.ts"
import { promptReader } from "./card.ts"
import { promptTokens } from "./prompt-tokens.ts"

const models = "test/golden/models"

test("a prompt's tokens with their letters, weights and word ends", async () => {
  const { pieces } = (await promptReader())("a (lighthousekeeper:1.2), café")
  expect(pieces.map((t) => t.text)).toEqual(["a", "ligh", "thouse", "keeper", ",", "café"])
  expect(pieces.map((t) => t.end)).toEqual([true, false, false, true, true, true])
  expect(pieces.map((t) => t.weight)).toEqual([1, 1.2, 1.2, 1.2, 1, 1])
  expect(pieces[0]).toEqual({ id: 320, text: "a", end: true, weight: 1, chunk: 0 })
})

test("words past the first chunk are counted in the next", async () => {
  const { pieces, ...counted } = (await promptReader())("fox ".repeat(80))
  expect(pieces.at(-1)!.chunk).toBe(1)
  expect(pieces).toHaveLength(80)
  expect(counted).toEqual({ tokens: 80, room: 150, chunks: 2, perChunk: 75 })
})

test("a model with a vocabulary of its own: its ids, its letters, its room", async () => {
  const read = await promptReader(`${models}/sd1-odd`)
  const { pieces, ...counted } = read("a (red:1.2) fox")
  expect(counted).toEqual({ tokens: 5, room: 38, chunks: 1, perChunk: 38 })
  expect(pieces.map(({ text, id, end }) => [text, id, end])).toEqual([
    ["a", 160, true],
    ["re", 199, false],
    ["d", 163, true],
    ["fo", 238, false],
    ["x", 183, true],
  ])
  expect(read("fox ".repeat(20))).toMatchObject({ tokens: 40, room: 76, chunks: 2, perChunk: 38 })
  // what the vocabulary cannot spell is its unknown token
  expect(read("é").pieces.map(({ text }) => text)).toEqual(["<|endoftext|>", "<|endoftext|>"])
  expect(read("")).toMatchObject({ tokens: 0, room: 38, pieces: [] })
})

test("a word cut within a character is spelled by its tokens all the same", async () => {
  const { pieces } = (await promptReader(`${models}/sd1-tiny`))("café 日本")
  expect(pieces.map(({ text }) => text)).toEqual(["c", "a", "f", "", "é", "", "", "日", "", "", "本"])
})

test("the first of a textual inversion's vectors has its name", async () => {
  const tokenizer = (await bundledVocabulary()).withWords(new Map([["my-style", 3]]))
  const { pieces } = promptTokens(tokenizer)("a my-style fox")
  expect(pieces.map(({ text, end }) => [text, end])).toEqual([
    ["a", true],
    ["my-style", false],
    ["", false],
    ["", true],
    ["fox", true],
  ])
})

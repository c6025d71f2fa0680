import { expect, test } from "vitest"
import { promptTokens } from "./prompt-tokens.ts"

test("a prompt's tokens with their letters, weights and word ends", async () => {
  const tokens = await promptTokens("a (lighthousekeeper:1.2), café")
  expect(tokens.map((t) => t.text)).toEqual(["a", "ligh", "thouse", "keeper", ",", "café"])
  expect(tokens.map((t) => t.end)).toEqual([true, false, false, true, true, true])
  expect(tokens.map((t) => t.weight)).toEqual([1, 1.2, 1.2, 1.2, 1, 1])
  expect(tokens[0]).toEqual({ id: 320, text: "a", end: true, weight: 1, chunk: 0 })
})

test("words past the first chunk are counted in the next", async () => {
  const tokens = await promptTokens("fox ".repeat(80))
  expect(tokens.at(-1)!.chunk).toBe(1)
  expect(tokens).toHaveLength(80)
})

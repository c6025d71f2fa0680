import { expect, test } from "vitest"
import { gridAxis, promptMatrix, readPrompts, withAxis } from "./many.ts"

test("a prompt matrix holds every choice of its optional parts, in A1111's order", () => {
  expect(promptMatrix("a fox|oil painting,| at night")).toEqual([
    "a fox",
    "a fox, oil painting",
    "a fox, at night",
    "a fox, oil painting, at night",
  ])
  expect(() => promptMatrix("|".repeat(12))).toThrow(/optional parts/)
})

test("axes: lists, ranges with steps and counts, words, quoted text, exchanged words", () => {
  expect(gridAxis("cfg=3, 7,11").values).toEqual(["3", "7", "11"])
  expect(gridAxis("seed=1-4").values).toEqual(["1", "2", "3", "4"])
  expect(gridAxis("steps=10-1 (-3)").values).toEqual(["10", "7", "4", "1"])
  expect(gridAxis("strength=0.2-0.8 [4]").values).toEqual(["0.2", "0.4", "0.6", "0.8"])
  expect(gridAxis("clip-skip=1,2").field).toBe("clipSkip")
  expect(gridAxis('negative="a, b",c,').values).toEqual(["a, b", "c"])
  const swap = gridAxis("prompt=fox,owl")
  expect(withAxis({ prompt: "a fox" }, swap, 1).prompt).toBe("a owl")
  expect(withAxis({ prompt: "x" }, gridAxis("cfg=3"), 0)).toEqual({ prompt: "x", cfg: 3 })
  for (const bad of ["cfg=a", "model=x", "cfg", "=3"]) expect(() => gridAxis(bad)).toThrow()
  expect(() => withAxis({ prompt: "a cat" }, swap, 1)).toThrow(/does not hold/)
})

test("prompts of a file and of a CSV", () => {
  expect(readPrompts("# note\na fox\n\n an owl \r\n", false)).toEqual([
    { prompt: "a fox" },
    { prompt: "an owl" },
  ])
  const csv = 'prompt,negative,seed,clip_skip\n"a ""red"" fox, running",blurry,7,\nan owl,,8,2\n'
  expect(readPrompts(csv, true)).toEqual([
    { prompt: 'a "red" fox, running', negative: "blurry", seed: 7 },
    { prompt: "an owl", seed: 8, clipSkip: 2 },
  ])
  for (const bad of ["", "seed\n1\n", "prompt,model\na,b\n", "prompt,seed\na,x\n", "prompt,seed\n,1\n"])
    expect(() => readPrompts(bad, true)).toThrow()
})

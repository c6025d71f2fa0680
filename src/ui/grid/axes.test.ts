import { expect, test } from "vitest"
import { readStops } from "./axes.ts"

const known = {
  samplers: [
    { id: "euler-a", name: "Euler a" },
    { id: "ddim", name: "DDIM" },
  ],
  schedules: [],
  models: [],
}
const applied = (axis: Parameters<typeof readStops>[0], text: string) => {
  const read = readStops(axis, text, known)
  return "bad" in read ? read.bad : read.stops.map((s) => s.apply({ prompt: "a red fox" }))
}

test("numbers, and ranges that count", () => {
  expect(applied("steps", "4, 8")).toEqual([
    { prompt: "a red fox", steps: 4 },
    { prompt: "a red fox", steps: 8 },
  ])
  expect(applied("seed", "3-5")).toMatchObject([{ seed: 3 }, { seed: 4 }, { seed: 5 }])
  expect(applied("cfg", "7.5")).toMatchObject([{ cfg: 7.5 }])
  expect(applied("steps", "4, x")).toBe("x")
  expect(applied("steps", "2.5")).toBe("2.5")
})

test("names by id or label, and words that stand for the first", () => {
  expect(applied("sampler", "euler a, ddim")).toMatchObject([{ sampler: "euler-a" }, { sampler: "ddim" }])
  expect(applied("sampler", "nope")).toBe("nope")
  expect(applied("words", "red, blue")).toMatchObject([{ prompt: "a red fox" }, { prompt: "a blue fox" }])
})

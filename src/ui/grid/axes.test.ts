import { expect, test } from "vitest"
import { readStops, startValues } from "./axes.ts"

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

test("an axis starts with values around the model's own", () => {
  const start = (axis: Parameters<typeof startValues>[0], width: number, steps: number, cfg: number) =>
    startValues(axis, { width, steps, cfg }, known)
  expect(start("steps", 128, 12, 4)).toBe("6, 12, 18")
  expect(start("cfg", 128, 12, 4)).toBe("2, 4, 6")
  expect(start("size", 128, 12, 4)).toBe("128x128, 112x160, 160x112")
  expect(start("steps", 512, 20, 7.5)).toBe("10, 20, 30")
  expect(start("cfg", 512, 20, 7.5)).toBe("4, 7.5, 11.5")
  // a distilled one
  expect(start("steps", 512, 1, 1)).toBe("1, 2, 4")
  expect(start("cfg", 512, 1, 1)).toBe("1, 1.5, 2")
  expect(start("sampler", 512, 1, 1)).toBe("Euler a, DDIM")
  for (const axis of ["steps", "cfg", "size", "seed", "sampler"] as const)
    expect("stops" in readStops(axis, start(axis, 512, 4, 1.5), known), axis).toBe(true)
})

test("sizes are multiples of 8, and what is written twice is drawn once", () => {
  expect(applied("size", "64x72, 512 × 640")).toMatchObject([
    { width: 64, height: 72 },
    { width: 512, height: 640 },
  ])
  expect(applied("size", "100x100")).toBe("100x100")
  expect(applied("steps", "4, 4, 3-5")).toMatchObject([{ steps: 4 }, { steps: 3 }, { steps: 5 }])
})

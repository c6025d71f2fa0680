import { expect, test } from "vitest"
import { blank, type Picture } from "./pixels.ts"
import { canny, depth, lines, preprocess } from "./preprocess.ts"

/** A bright square on a dark ground. */
function square(side = 24, from = 8, to = 16): Picture {
  const picture = blank(side, side, 3)
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      if (x >= from && x < to && y >= from && y < to)
        picture.data.fill(220, 3 * (y * side + x), 3 * (y * side + x) + 3)
  return picture
}

const at = ({ data, width }: Picture, x: number, y: number) => data[3 * (y * width + x)]!

test("Canny's edges are thin, closed and nowhere else", () => {
  const edges = canny(square())
  const rows = Array.from({ length: 24 }, (_, y) =>
    Array.from({ length: 24 }, (_, x) => (at(edges, x, y) > 0 ? "#" : ".")).join(""),
  )
  expect(rows[12]!.match(/#/g)).toHaveLength(2)
  expect(rows[2]).toBe(".".repeat(24))
  expect([...rows.join("")].filter((c) => c === "#").length).toBeGreaterThan(24)
  expect(canny(square(), 3000, 4000).data.every((v) => v === 0)).toBe(true)
})

test("weak edges are kept only where they touch strong ones", () => {
  const ramp = blank(32, 8, 3)
  // a step that fades along its length
  for (let y = 0; y < 8; y++)
    for (let x = 0; x < 32; x++) ramp.data.fill(y < 4 ? 0 : 8 * x, 3 * (y * 32 + x), 3 * (y * 32 + x) + 3)
  const count = (p: Picture) => p.data.reduce((n, v) => n + (v > 0 ? 1 : 0), 0) / 3
  expect(count(canny(ramp, 200, 600))).toBeGreaterThan(count(canny(ramp, 600, 600)))
  expect(count(canny(ramp, 200, 5000))).toBe(0)
})

test("lines are white where a picture is darker than its surroundings", () => {
  const paper = blank(40, 40, 3)
  paper.data.fill(240)
  for (let y = 0; y < 40; y++) paper.data.fill(10, 3 * (y * 40 + 20), 3 * (y * 40 + 20) + 3)
  const drawn = lines(paper)
  expect(at(drawn, 20, 20)).toBeGreaterThan(100)
  expect(at(drawn, 5, 20)).toBe(0)
})

test("depth is stretched to the whole range", () => {
  const map = blank(2, 1, 3)
  map.data.set([100, 100, 100, 150, 150, 150])
  expect([...depth(map).data]).toEqual([0, 0, 0, 255, 255, 255])
  expect(preprocess(map, "none")).toBe(map)
})

import { expect, test } from "vitest"
import { cosine, ellipse, line, polygon, rectangle, sine, stroke, union } from "./geometry.ts"
import { Canvas } from "./raster.ts"

const white = { colour: [255, 255, 255] as const }
/** Red channel of one pixel after a fill with white on black. */
const filled = (size: number, paint: (canvas: Canvas) => void) => {
  const canvas = new Canvas(size)
  paint(canvas)
  const bytes = canvas.bytes()
  return (x: number, y: number) => bytes[(y * size + x) * 3]!
}
const total = (size: number, at: (x: number, y: number) => number) => {
  let sum = 0
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) sum += at(x, y) / 255
  return sum
}

test("coverage is the exact area of a pixel", () => {
  const at = filled(256, (c) => c.fill(rectangle(10.25, 20.5, 2, 1), white))
  expect(at(10, 20)).toBe(Math.round(255 * 0.75 * 0.5))
  expect(at(11, 20)).toBe(128)
  expect(at(12, 20)).toBe(Math.round(255 * 0.25 * 0.5))
  expect(at(13, 20)).toBe(0)
  const triangle = filled(256, (c) => c.fill(polygon([0, 0], [2, 0], [0, 2]), white))
  expect([triangle(0, 0), triangle(1, 0), triangle(0, 1), triangle(1, 1)]).toEqual([255, 128, 128, 0])
})

test("areas add up whatever the shape, also across the edges of the picture", () => {
  expect(
    total(
      256,
      filled(256, (c) => c.fill(ellipse(128, 128, 50), white)),
    ),
  ).toBeCloseTo(0.9972 * Math.PI * 2500, -1)
  expect(
    total(
      256,
      filled(256, (c) => c.fill(ellipse(0, 0, 50), white)),
    ),
  ).toBeCloseTo((0.9972 * Math.PI * 2500) / 4, -1)
  expect(
    total(
      256,
      filled(256, (c) => c.fill(ellipse(256, 100, 50, 30), white)),
    ),
  ).toBeCloseTo(0.9972 * Math.PI * 750, -1)
  expect(
    total(
      128,
      filled(128, (c) => c.fill(rectangle(-50, -50, 400, 400), white)),
    ),
  ).toBe(128 * 128)
})

test("what lies outside leaves no trace for the next fill", () => {
  const at = filled(64, (c) => {
    for (const x of [-90, 300]) c.fill(ellipse(x, 100, 20), white)
    for (const y of [-90, 300]) c.fill(ellipse(100, y, 20), white)
    c.fill(rectangle(100, 100, 4, 4), white)
  })
  expect(total(64, at)).toBe(1)
})

test("overlapping contours are a union, and thick lines have no seams", () => {
  const two = union(rectangle(10, 10, 20, 20), polygon([15, 15], [15, 35], [35, 35], [35, 15]))
  expect(
    total(
      256,
      filled(256, (c) => c.fill(two, white)),
    ),
  ).toBe(575)
  const bar = filled(256, (c) => c.fill(line(8, [40, 100], [100, 100], [160, 100]), white))
  for (let x = 42; x < 158; x++) expect(bar(x, 100)).toBe(255)
  const ring = filled(256, (c) => c.fill(stroke(ellipse(128, 128, 60), 10), white))
  expect(total(256, ring)).toBeCloseTo(Math.PI * (65 ** 2 - 55 ** 2), -2)
})

test("masks cut, alpha blends, gradients run from top to bottom", () => {
  const cut = filled(256, (c) =>
    c.fill(rectangle(0, 0, 100, 100), white, c.mask(rectangle(50, 50, 100, 100))),
  )
  expect(total(256, cut)).toBe(2500)
  expect(filled(256, (c) => c.fill(rectangle(0, 0, 9, 9), { ...white, alpha: 0.5 }))(4, 4)).toBe(128)
  const fade = filled(256, (c) =>
    c.fill(rectangle(0, 0, 256, 256), { colour: [0, 0, 0], to: [255, 255, 255] }),
  )
  expect([fade(3, 0), fade(3, 128), fade(3, 255)]).toEqual([0, 128, 255])
})

test("own sine and cosine agree with the engine's", () => {
  for (let t = -2; t < 2; t += 0.0137) {
    expect(Math.abs(sine(t) - Math.sin(2 * Math.PI * t))).toBeLessThan(1e-7)
    expect(Math.abs(cosine(t) - Math.cos(2 * Math.PI * t))).toBeLessThan(1e-7)
  }
})

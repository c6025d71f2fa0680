import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, test } from "vitest"
import { decodeImage } from "./codec.ts"
import { fillHole, layOver } from "./overlay.ts"
import { blank, type Picture, toGrey, toRgb } from "./pixels.ts"
import { extendCanvas, maskRegion, shapeRegion, softenMask } from "./region.ts"

const folder = join(import.meta.dirname, "..", "..", "test", "golden", "modes")
const picture = (name: string) => decodeImage(readFileSync(join(folder, `picture.${name}.png`)))
const grey = async (name: string) => toGrey(await picture(name))
const worst = (a: Picture, b: Picture) => a.data.reduce((m, v, i) => Math.max(m, Math.abs(v - b.data[i]!)), 0)

test("an overlay and the fill of a hole are Pillow's, to the bit", async () => {
  const [original, drawn, soft] = [await picture("picture"), await picture("drawn"), await grey("soft")]
  expect(layOver(original, drawn, soft).data).toEqual(toRgb(await picture("over")).data)
  expect(fillHole(original, soft).data).toEqual(toRgb(await picture("filled")).data)
})

test("a softened mask is the Gaussian's", async () => {
  expect(worst(softenMask(await grey("mask"), 2.5), await grey("soft"))).toBeLessThanOrEqual(1)
  expect(() => softenMask(blank(2, 2, 1), -1)).toThrow(/mask blur/)
})

test("regions around masks, grown to the shape of the drawing, are diffusers'", () => {
  const { boxes } = JSON.parse(readFileSync(join(folder, "regions.json"), "utf8")) as {
    boxes: { size: number[]; spot: number[]; pad: number; drawn: number[]; region: number[] }[]
  }
  for (const { size, spot, pad, drawn, region } of boxes) {
    const [width, height] = size as [number, number]
    const mask = blank(width, height, 1)
    for (let y = spot[1]!; y < spot[3]!; y++) mask.data.fill(1, y * width + spot[0]!, y * width + spot[2]!)
    const found = maskRegion(mask, pad)!
    expect(shapeRegion(found, { width: drawn[0]!, height: drawn[1]! }, mask)).toEqual(region)
  }
  expect(maskRegion(blank(4, 4, 1), 3)).toBeNull()
})

test("an extended canvas repeats the edge and masks what is new", () => {
  const small: Picture = { width: 2, height: 1, channels: 1, data: Uint8ClampedArray.of(10, 20) }
  const { picture: made, mask } = extendCanvas(small, { left: 1, right: 2, bottom: 1 }, 0)
  expect([made.width, made.height]).toEqual([5, 2])
  expect([...made.data]).toEqual([10, 10, 20, 20, 20, 10, 10, 20, 20, 20])
  expect([...mask.data]).toEqual([255, 0, 0, 255, 255, 255, 255, 255, 255, 255])
  expect([...extendCanvas(small, { left: 1 }, 1).mask.data]).toEqual([255, 255, 0])
})

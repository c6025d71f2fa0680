import { readFileSync } from "node:fs"
import { describe, expect, test } from "vitest"
import * as mask from "./mask.ts"
import { binaryMask, softMask } from "./mask.ts"
import * as pixels from "./pixels.ts"
import { type Picture, pictureFromPlanes, planesFromPicture, unitPlanesFromPicture } from "./pixels.ts"
import * as resizing from "./resize.ts"
import { resize, resizePlanes } from "./resize.ts"

/** Made by tools/reference/image_golden.py with Pillow 13.0.0, diffusers 0.42.1, torch 2.13.0. */
const golden = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../test/golden/image/${name}.json`, import.meta.url), "utf8")).data

interface Packed {
  width: number
  height: number
  channels: Picture["channels"]
  data: string
}

const unpack = ({ data, ...rest }: Packed): Picture => ({
  ...rest,
  data: new Uint8ClampedArray(Buffer.from(data, "base64")),
})
const floats = (text: string) => new Float32Array(new Uint8Array(Buffer.from(text, "base64")).buffer)

type Operation = (...args: unknown[]) => Picture
const operations = { ...mask, ...pixels, ...resizing } as unknown as Record<string, Operation>
const cases: { op: string; args: unknown[]; source: Packed; more?: Packed[]; result: Packed }[] =
  golden("operations")

describe("bit for bit as Pillow", () => {
  for (const op of new Set(cases.map((c) => c.op))) {
    test(op, () => {
      for (const c of cases.filter((c) => c.op === op)) {
        const got = operations[op]!(unpack(c.source), ...(c.more ?? []).map(unpack), ...c.args)
        const want = unpack(c.result)
        expect([got.width, got.height, got.channels]).toEqual([want.width, want.height, want.channels])
        expect(Buffer.compare(Buffer.from(got.data), Buffer.from(want.data)), JSON.stringify(c.args)).toBe(0)
      }
    })
  }
})

describe("as VaeImageProcessor and torch", () => {
  const data = golden("planes")

  test("VAE output to 8 bits, halves to even", () => {
    const { width, height } = data.picture
    expect(pictureFromPlanes(floats(data.decoded), width, height).data).toEqual(unpack(data.picture).data)
    expect(pictureFromPlanes(Float32Array.of(Number.NaN, 2, -2), 1, 1).data).toEqual(
      Uint8ClampedArray.of(0, 255, 0),
    )
  })

  test("8 bits to VAE input", () => {
    expect(planesFromPicture(unpack(data.source))).toEqual(floats(data.encoded))
  })

  test("every 8-bit value survives the way there and back", () => {
    const all: Picture = {
      width: 256,
      height: 1,
      channels: 1,
      data: Uint8ClampedArray.from({ length: 256 }, (_, i) => i),
    }
    const rgb = pixels.toRgb(all)
    expect(pictureFromPlanes(planesFromPicture(rgb), 256, 1).data).toEqual(rgb.data)
    expect(unitPlanesFromPicture(all)[255]).toBe(1)
  })

  test("masks are 1 from one half on", () => {
    expect(binaryMask(unpack(data.source))).toEqual(floats(data.mask))
    const steps: Picture = { width: 4, height: 1, channels: 1, data: Uint8ClampedArray.of(0, 127, 128, 255) }
    expect([...binaryMask(steps)]).toEqual([0, 0, 1, 1])
    expect(softMask(steps)[1]).toBe(Math.fround(127 / 255))
    expect(mask.pictureFromMask(softMask(steps), 4, 1)).toEqual(steps)
    expect([...mask.invert(steps).data]).toEqual([255, 128, 127, 0])
  })

  test("nearest on planes", () => {
    for (const { from, to, x, y } of data.nearest as {
      from: number[]
      to: number[]
      x: string
      y: string
    }[]) {
      const size = ([height, width]: number[]) => ({ width: width!, height: height! })
      expect(resizePlanes(floats(x), size(from), size(to))).toEqual(floats(y))
    }
  })
})

test("wrong shapes are refused by code", () => {
  const picture = pixels.blank(4, 4, 3)
  const refused: [string, () => unknown][] = [
    ["IMAGE_SHAPE", () => resize(picture, 0, 4)],
    ["IMAGE_SHAPE", () => resize(picture, 1.5, 4)],
    ["IMAGE_SHAPE", () => pictureFromPlanes(new Float32Array(5), 1, 1)],
    [
      "IMAGE_SHAPE",
      () => resizePlanes(new Float32Array(5), { width: 2, height: 2 }, { width: 1, height: 1 }),
    ],
    ["IMAGE_SHAPE", () => mask.pictureFromMask(new Float32Array(3), 2, 2)],
    ["IMAGE_SHAPE", () => mask.composite(picture, pixels.blank(4, 5, 3), picture)],
    ["IMAGE_SHAPE", () => pixels.checkPicture({ ...picture, width: 5 })],
    ["IMAGE_BLUR", () => mask.gaussianBlur(picture, -1)],
    ["IMAGE_BLUR", () => mask.boxBlur(picture, Number.NaN)],
    ["IMAGE_BLUR", () => mask.dilate(picture, 0.5)],
  ]
  for (const [code, run] of refused) expect(run).toThrow(expect.objectContaining({ code }))
})

test("upright turns every orientation back", () => {
  const source: Picture = { width: 2, height: 1, channels: 1, data: Uint8ClampedArray.of(1, 2) }
  const turned = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((o) => {
    const { width, height, data } = pixels.upright(source, o)
    return `${width}x${height} ${data}`
  })
  expect(turned).toEqual([
    "2x1 1,2",
    "2x1 1,2",
    "2x1 2,1",
    "2x1 2,1",
    "2x1 1,2",
    "1x2 1,2",
    "1x2 1,2",
    "1x2 2,1",
    "1x2 2,1",
    "2x1 1,2",
  ])
})

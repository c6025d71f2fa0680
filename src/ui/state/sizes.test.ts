import { expect, test } from "vitest"
import { chosenSize, formats, grain, nativeSize, ownSize } from "./sizes.ts"

const size = (width: number, height: number) => ({ width, height })

test("small models are offered fine sizes, others the usual ones", () => {
  expect([64, 128, 256, 512, 768, 1024].map(grain)).toEqual([8, 16, 32, 64, 64, 64])
  expect(formats(512)).toEqual({
    square: size(512, 512),
    portrait: size(448, 640),
    landscape: size(640, 448),
  })
})

test("a large picture is brought to its model's area in multiples of 8; one that fits stays", () => {
  expect(nativeSize(size(4000, 3000), size(512, 512))).toEqual(size(592, 440))
  expect(nativeSize(size(3000, 4000), size(1024, 1024))).toEqual(size(888, 1184))
  expect(nativeSize(size(4032, 3024), size(128, 128))).toEqual(size(144, 112))
  expect(nativeSize(size(640, 448), size(512, 512))).toEqual(size(640, 448))
  expect(nativeSize(size(300, 203), size(512, 512))).toEqual(size(304, 200))
  for (let side = 100; side < 9000; side += 371) {
    const { width, height } = nativeSize(size(side, 700), size(512, 512))
    expect([width % 8, height % 8]).toEqual([0, 0])
    expect(width * height).toBeLessThan(1.3 * 512 ** 2)
  }
})

test("its own size goes as far as the studio does", () => {
  const most = { side: 4096, pixels: 2048 ** 2 }
  expect(ownSize(size(1001, 750), most)).toEqual(size(1000, 752))
  expect(ownSize(size(4000, 3000), most)).toEqual(size(2360, 1768))
  const { width, height } = ownSize(size(9000, 500), most)
  expect(width).toBeLessThanOrEqual(4096)
  expect(width * height).toBeLessThanOrEqual(most.pixels)
})

test("a side that is left open follows the picture's shape", () => {
  expect(chosenSize(size(600, 400), {})).toEqual(size(600, 400))
  expect(chosenSize(size(600, 400), { width: 300 })).toEqual(size(300, 200))
  expect(chosenSize(size(600, 400), { height: 800 })).toEqual(size(1200, 800))
  expect(chosenSize(size(600, 400), { width: 64, height: 72 })).toEqual(size(64, 72))
})

import { expect, test } from "vitest"
import { grain, mostFrom } from "./sizes.ts"

test("small models are offered fine sizes, others the usual ones", () => {
  expect([64, 128, 256, 512, 768, 1024].map(grain)).toEqual([8, 16, 32, 64, 64, 64])
  expect([128, 512, 1024].map(mostFrom)).toEqual([256, 1024, 1024])
})

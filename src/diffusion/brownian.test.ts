import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { brownianTree } from "./brownian.ts"
import { seedSequence } from "./seed-sequence.ts"

interface Tree {
  seed: string | string[]
  size: number
  sigmaMin: number
  sigmaMax: number
  steps: { sigma: number; next: number; noise: number[] }[]
}
interface Sequence {
  entropy: string
  key: number[]
  pool: number
  words: number[]
}
const golden = JSON.parse(readFileSync("test/golden/diffusion/brownian.json", "utf8")) as {
  cases: { trees: Tree[]; sequences: Sequence[] }
}

test.each(golden.cases.trees)(
  "torchsde's tree of seed $seed",
  ({ seed, size, sigmaMin, sigmaMax, steps }) => {
    const tree = brownianTree(size, sigmaMin, sigmaMax, Array.isArray(seed) ? seed.map(BigInt) : BigInt(seed))
    for (const { sigma, next, noise } of steps) {
      const mine = tree(sigma, next)
      expect(mine.length).toBe(noise.length)
      for (const [i, want] of noise.entries()) expect(Math.abs(mine[i]! - want)).toBeLessThan(3e-6)
    }
  },
)

test.each(golden.cases.sequences)("numpy's SeedSequence($entropy, $key)", ({ entropy, key, pool, words }) => {
  expect([...seedSequence(BigInt(entropy), key, pool, words.length)]).toEqual(words)
})

test("noise depends on the interval alone, not on what was asked before", () => {
  const fresh = brownianTree(16, 0.1, 10, 3)(2, 1)
  const used = brownianTree(16, 0.1, 10, 3)
  for (let sigma = 9; sigma > 1; sigma -= 0.21) used(sigma, sigma - 0.2)
  expect(used(2, 1)).toEqual(fresh)
})

test("increments add up and have unit variance per step", () => {
  const tree = brownianTree(4096, 0, 4, 8)
  const whole = tree(4, 1)
  const [upper, lower] = [tree(4, 2), tree(2, 1)]
  let squares = 0
  for (const [i, v] of whole.entries()) {
    expect(Math.abs(v * Math.sqrt(3) - upper[i]! * Math.sqrt(2) - lower[i]!)).toBeLessThan(1e-5)
    squares += v * v
  }
  expect(squares / 4096).toBeCloseTo(1, 1)
})

test("the Philox tree draws other noise from the same seed", () => {
  expect(brownianTree(16, 0.1, 10, 3, "cuda")(2, 1)).not.toEqual(brownianTree(16, 0.1, 10, 3)(2, 1))
})

test.each([
  [1, 1, 0],
  [Number.NaN, 1, 0],
  [-1, 1, 0],
  [0, 1, -5],
])("an impossible range or seed is refused: %s %s %s", (low, high, seed) => {
  expect(() => brownianTree(4, low, high, seed)).toThrow(/Brownian noise needs/)
})

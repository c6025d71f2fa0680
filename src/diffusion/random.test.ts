import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { philox4x32 } from "./philox.ts"
import { cudaGenerator, philoxWords, pictureNoise, torchGenerator } from "./random.ts"

interface Draw {
  kind: "normal" | "uniform" | "integers"
  n: number
  values: number[]
}
const golden = JSON.parse(readFileSync("test/golden/diffusion/random.json", "utf8")) as {
  cases: { seed: string; draws: Draw[] }[]
}

test.each(golden.cases)("torch's CPU stream of seed $seed", ({ seed, draws }) => {
  const torch = torchGenerator(BigInt(seed))
  for (const { kind, n, values } of draws) {
    const mine = kind === "integers" ? torch.integers(n, 3, 1000) : torch[kind](n)
    expect(mine.length).toBe(n)
    const tail = [...mine.slice(-values.length)]
    const worst = Math.max(...tail.map((v, i) => Math.abs(v - Math.fround(values[i]!))))
    expect(worst).toBeLessThanOrEqual(kind === "normal" ? 1e-6 : 0)
  }
})

test("mt19937's published first words of seed 5489", () => {
  expect([...torchGenerator(5489).words(3)]).toEqual([3499211612, 581869302, 3890346734])
})

test("only the low 32 bits of a torch seed count", () => {
  expect(torchGenerator(2n ** 40n + 7n).normal(20)).toEqual(torchGenerator(7).normal(20))
  expect(torchGenerator(-1).words(2)).toEqual(torchGenerator(2 ** 32 - 1).words(2))
})

test("Philox4x32-10 gives Random123's known answers", () => {
  const zero = new Uint32Array(4)
  philox4x32(zero, 0, 0)
  expect([...zero]).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8])
  const ones = new Uint32Array(4).fill(0xffffffff)
  philox4x32(ones, 0xffffffff, 0xffffffff)
  expect([...ones]).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd])
})

test("CUDA's normals of seed 0, as torch and A1111's NV source print them", () => {
  const printed = [
    -0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709,
    -1.07454231, -0.36314407, -1.67105067, 2.26550497,
  ]
  const mine = cudaGenerator(0).normal(12)
  for (const [i, want] of printed.entries()) expect(mine[i]).toBeCloseTo(want, 6)
})

test("every CUDA draw raises the offset by one and starts at element 0", () => {
  const noise = pictureNoise(2n ** 33n + 1n, "cuda", 8)
  noise()
  const second = noise()
  const [a, b] = philoxWords(2n ** 33n + 1n, 1, 3) as unknown as [number, number]
  const angle = ((b + 0.5) / 2 ** 32) * 2 * Math.PI
  expect(second[3]).toBeCloseTo(Math.sqrt(-2 * Math.log((a + 0.5) / 2 ** 32)) * Math.sin(angle), 5)
})

test("noise of one picture is one stream", () => {
  const noise = pictureNoise(9, "cpu", 16)
  const stream = torchGenerator(9)
  expect(noise()).toEqual(stream.normal(16))
  expect(noise()).toEqual(stream.normal(16))
})

import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, test } from "vitest"
import { type Interpolation, interpolate } from "./interpolate.ts"
import { pictureNoise } from "./random.ts"
import { slerp, type Variation, varied } from "./variation.ts"

interface Entry {
  dtype: string
  shape: number[]
  data_offsets: [number, number]
}

/** A golden file of tools/reference/modes_golden.py; this room reads no weights, so it reads the few bytes itself. */
function golden(name: string) {
  const bytes = readFileSync(
    join(import.meta.dirname, "..", "..", "test", "golden", "modes", `${name}.safetensors`),
  )
  const length = Number(bytes.readBigUInt64LE(0))
  const { __metadata__: notes, ...entries } = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<
    string,
    Entry
  > & { __metadata__: { about: string } }
  const tensor = (key: string) => {
    const { data_offsets: at, shape } = entries[key]!
    const part = new Uint8Array(bytes.subarray(8 + length + at[0], 8 + length + at[1]))
    return { shape, data: new Float32Array(part.buffer) }
  }
  return { keys: Object.keys(entries), about: JSON.parse(notes.about), tensor }
}

const worst = (a: Float32Array, b: Float32Array) => a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0)

test("latents are enlarged and reduced as torch does it, in all six ways", () => {
  const { keys, tensor } = golden("interpolations")
  const x = tensor("x").data
  for (const key of keys.filter((k) => k !== "x")) {
    const [mode, size] = key.split(" ") as [Interpolation, string]
    const to = size.split("x").map(Number) as [number, number]
    const got = interpolate(x, [7, 5], to, mode)
    expect(got.length).toBe(3 * to[0] * to[1])
    expect(worst(got, tensor(key).data), key).toBeLessThan(2e-6)
  }
})

test("variations and noise of another size are A1111's", () => {
  const { about, tensor } = golden("variations")
  const asks = about.asks as { seed: number; shape: [number, number, number]; variation: Variation }[]
  for (const [i, { seed, shape, variation }] of asks.entries()) {
    const drawn = pictureNoise(seed, "cpu", shape[0] * shape[1] * shape[2])()
    const got = varied(drawn, shape, { seed, rng: "cpu", variation })
    expect(worst(got, tensor(String(i)).data), `case ${i}`).toBeLessThan(5e-6)
  }
  const same = pictureNoise(7, "cpu", 256)()
  const near = slerp(
    0.25,
    same,
    same.map((v) => v * 1.5),
    [4, 8, 8],
  )
  expect(worst(near, tensor("near").data)).toBeLessThan(5e-6)
})

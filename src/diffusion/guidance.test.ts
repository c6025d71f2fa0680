import { expect, test } from "vitest"
import { denoiser, inpainting, noiseLevels } from "./denoiser.ts"
import { composed, deviation, guided, instructed, rescaled } from "./guidance.ts"
import { torchGenerator } from "./random.ts"

const [a, b, c] = [1, 2, 3].map((seed) => torchGenerator(seed).normal(32)) as [
  Float32Array,
  Float32Array,
  Float32Array,
]
const close = (mine: Float32Array, want: (i: number) => number) => {
  for (const [i, v] of mine.entries()) expect(v).toBeCloseTo(want(i), 5)
}

test("classifier-free guidance, AND, and two scales are their formulas", () => {
  close(guided(a, b, 7.5), (i) => b[i]! + 7.5 * (a[i]! - b[i]!))
  expect(guided(a, b, 1)).toEqual(a)
  const parts = [
    { cond: a, weight: 1 },
    { cond: c, weight: -0.4 },
  ]
  close(composed(parts, b, 5), (i) => b[i]! + 5 * (a[i]! - b[i]!) - 0.4 * 5 * (c[i]! - b[i]!))
  close(composed(parts.slice(0, 1), b, 5), (i) => guided(a, b, 5)[i]!)
  close(instructed(a, b, c, 7, 1.5), (i) => c[i]! + 7 * (a[i]! - b[i]!) + 1.5 * (b[i]! - c[i]!))
})

test("guidance rescale brings the deviation back by its share", () => {
  const wide = guided(a, b, 9)
  expect(deviation(Float32Array.of(1, 2, 3, 4))).toBeCloseTo(1.2909944, 6) // torch.std
  expect(deviation(rescaled(wide, a, 1))).toBeCloseTo(deviation(a), 5)
  close(rescaled(wide, a, 0.7), (i) => 0.7 * wide[i]! * (deviation(a) / deviation(wide)) + 0.3 * wide[i]!)
  expect(rescaled(wide, a, 0)).toBe(wide)
})

test.each(["epsilon", "v_prediction", "sample", "flow_prediction"])(
  "an ideal %s network gives the clean picture",
  async (kind) => {
    const levels = noiseLevels({ prediction_type: kind })
    for (const sigma of [0.1, 1, 12]) {
      const alpha = 1 / Math.sqrt(1 + sigma ** 2)
      const ideal: Record<string, (i: number) => number> = {
        epsilon: (i) => b[i]!,
        v_prediction: (i) => alpha * b[i]! - sigma * alpha * a[i]!,
        sample: (i) => a[i]!,
        flow_prediction: (i) => b[i]! - a[i]!,
      }
      const denoise = denoiser(async (x) => x.map((_, i) => ideal[kind]!(i)), levels)
      const x0 = await denoise(
        a.map((v, i) => v + sigma * b[i]!),
        sigma,
      )
      close(x0, (i) => a[i]!)
    }
  },
)

test("outside of the mask the clean estimate is the original", async () => {
  const mask = a.map((_, i) => (i < 8 ? 1 : i < 16 ? 0.5 : 0))
  const blended = await inpainting(async () => b, c, mask)(a, 1)
  close(blended, (i) => mask[i]! * b[i]! + (1 - mask[i]!) * c[i]!)
})

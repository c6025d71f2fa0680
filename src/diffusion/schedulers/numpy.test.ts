import { expect, test } from "vitest"
import { betaQuantile } from "./beta-quantile.ts"
import { countDown, interpolate, linspace, log32, roundEven } from "./numpy.ts"

test("halves are rounded to the even neighbour", () => {
  expect([0.5, 1.5, 2.5, -1.5, 2.4, 2.6].map(roundEven)).toEqual([0, 2, 2, -2, 2, 3])
})

test("linspace ends exactly and a single point is the start", () => {
  expect(linspace(0, 999, 1)).toEqual([0])
  expect(linspace(0, 1, 4).at(-1)).toBe(1)
})

test("counting down may gain an entry next to 0, as np.arange does", () => {
  expect(countDown(1000, 1000 / 50)).toHaveLength(50)
  expect(countDown(1000, 1000 / 61)).toHaveLength(62) // len(np.arange(1000, 0, -1000 / 61))
})

test("interpolation is constant beyond the ends", () => {
  expect([-1, 0.25, 5].map((x) => interpolate(x, [1, 3]))).toEqual([1, 1.5, 3])
})

test("logarithm of a float32 as numpy rounds it", () => {
  // np.log(np.array([...], dtype=np.float32)), numpy 2.4
  const numbers = [1, 0.029167519882321358, 14.614643096923828, 157.4073028564453, 0.7071067690849304]
  const logs = [0, -3.5346994400024414, 2.6820240020751953, 5.058836936950684, -0.3465735912322998]
  expect(numbers.map((x) => log32(Math.fround(x)))).toEqual(logs)
})

test("quantiles of the symmetric beta distribution", () => {
  // scipy.stats.beta.ppf(p, 0.6, 0.6), scipy 1.17
  const known = [
    [0.001, 1.855873851745199e-5],
    [0.1, 0.03958440558878085],
    [0.3, 0.23401700387523572],
    [0.5, 0.5],
    [0.9, 0.9604155944112192],
  ] as const
  for (const [p, x] of known) expect(betaQuantile(p, 0.6)).toBeCloseTo(x, 13)
  expect([betaQuantile(0, 0.6), betaQuantile(1, 0.6)]).toEqual([0, 1])
})

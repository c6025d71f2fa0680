/** One term of a linear mix: a plain weight and a picture's latents. */
export type Weighted = readonly [weight: number, latents: Float32Array]

/**
 * Weighted sum of latents of equal length, added in double and rounded to float32 once.
 * Every sampler update is such a mix, its weights being the numbers of the paper.
 */
export function mix(...terms: readonly Weighted[]): Float32Array {
  const sum = new Float64Array(terms[0]![1].length)
  for (const [weight, latents] of terms) {
    for (let i = 0; i < sum.length; i++) sum[i]! += weight * latents[i]!
  }
  return new Float32Array(sum)
}

/** Consecutive pairs: each noise level and the one after it. */
export function* pairs(sigmas: readonly number[]): Generator<[sigma: number, next: number, index: number]> {
  for (let i = 0; i + 1 < sigmas.length; i++) yield [sigmas[i]!, sigmas[i + 1]!, i]
}

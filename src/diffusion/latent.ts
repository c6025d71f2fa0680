/** One term of a linear mix: a plain weight and a picture's latents. */
export type Weighted = readonly [weight: number, latents: Float32Array]

/**
 * Weighted sum of latents of equal length, added in double and rounded to float32 once.
 * Every sampler update is such a mix, its weights being the numbers of the paper.
 */
export function mix(...terms: readonly Weighted[]): Float32Array {
  const out = new Float32Array(terms[0]![1].length)
  for (let i = 0; i < out.length; i++) {
    let sum = 0
    for (const [weight, latents] of terms) sum += weight * latents[i]!
    out[i] = sum
  }
  return out
}

/** Consecutive pairs: each noise level and the one after it. */
export function* pairs(sigmas: readonly number[]): Generator<[sigma: number, next: number, index: number]> {
  for (let i = 0; i + 1 < sigmas.length; i++) yield [sigmas[i]!, sigmas[i + 1]!, i]
}

/** Whether every number is finite. */
export const allFinite = (latents: Float32Array): boolean => latents.every(Number.isFinite)

/** Integral of (x (1 - x))^(a - 1) from 0 to x <= 1/2 over x^a: the hypergeometric series. */
function series(x: number, a: number): number {
  let term = 1
  let sum = 1 / a
  for (let n = 1; n < 80 && Math.abs(term) > 1e-18; n++) {
    term *= ((n - a) / n) * x
    sum += term / (a + n)
  }
  return sum
}

/**
 * Quantile of the symmetric beta distribution, `scipy.stats.beta.ppf(p, a, a)`: Newton's rule on the lower half,
 * the upper half by symmetry.
 */
export function betaQuantile(p: number, a: number): number {
  if (p <= 0) return 0
  if (p > 0.5) return 1 - betaQuantile(1 - p, a)
  const whole = 2 * 0.5 ** a * series(0.5, a)
  let x = Math.min((p * whole * a) ** (1 / a), 0.5)
  for (let i = 0; i < 30; i++) {
    const miss = x ** a * series(x, a) - p * whole
    const next = Math.min(Math.max(x - miss / (x * (1 - x)) ** (a - 1), x / 2), 0.5)
    if (Math.abs(next - x) <= 1e-16 * x) break
    x = next
  }
  return x
}

const f32 = Math.fround

// The variance-preserving process of DEIS' code: sigma 0.002 at time 0.001 and 80 at time 1, float32 like the original
const lowLog = f32(Math.log(f32(f32(f32(0.002) ** 2) + 1)))
const highLog = f32(Math.log(f32(f32(80 ** 2) + 1)))
const betaSlope = f32(f32(f32(2 * f32(f32(lowLog / f32(1e-3)) - highLog))) / f32(1e-3 - 1))
const betaStart = f32(highLog - f32(0.5 * betaSlope))

/** Time at which the process has a noise level. */
const timeOf = (sigma: number): number =>
  (Math.sqrt(betaStart ** 2 + 2 * betaSlope * Math.log(sigma ** 2 + 1)) - betaStart) / betaSlope

/** d sigma / d time, by way of log alpha = -(slope / 2) t^2 - start t, alpha the signal's variance. */
function sigmaRate(time: number): number {
  const logAlpha = -0.5 * betaSlope * time ** 2 - betaStart * time
  const alpha = Math.exp(logAlpha)
  return (0.5 * (betaSlope * time + betaStart)) / Math.sqrt(alpha * -Math.expm1(logAlpha))
}

const points = 10_000

/**
 * Weights of the last `count` slopes for the step from sigmas[i]: integrals of Lagrange polynomials in the process'
 * time, as sums over 10,000 points, both ends included, as the published tables were made.
 */
export function deisWeights(sigmas: readonly number[], i: number, count: number): number[] {
  const start = timeOf(sigmas[i]!)
  const end = timeOf(sigmas[i + 1]!)
  const nodes = Array.from({ length: count }, (_, k) => timeOf(sigmas[i - k]!))
  const sums = nodes.map(() => 0)
  for (let p = 0; p < points; p++) {
    const tau = start + ((end - start) * p) / (points - 1)
    const rate = sigmaRate(tau)
    for (const [j, own] of nodes.entries()) {
      sums[j]! += nodes.reduce(
        (product, node, k) => (k === j ? product : (product * (tau - node)) / (own - node)),
        rate,
      )
    }
  }
  return sums.map((sum) => (sum * (end - start)) / points)
}

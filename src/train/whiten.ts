import { fail } from "../errors.ts"

/** Mean and covariance of latent channels, gathered picture by picture. */
export class Moments {
  private readonly sums: Float64Array
  private readonly products: Float64Array
  private count = 0
  readonly channels: number

  constructor(channels: number) {
    this.channels = channels
    this.sums = new Float64Array(channels)
    this.products = new Float64Array(channels * channels)
  }

  /** Adds b c (h w) numbers. */
  add(data: ArrayLike<number>, rows: number): void {
    const c = this.channels
    const places = data.length / rows / c
    for (let r = 0; r < rows; r++)
      for (let p = 0; p < places; p++) {
        const at = (k: number) => data[(r * c + k) * places + p]!
        for (let i = 0; i < c; i++) {
          this.sums[i]! += at(i)
          for (let j = 0; j <= i; j++) this.products[i * c + j]! += at(i) * at(j)
        }
        this.count++
      }
  }

  result(): { mean: number[]; covariance: number[][] } {
    const c = this.channels
    const mean = Array.from(this.sums, (s) => s / this.count)
    const covariance = mean.map((_, i) =>
      mean.map(
        (_, j) => this.products[Math.max(i, j) * c + Math.min(i, j)]! / this.count - mean[i]! * mean[j]!,
      ),
    )
    return { mean, covariance }
  }
}

/** Eigenvalues and unit eigenvectors (as rows) of a symmetric matrix: cyclic Jacobi (Golub & Van Loan, 8.5). */
export function eigen(symmetric: readonly (readonly number[])[]): { values: number[]; vectors: number[][] } {
  const n = symmetric.length
  const a = symmetric.map((row) => [...row])
  const v = a.map((_, i) => a.map((_, j) => Number(i === j)))
  for (let sweep = 0; sweep < 60; sweep++)
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (Math.abs(a[p]![q]!) < 1e-15) continue
        const theta = (a[q]![q]! - a[p]![p]!) / (2 * a[p]![q]!)
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1))
        const cos = 1 / Math.sqrt(t * t + 1)
        const rotate = (x: number[], y: number[], i: number) => {
          const [xi, yi] = [x[i]!, y[i]!]
          x[i] = cos * xi - t * cos * yi
          y[i] = t * cos * xi + cos * yi
        }
        for (let i = 0; i < n; i++) {
          const [x, y] = [a[i]![p]!, a[i]![q]!]
          a[i]![p] = cos * x - t * cos * y
          a[i]![q] = t * cos * x + cos * y
        }
        for (let i = 0; i < n; i++) rotate(a[p]!, a[q]!, i)
        for (let i = 0; i < n; i++) rotate(v[p]!, v[q]!, i)
      }
  return { values: a.map((row, i) => row[i]!), vectors: v }
}

/** z' = M z + b: decorrelated, of unit variance but never stretched by more than `most`. */
export function whitening(
  { mean, covariance }: { mean: readonly number[]; covariance: readonly (readonly number[])[] },
  most = 2.5,
): { matrix: number[][]; inverse: number[][]; shift: number[] } {
  const { values, vectors } = eigen(covariance)
  if (values.some((v) => !(v > 0)))
    fail("VAE_COLLAPSED", `a latent channel is constant (${values})`, { blame: "here" })
  const gains = values.map((v) => Math.min(most, 1 / Math.sqrt(v)))
  const matrix = vectors.map((row, i) => row.map((x) => x * gains[i]!))
  const inverse = mean.map((_, i) => vectors.map((row, j) => row[i]! / gains[j]!))
  const shift = matrix.map((row) => -row.reduce((s, m, j) => s + m * mean[j]!, 0))
  return { matrix, inverse, shift }
}

/**
 * Writes a whitening into the 1 x 1 convolutions at both ends of the latents: pictures stay the same, latents become
 * white, and the format stays that of AutoencoderKL with a scaling factor of one. The log variances, which meant the
 * old channels, become a small constant.
 */
export function foldWhitening(
  weights: ReadonlyMap<string, Float32Array>,
  { matrix, inverse, shift }: ReturnType<typeof whitening>,
): Map<string, Float32Array> {
  const out = new Map([...weights].map(([name, data]) => [name, data.slice()]))
  const part = (name: string) => out.get(name) ?? fail("WEIGHT_MISSING", `the autoencoder has no ${name}`)
  const c = shift.length
  const [qw, qb] = [part("quant_conv.weight"), part("quant_conv.bias")]
  const [pw, pb] = [part("post_quant_conv.weight"), part("post_quant_conv.bias")]
  const oldWeight = qw.slice(0, c * 2 * c)
  const oldBias = qb.slice(0, c)
  for (let i = 0; i < c; i++) {
    for (let j = 0; j < 2 * c; j++)
      qw[i * 2 * c + j] = matrix[i]!.reduce((s, m, k) => s + m * oldWeight[k * 2 * c + j]!, 0)
    qb[i] = matrix[i]!.reduce((s, m, k) => s + m * oldBias[k]!, shift[i]!)
  }
  qw.fill(0, c * 2 * c)
  qb.fill(-9, c)
  const back = pw.slice()
  for (let i = 0; i < c; i++)
    for (let j = 0; j < c; j++)
      pw[i * c + j] = inverse.reduce((s, row, k) => s + back[i * c + k]! * row[j]!, 0)
  for (let i = 0; i < c; i++) pb[i]! -= shift.reduce((s, b, j) => s + pw[i * c + j]! * b, 0)
  return out
}

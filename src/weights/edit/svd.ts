/** The largest singular values of a matrix with their vectors. */
export interface Svd {
  readonly rank: number
  /** Largest first. */
  readonly values: Float64Array
  /** rows x rank, by columns: column r is left.subarray(r * rows, (r + 1) * rows). */
  readonly left: Float64Array
  /** columns x rank, by columns. */
  readonly right: Float64Array
}

/** Columns that are kept beside the wanted ones: they make the iteration converge. */
const more = 10
const most = 60
/** The iteration ends when what it captures grows by less than this share. */
const settled = 1e-12

/**
 * Truncated singular value decomposition by block power iteration: Halko, Martinsson & Tropp 2011, alg. 4.4, then a
 * Rayleigh-Ritz step. Double precision; the start is fixed, so that equal matrices give equal results.
 * @param a rows x columns, row by row
 */
export function truncatedSvd(a: Float32Array, rows: number, columns: number, wanted: number): Svd {
  const rank = Math.min(wanted, rows, columns)
  const k = Math.min(2 * rank + more, rows, columns)
  let q = orthonormal(start(columns * k), columns, k)
  let captured = 0
  let y = product(a, rows, columns, q, k)
  for (let i = 0; i < most; i++) {
    q = orthonormal(turnedProduct(a, rows, columns, y, k), columns, k)
    y = product(a, rows, columns, q, k)
    const now = y.reduce((sum, v) => sum + v * v, 0)
    if (now - captured <= settled * now) break
    captured = now
  }
  const { values, vectors } = eigen(gram(y, rows, k), k)
  const out = {
    rank,
    values: new Float64Array(rank),
    left: new Float64Array(rows * rank),
    right: new Float64Array(columns * rank),
  }
  for (let r = 0; r < rank; r++) {
    const s = Math.sqrt(Math.max(0, values[r]!))
    out.values[r] = s
    for (let j = 0; j < k; j++) {
      const w = vectors[r * k + j]!
      for (let i = 0; i < columns; i++) out.right[r * columns + i]! += w * q[j * columns + i]!
      if (s > 0) for (let i = 0; i < rows; i++) out.left[r * rows + i]! += (w / s) * y[j * rows + i]!
    }
  }
  return out
}

/** Normal numbers enough for a start; any will do. */
function start(count: number): Float64Array {
  let state = 0x9e3779b9
  const uniform = () => {
    state = (Math.imul(state ^ (state >>> 16), 0x85ebca6b) + 0x6d2b79f5) | 0
    return ((state >>> 0) + 0.5) / 2 ** 32
  }
  return Float64Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  )
}

/** a q, by columns: rows x k. */
function product(a: Float32Array, rows: number, columns: number, q: Float64Array, k: number): Float64Array {
  const out = new Float64Array(rows * k)
  for (let i = 0; i < rows; i++) {
    const row = a.subarray(i * columns, (i + 1) * columns)
    for (let j = 0; j < k; j++) {
      const column = j * columns
      let sum = 0
      for (let c = 0; c < columns; c++) sum += row[c]! * q[column + c]!
      out[j * rows + i] = sum
    }
  }
  return out
}

/** The transpose of a times y, by columns: columns x k. */
function turnedProduct(
  a: Float32Array,
  rows: number,
  columns: number,
  y: Float64Array,
  k: number,
): Float64Array {
  const out = new Float64Array(columns * k)
  for (let i = 0; i < rows; i++) {
    const row = a.subarray(i * columns, (i + 1) * columns)
    for (let j = 0; j < k; j++) {
      const [column, by] = [j * columns, y[j * rows + i]!]
      for (let c = 0; c < columns; c++) out[column + c]! += by * row[c]!
    }
  }
  return out
}

/** Gram and Schmidt's modified way, twice over; columns that vanish stay zero. */
function orthonormal(q: Float64Array, rows: number, k: number): Float64Array {
  const column = (j: number) => q.subarray(j * rows, (j + 1) * rows)
  for (let j = 0; j < k; j++) {
    const mine = column(j)
    const before = Math.sqrt(dot(mine, mine))
    for (let pass = 0; pass < 2; pass++)
      for (let i = 0; i < j; i++) {
        const other = column(i)
        const share = dot(mine, other)
        for (let r = 0; r < rows; r++) mine[r]! -= share * other[r]!
      }
    const length = Math.sqrt(dot(mine, mine))
    const scale = length > 1e-13 * before ? 1 / length : 0
    for (let r = 0; r < rows; r++) mine[r]! *= scale
  }
  return q
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

function gram(y: Float64Array, rows: number, k: number): Float64Array {
  const out = new Float64Array(k * k)
  const column = (j: number) => y.subarray(j * rows, (j + 1) * rows)
  for (let i = 0; i < k; i++)
    for (let j = 0; j <= i; j++) out[i * k + j] = out[j * k + i] = dot(column(i), column(j))
  return out
}

/** Eigenvalues, largest first, and vectors (row r belongs to value r) of a symmetric matrix: Jacobi's rotations. */
function eigen(a: Float64Array, k: number): { values: Float64Array; vectors: Float64Array } {
  const v = new Float64Array(k * k)
  for (let i = 0; i < k; i++) v[i * k + i] = 1
  const whole = Math.sqrt(dot(a, a))
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0
    for (let p = 0; p < k; p++)
      for (let q = p + 1; q < k; q++) {
        off += a[p * k + q]! ** 2
        rotate(a, v, k, p, q)
      }
    if (Math.sqrt(off) <= 1e-15 * whole) break
  }
  const order = Array.from({ length: k }, (_, i) => i).sort((i, j) => a[j * k + j]! - a[i * k + i]!)
  const vectors = new Float64Array(k * k)
  order.forEach((from, to) => {
    vectors.set(v.subarray(from * k, (from + 1) * k), to * k)
  })
  return { values: Float64Array.from(order, (i) => a[i * k + i]!), vectors }
}

/** One rotation that makes a[p, q] zero; `v` gathers rotations by rows (Golub & Van Loan 2013, sec. 8.5). */
function rotate(a: Float64Array, v: Float64Array, k: number, p: number, q: number): void {
  const apq = a[p * k + q]!
  if (apq === 0) return
  const theta = (a[q * k + q]! - a[p * k + p]!) / (2 * apq)
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1))
  const c = 1 / Math.sqrt(t * t + 1)
  const s = t * c
  const turn = (m: Float64Array, i: number, j: number) => {
    const [x, y] = [m[i]!, m[j]!]
    m[i] = c * x - s * y
    m[j] = s * x + c * y
  }
  for (let i = 0; i < k; i++) turn(a, i * k + p, i * k + q)
  for (let i = 0; i < k; i++) turn(a, p * k + i, q * k + i)
  for (let i = 0; i < k; i++) turn(v, p * k + i, q * k + i)
}

/**
 * Paths of the corpus as plain numbers. A contour is a flat list x0, y0, x1, y1, ... and closes itself; a path is
 * the union of its contours. Only + - * / and sqrt are used, which every engine rounds alike, so that a scene has
 * the same bytes everywhere (Math.sin and its kin differ between engines).
 */
export type Contour = readonly number[]
export type Path = readonly Contour[]

export interface Box {
  x: number
  y: number
  width: number
  height: number
}

/** sin(2 pi turns) by its Taylor series on the first quarter, error under 1e-8. */
export function sine(turns: number): number {
  let t = turns - Math.floor(turns)
  const sign = t >= 0.5 ? -1 : 1
  if (t >= 0.5) t -= 0.5
  if (t > 0.25) t = 0.5 - t
  const x = 6.283185307179586 * t
  const q = x * x
  const series =
    1 - (q / 6) * (1 - (q / 20) * (1 - (q / 42) * (1 - (q / 72) * (1 - (q / 110) * (1 - q / 156)))))
  return sign * x * series
}

/** cos(2 pi turns). */
export const cosine = (turns: number) => sine(turns + 0.25)

/** x, y of 48 points on the unit circle. */
const CIRCLE: readonly number[] = Array.from({ length: 48 }, (_, i) => [cosine(i / 48), sine(i / 48)]).flat()

export const polygon = (...points: readonly (readonly [number, number])[]): Path => [points.flat()]

export const rectangle = (x: number, y: number, width: number, height: number): Path => [
  [x, y, x + width, y, x + width, y + height, x, y + height],
]

export const ellipse = (cx: number, cy: number, rx: number, ry: number = rx): Path => [
  round(cx, cy, rx, ry, 1),
]

/** Every `step`-th of the 48 points of an ellipse. */
function round(cx: number, cy: number, rx: number, ry: number, step: number): number[] {
  const out: number[] = []
  for (let i = 0; i < 96; i += 2 * step) out.push(cx + CIRCLE[i]! * rx, cy + CIRCLE[i + 1]! * ry)
  return out
}

/** Rectangle with quarter circles of radius `r` at its corners. */
export function roundRectangle(x: number, y: number, width: number, height: number, r: number): Path {
  r = Math.min(r, width / 2, height / 2)
  const out: number[] = []
  for (let i = 0; i < 48; i++) {
    const [cx, cy] = [i < 12 || i >= 36 ? x + width - r : x + r, i < 24 ? y + height - r : y + r]
    out.push(cx + CIRCLE[2 * i]! * r, cy + CIRCLE[2 * i + 1]! * r)
  }
  return [out]
}

/** Part of an ellipse between two angles in turns, closed by its chord. */
export function segment(cx: number, cy: number, rx: number, ry: number, from: number, to: number): Path {
  const n = 28
  const points: number[] = []
  for (let i = 0; i <= n; i++) {
    const t = from + ((to - from) * i) / n
    points.push(cx + cosine(t) * rx, cy + sine(t) * ry)
  }
  return [points]
}

/** Smooth closed curve through the points (uniform Catmull-Rom, eight pieces a span). */
export function smooth(...points: readonly (readonly [number, number])[]): Path {
  const n = points.length
  const out: number[] = []
  for (let i = 0; i < n; i++) {
    const [a, b, c, d] = [points[(i + n - 1) % n]!, points[i]!, points[(i + 1) % n]!, points[(i + 2) % n]!]
    for (let k = 0; k < 8; k++) {
      const t = k / 8
      for (const axis of [0, 1] as const) out.push(catmull(a[axis], b[axis], c[axis], d[axis], t))
    }
  }
  return [out]
}

const catmull = (a: number, b: number, c: number, d: number, t: number) =>
  0.5 * (2 * b + t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * b - a - 3 * c + d))))

/** A thick line through the points with round ends and joins, as a path. */
export const line = (width: number, ...points: readonly (readonly [number, number])[]): Path =>
  strokeContour(points.flat(), width, false)

/** The union of paths. Every contour is turned the same way round, as the rasteriser's union needs. */
export const union = (...paths: readonly Path[]): Path => paths.flat().map(positive)

function positive(contour: Contour): Contour {
  if (signedArea(contour) >= 0) return contour
  const out: number[] = []
  for (let i = contour.length - 2; i >= 0; i -= 2) out.push(contour[i]!, contour[i + 1]!)
  return out
}

function signedArea(c: Contour): number {
  let sum = 0
  for (let i = 0, j = c.length - 2; i < c.length; j = i, i += 2) sum += c[j]! * c[i + 1]! - c[i]! * c[j + 1]!
  return sum
}

/** x -> ax x + bx, y -> ay y + by. */
export const transform = (path: Path, ax: number, bx: number, ay: number, by: number): Path =>
  path.map((c) => c.map((v, i) => (i % 2 === 0 ? ax * v + bx : ay * v + by)))

/** The path turned about a point by an angle given in turns. */
export function rotate(path: Path, cx: number, cy: number, turns: number): Path {
  const [c, s] = [cosine(turns), sine(turns)]
  return path.map((contour) => {
    const out: number[] = []
    for (let i = 0; i < contour.length; i += 2) {
      const [x, y] = [contour[i]! - cx, contour[i + 1]! - cy]
      out.push(cx + c * x - s * y, cy + s * x + c * y)
    }
    return out
  })
}

/** The outline of a path as a path: every edge a bar of the given width, corners rounded. */
export const stroke = (path: Path, width: number): Path => path.flatMap((c) => strokeContour(c, width, true))

function strokeContour(c: Contour, width: number, closed: boolean): Contour[] {
  const out: Contour[] = []
  const n = c.length / 2
  const r = width / 2
  for (let i = 0; i < (closed ? n : n - 1); i++) {
    const j = (i + 1) % n
    const [x0, y0, x1, y1] = [c[2 * i]!, c[2 * i + 1]!, c[2 * j]!, c[2 * j + 1]!]
    const [dx, dy] = [x1 - x0, y1 - y0]
    const length = Math.sqrt(dx * dx + dy * dy)
    if (length < 1e-9) continue
    const [u, v] = [(dx / length) * r, (dy / length) * r]
    out.push([x0 + v, y0 - u, x1 + v, y1 - u, x1 - v, y1 + u, x0 - v, y0 + u])
    if (closed || i > 0) out.push(join(c, (i + n - 1) % n, i, u, v, r))
  }
  if (!closed) out.push(round(c[0]!, c[1]!, r, r, 4), round(c[2 * n - 2]!, c[2 * n - 1]!, r, r, 4))
  return out
}

/** What closes the gap between the bars that meet at vertex i: a wedge where they bend a little, else a disc. */
function join(c: Contour, before: number, i: number, u: number, v: number, r: number): Contour {
  const [x, y] = [c[2 * i]!, c[2 * i + 1]!]
  const [dx, dy] = [x - c[2 * before]!, y - c[2 * before + 1]!]
  const length = Math.sqrt(dx * dx + dy * dy)
  if (length < 1e-9) return []
  const [p, q] = [(dx / length) * r, (dy / length) * r]
  if (p * u + q * v < 0.9 * r * r) return round(x, y, r, r, 4)
  const wedge = p * v - q * u < 0 ? [x, y, x - q, y + p, x - v, y + u] : [x, y, x + q, y - p, x + v, y - u]
  return positive(wedge)
}

/** The smallest box around paths. */
export function bounds(paths: readonly Path[]): Box {
  let [x0, y0, x1, y1] = [
    Number.POSITIVE_INFINITY,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ]
  for (const contour of paths.flat())
    for (let i = 0; i < contour.length; i += 2) {
      x0 = Math.min(x0, contour[i]!)
      x1 = Math.max(x1, contour[i]!)
      y0 = Math.min(y0, contour[i + 1]!)
      y1 = Math.max(y1, contour[i + 1]!)
    }
  return { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }
}

/** torch.nn.functional.interpolate's modes for planes, `align_corners` false; `aa` are the antialiased ones. */
export type Interpolation =
  | "nearest"
  | "nearest-exact"
  | "bilinear"
  | "bicubic"
  | "bilinear-aa"
  | "bicubic-aa"

/** For each output place the input places that it is a mix of, with their weights. */
type Taps = readonly (readonly (readonly [place: number, weight: number])[])[]

const f = Math.fround

const triangle = (x: number): number => Math.max(0, 1 - Math.abs(x))

/** Keys 1981; torch takes a = -0.75, and -0.5 where it antialiases. */
function cubic(x: number, a: number): number {
  const d = Math.abs(x)
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1
  if (d < 2) return ((d - 5) * d + 8) * d * a - 4 * a
  return 0
}

function smooth(from: number, to: number, filter: (x: number) => number, support: number): Taps {
  const scale = from / to
  const stretch = Math.max(scale, 1)
  return Array.from({ length: to }, (_, i) => {
    const center = scale * (i + 0.5)
    const first = Math.max(Math.trunc(center - support * stretch + 0.5), 0)
    const end = Math.min(Math.trunc(center + support * stretch + 0.5), from)
    const weights = Array.from({ length: end - first }, (_, k) =>
      filter((k + first - center + 0.5) / stretch),
    )
    const sum = weights.reduce((a, b) => a + b, 0)
    return weights.map((w, k) => [first + k, w / sum] as const)
  })
}

function plain(from: number, to: number, cubicly: boolean): Taps {
  const scale = from / to
  return Array.from({ length: to }, (_, i) => {
    const place = scale * (i + 0.5) - 0.5
    const at = cubicly ? place : Math.max(0, place)
    const first = Math.floor(at)
    const t = at - first
    const inside = (k: number) => Math.min(from - 1, Math.max(0, first + k))
    if (!cubicly) return [[first, 1 - t] as const, [inside(1), t] as const]
    return [-1, 0, 1, 2].map((k) => [inside(k), cubic(t - k, -0.75)] as const)
  })
}

function taps(from: number, to: number, mode: Interpolation): Taps {
  const step = f(from / to)
  const single = (place: (i: number) => number): Taps =>
    Array.from({ length: to }, (_, i) => [[Math.min(from - 1, Math.floor(place(i))), 1]])
  if (mode === "nearest") return single((i) => f(i * step))
  if (mode === "nearest-exact") return single((i) => f(f(i + 0.5) * step))
  if (mode === "bilinear-aa") return smooth(from, to, triangle, 1)
  if (mode === "bicubic-aa") return smooth(from, to, (x) => cubic(x, -0.5), 2)
  return plain(from, to, mode === "bicubic")
}

/**
 * Planes brought to another size, as torch does it within float32 rounding.
 * @param planes c h w
 */
export function interpolate(
  planes: Float32Array,
  [height, width]: readonly [number, number],
  [h, w]: readonly [number, number],
  mode: Interpolation,
): Float32Array {
  const count = planes.length / (height * width)
  const [rows, columns] = [taps(height, h, mode), taps(width, w, mode)]
  const out = new Float32Array(count * h * w)
  const line = new Float64Array(width)
  for (let c = 0; c < count; c++) {
    for (const [y, row] of rows.entries()) {
      line.fill(0)
      for (const [place, weight] of row) {
        const from = (c * height + place) * width
        for (let x = 0; x < width; x++) line[x]! += weight * planes[from + x]!
      }
      for (const [x, column] of columns.entries()) {
        let sum = 0
        for (const [place, weight] of column) sum += weight * line[place]!
        out[(c * h + y) * w + x] = sum
      }
    }
  }
  return out
}

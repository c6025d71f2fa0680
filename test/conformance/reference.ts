/** Arrays in double precision with numpy's rules: what every op of the table is checked against. */
export interface Arr {
  readonly data: Float64Array
  readonly shape: readonly number[]
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

export const arr = (shape: readonly number[], fill: (i: number) => number): Arr => ({
  shape,
  data: Float64Array.from({ length: sizeOf(shape) }, (_, i) => fill(i)),
})

const stridesOf = (shape: readonly number[]): number[] => {
  const out = shape.map(() => 1)
  for (let i = shape.length - 2; i >= 0; i--) out[i] = out[i + 1]! * shape[i + 1]!
  return out
}

/** Coordinates of a flat position. */
export const at = (i: number, shape: readonly number[]): number[] => {
  const strides = stridesOf(shape)
  return shape.map((d, k) => Math.floor(i / strides[k]!) % d)
}

/** Flat position of coordinates. */
export const flat = (coord: readonly number[], shape: readonly number[]): number =>
  coord.reduce((sum, c, k) => sum * shape[k]! + c, 0)

/** Value of `x` at output coordinates under broadcasting. */
const seen = (x: Arr, coord: readonly number[]): number => {
  const lead = coord.length - x.shape.length
  return x.data[
    flat(
      x.shape.map((d, k) => (d === 1 ? 0 : coord[k + lead]!)),
      x.shape,
    )
  ]!
}

export const broadcastShape = (shapes: readonly (readonly number[])[]): number[] => {
  const rank = Math.max(...shapes.map((s) => s.length))
  return Array.from({ length: rank }, (_, k) => Math.max(...shapes.map((s) => s[k - rank + s.length] ?? 1)))
}

export const elementwise = (f: (...v: number[]) => number, ...xs: readonly Arr[]): Arr => {
  const shape = broadcastShape(xs.map((x) => x.shape))
  return arr(shape, (i) => {
    const coord = at(i, shape)
    return f(...xs.map((x) => seen(x, coord)))
  })
}

export const transposed = (x: Arr, perm: readonly number[]): Arr => {
  const shape = perm.map((p) => x.shape[p]!)
  return arr(shape, (i) => {
    const coord = at(i, shape)
    return x.data[
      flat(
        x.shape.map((_, k) => coord[perm.indexOf(k)]!),
        x.shape,
      )
    ]!
  })
}

export const reshaped = (x: Arr, shape: readonly number[]): Arr => ({ data: x.data, shape })

export const joined = (xs: readonly Arr[], axis: number): Arr => {
  const shape = xs[0]!.shape.map((d, k) => (k === axis ? xs.reduce((s, x) => s + x.shape[axis]!, 0) : d))
  return arr(shape, (i) => {
    const coord = at(i, shape)
    let part = 0
    while (coord[axis]! >= xs[part]!.shape[axis]!) coord[axis]! -= xs[part++]!.shape[axis]!
    return xs[part]!.data[flat(coord, xs[part]!.shape)]!
  })
}

/** `x` at the places that `from` names for each output coordinate; null is a zero. */
export const picked = (
  x: Arr,
  shape: readonly number[],
  from: (coord: number[]) => readonly number[] | null,
): Arr =>
  arr(shape, (i) => {
    const coord = from(at(i, shape))
    return coord === null ? 0 : x.data[flat(coord, x.shape)]!
  })

/** Folds the values along `axes`. */
export const reduced = (
  x: Arr,
  axes: readonly number[],
  keep: boolean,
  fold: (values: number[]) => number,
): Arr => {
  const kept = x.shape.map((d, k) => (axes.includes(k) ? 1 : d))
  const groups = Array.from({ length: sizeOf(kept) }, () => [] as number[])
  x.data.forEach((v, i) => {
    const coord = at(i, x.shape).map((c, k) => (axes.includes(k) ? 0 : c))
    groups[flat(coord, kept)]!.push(v)
  })
  return {
    data: Float64Array.from(groups, fold),
    shape: keep ? kept : x.shape.filter((_, k) => !axes.includes(k)),
  }
}

export const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
export const average = (values: readonly number[]): number => total(values) / values.length

export const product = (a: Arr, b: Arr): Arr => {
  const batch = broadcastShape([a.shape.slice(0, -2), b.shape.slice(0, -2)])
  const [m, k, n] = [a.shape.at(-2)!, a.shape.at(-1)!, b.shape.at(-1)!]
  const shape = [...batch, m, n]
  return arr(shape, (i) => {
    const coord = at(i, shape)
    const [row, column] = coord.slice(-2) as [number, number]
    const lead = coord.slice(0, -2)
    return total(
      Array.from({ length: k }, (_, j) => seen(a, [...lead, row, j]) * seen(b, [...lead, j, column])),
    )
  })
}

export interface Conv {
  stride: number
  pads: readonly number[]
  groups: number
}

export const convolved = (x: Arr, w: Arr, bias: Arr | undefined, { stride, pads, groups }: Conv): Arr => {
  const [b, , h, wide] = x.shape as [number, number, number, number]
  const [o, i, kh, kw] = w.shape as [number, number, number, number]
  const out = (d: number, pad: number, k: number) => Math.floor((d + pad - k) / stride) + 1
  const shape = [b, o, out(h, pads[0]! + pads[2]!, kh), out(wide, pads[1]! + pads[3]!, kw)]
  return arr(shape, (n) => {
    const [row, channel, y0, x0] = at(n, shape) as [number, number, number, number]
    const first = Math.floor(channel / (o / groups)) * i
    let sum = bias?.data[channel] ?? 0
    for (let c = 0; c < i; c++)
      for (let dy = 0; dy < kh; dy++)
        for (let dx = 0; dx < kw; dx++) {
          const [yy, xx] = [y0 * stride + dy - pads[0]!, x0 * stride + dx - pads[1]!]
          if (yy < 0 || xx < 0 || yy >= h || xx >= wide) continue
          sum +=
            x.data[flat([row, first + c, yy, xx], x.shape)]! * w.data[flat([channel, c, dy, dx], w.shape)]!
        }
    return sum
  })
}

export const softmaxed = (x: Arr, axis: number): Arr => {
  const top = reduced(x, [axis], true, (v) => Math.max(...v))
  const e = elementwise((a, b) => Math.exp(a - b), x, top)
  return elementwise((a, b) => a / b, e, reduced(e, [axis], true, total))
}

/** (x - mean) / sqrt(var + eps) over `axes`. */
export const standardised = (x: Arr, axes: readonly number[], eps: number): Arr => {
  const centred = elementwise((a, m) => a - m, x, reduced(x, axes, true, average))
  const variance = reduced(
    elementwise((a) => a * a, centred),
    axes,
    true,
    average,
  )
  return elementwise((a, v) => a / Math.sqrt(v + eps), centred, variance)
}

export const attended = (
  q: Arr,
  k: Arr,
  v: Arr,
  mask: Arr | undefined,
  { heads, scale }: { heads: number; scale?: number },
): Arr => {
  const split = (t: Arr) => {
    const [b, s, d] = t.shape as [number, number, number]
    return transposed(reshaped(t, [b, s, heads, d / heads]), [0, 2, 1, 3])
  }
  const factor = scale ?? 1 / Math.sqrt(q.shape[2]! / heads)
  const logits = elementwise((a) => a * factor, product(split(q), transposed(split(k), [0, 1, 3, 2])))
  const p = softmaxed(mask ? elementwise((a, m) => a + m, logits, mask) : logits, 3)
  const y = transposed(product(p, split(v)), [0, 2, 1, 3])
  return reshaped(y, [y.shape[0]!, y.shape[1]!, v.shape[2]!])
}

/** Abramowitz & Stegun 7.1.5 as a series, exact to double precision for |x| < 4. */
export const erf = (x: number): number => {
  let term = x
  let sum = x
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}

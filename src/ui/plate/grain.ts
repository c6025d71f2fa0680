/** Side of the grain's tile; a power of two, so that places wrap by a mask. */
const side = 256

let tile: Float32Array | undefined

/**
 * Even grain: ranks of white noise from which its own blur is taken away, so that dots keep their distance as rosin
 * dust does on an aquatint plate. Each value 0..1 occurs once; made once, from a fixed seed.
 */
export function grain(): Float32Array {
  if (tile) return tile
  const white = new Float32Array(side * side)
  let state = 20
  for (let i = 0; i < white.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    white[i] = (state >>> 8) / 2 ** 24
  }
  const smooth = blur(blur(white, "across"), "down")
  const high = white.map((v, i) => v - smooth[i]!)
  const order = Uint32Array.from(high, (_, i) => i).sort((a, b) => high[a]! - high[b]!)
  const ranks = new Float32Array(side * side)
  for (let rank = 0; rank < order.length; rank++) ranks[order[rank]!] = (rank + 0.5) / order.length
  tile = ranks
  return ranks
}

/** A small binomial blur along one axis of the wrapping tile. */
function blur(from: Float32Array, axis: "across" | "down"): Float32Array {
  const weights = [1, 4, 6, 4, 1]
  const row = ~(side - 1)
  const place = (i: number, k: number): number =>
    axis === "across" ? (i & row) | ((i + k) & (side - 1)) : (i + k * side) & (side * side - 1)
  return from.map((_, i) => weights.reduce((sum, w, k) => sum + (w / 16) * from[place(i, k - 2)]!, 0))
}

/** The grain's threshold at a place. */
export const threshold = (g: Float32Array, x: number, y: number): number =>
  g[((y & (side - 1)) << 8) | (x & (side - 1))]!

type Colour = readonly [number, number, number]
export interface Inks {
  readonly paper: Colour
  readonly ink: Colour
}

const ridge = (x: number, k: number): number =>
  Math.sin(x * (2.1 + k * 0.9) + k * 2.3) * 0.5 +
  Math.sin(x * (4.7 + k * 1.3) + k * 5.1) * 0.24 +
  Math.sin(x * (11 + k * 2) + k) * 0.06

/** Hills under a low sun, each range a step darker than the one behind it, mist between: share of ink at a place. */
export function hills(x: number, y: number, ratio: number): number {
  const sun = Math.hypot((x - 0.64) * ratio, y - 0.3)
  const sky = 0.05 + 0.42 * Math.max(0, 0.62 - y) ** 1.7
  let tone = sun < 0.105 ? 0.015 : sky + 0.05 * Math.exp(-Math.max(0, sun - 0.105) * 5)
  for (let k = 0; k < 5; k++) {
    const crest = 0.44 + k * 0.115 + ridge(x * ratio * 0.95 + k * 0.7, k) * (0.075 - k * 0.005)
    if (y < crest) break
    const depth = y - crest
    const body = 0.24 + k * 0.16
    // mist gathers at the foot of each range
    tone = body * (1 - 0.62 * Math.min(1, depth / 0.19)) + (depth < 0.005 ? 0.08 : 0)
    if (k === 4) tone = body + depth * 0.35
  }
  return tone
}

/** An empty plate: the hills, bitten in steps of tone. */
export function paintHills(out: ImageData, { paper, ink }: Inks): void {
  const g = grain()
  const { width, height, data } = out
  const ratio = width / height
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++, i += 4) {
      const tone = hills(x / width, y / height, ratio)
      const c = threshold(g, x, y) < tone ? ink : paper
      data[i] = c[0]
      data[i + 1] = c[1]
      data[i + 2] = c[2]
      data[i + 3] = 255
    }
}

/**
 * A picture part of the way out of the grain. Places whose grain lies under `progress` have their colours; the others
 * are ink on paper by the picture's lightness, or an even tone where there is no picture yet.
 */
export function paintProof(out: ImageData, picture: ImageData | null, progress: number, inks: Inks): void {
  const g = grain()
  const { width, height, data } = out
  const dark = lightness(inks.paper) < lightness(inks.ink)
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++, i += 4) {
      const at = threshold(g, x, y)
      // a second reading of the grain decides which places are coloured first
      const coloured = picture && threshold(g, x + 97, y + 53) < progress
      if (coloured) {
        data[i] = picture.data[i]!
        data[i + 1] = picture.data[i + 1]!
        data[i + 2] = picture.data[i + 2]!
      } else {
        const even = dark ? 0.2 : 0.66
        const light = picture ? lightAt(picture.data, i) : even + 0.1 * Math.sin((x + 2 * y) / width)
        const c = at < (dark ? light : 1 - light) ? inks.ink : inks.paper
        // the dust already carries a breath of colour
        const share = picture ? 0.62 : 1
        for (let k = 0; k < 3; k++) data[i + k] = c[k]! * share + (picture?.data[i + k] ?? 0) * (1 - share)
      }
      data[i + 3] = 255
    }
}

const lightness = (c: Colour): number => (0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]) / 255
const lightAt = (d: Uint8ClampedArray, i: number): number =>
  (0.3 * d[i]! + 0.59 * d[i + 1]! + 0.11 * d[i + 2]!) / 255

/** Takes the layer off grain by grain: what lies under `share` becomes clear. */
export function clearGrain(layer: ImageData, share: number): void {
  const g = grain()
  const { width, height, data } = layer
  for (let y = 0, i = 3; y < height; y++)
    for (let x = 0; x < width; x++, i += 4) if (threshold(g, x + 31, y + 11) < share) data[i] = 0
}

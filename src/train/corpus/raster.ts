import type { Box, Path } from "./geometry.ts"

/** Red, green, blue, 0..255 each; fractions allowed. */
export type Rgb = readonly [number, number, number]

/** What fills a path: one colour, or a vertical gradient between two heights of the picture. */
export interface Paint {
  colour: Rgb
  /** Colour at `bottom`; `colour` is then the one at `top`. */
  to?: Rgb
  top?: number
  bottom?: number
  alpha?: number
  /** Opacity at `bottom`; `alpha` is then the one at `top`. */
  alphaTo?: number
}

/** Half-open range of pixels touched by a path. */
interface Region {
  x0: number
  y0: number
  x1: number
  y1: number
}

/** Coverage of a clip path: 0..1 for the pixels of its region, 0 elsewhere. */
export interface Mask extends Region {
  plane: Float32Array
}

/**
 * Anti-aliased scanline rasteriser: the exact area that a path covers of every pixel, by summing signed trapezoids
 * (the accumulation buffer of Levien's font-rs and FreeType's cells). Contours turning the same way round make a
 * union. Scene coordinates are 0..256 on both axes whatever the size in pixels.
 */
export class Canvas {
  readonly size: number
  /** One number a pixel, row by row: red + 256 green + 65536 blue. */
  private readonly pixels: Uint32Array
  private readonly scale: number
  private readonly stride: number
  /** Signed area each edge adds to its own and all later columns of a row; all zero between fills. */
  private readonly area: Float32Array
  private clip: Mask | null = null

  /** @param size width and height in pixels */
  constructor(size: number) {
    this.size = size
    this.scale = size / 256
    this.stride = size + 2
    this.pixels = new Uint32Array(size * size)
    this.area = new Float32Array(this.stride * size)
  }

  /** Paints the part of a path that lies inside the mask, or all of it. */
  fill(path: Path, paint: Paint, clip: Mask | null = null): void {
    this.clip = clip
    const region = this.accumulate(path)
    if (region) this.resolve(region, paint)
  }

  /** The coverage of a path, for `fill`'s clip. */
  mask(path: Path): Mask | null {
    const region = this.accumulate(path)
    if (!region) return null
    const { stride, area } = this
    const plane = new Float32Array((region.x1 - region.x0) * (region.y1 - region.y0))
    for (let y = region.y0, o = 0; y < region.y1; y++) {
      let sum = 0
      for (let x = region.x0; x < region.x1; x++, o++) {
        sum += area[y * stride + x]!
        const cover = sum < 0 ? -sum : sum
        plane[o] = cover > 1 ? 1 : cover
      }
      area.fill(0, y * stride + region.x0, (y + 1) * stride)
    }
    return { plane, ...region }
  }

  /** Round light that fades smoothly to nothing at its radius, laid over the picture. */
  glow(cx: number, cy: number, radius: number, colour: Rgb, alpha: number): void {
    const { size, scale } = this
    const [x, y, r] = [cx * scale, cy * scale, radius * scale]
    const [x0, x1] = [Math.max(0, Math.floor(x - r)), Math.min(size, Math.ceil(x + r))]
    for (let j = Math.max(0, Math.floor(y - r)); j < Math.min(size, y + r); j++) {
      const dy = (j + 0.5 - y) * (j + 0.5 - y)
      for (let i = x0; i < x1; i++) {
        const d = 1 - ((i + 0.5 - x) * (i + 0.5 - x) + dy) / (r * r)
        if (d > 0) this.blend(j * size + i, colour[0], colour[1], colour[2], alpha * d * d)
      }
    }
  }

  /**
   * Adds light as on a screen, 1 - (1 - a)(1 - b), from a smaller square RGB plane enlarged bilinearly.
   * @param light n * n * 3 values, 0..255
   * @param box the part of the picture to touch, in scene coordinates
   */
  addLight(light: Float32Array, n: number, box: Box): void {
    const { size, scale } = this
    const ratio = n / size
    const [x0, x1] = [
      Math.max(0, Math.floor(box.x * scale)),
      Math.min(size, Math.ceil((box.x + box.width) * scale)),
    ]
    const [y0, y1] = [
      Math.max(0, Math.floor(box.y * scale)),
      Math.min(size, Math.ceil((box.y + box.height) * scale)),
    ]
    for (let y = y0; y < y1; y++) {
      const v = Math.min(n - 1.001, Math.max(0, (y + 0.5) * ratio - 0.5))
      const row = Math.floor(v)
      for (let x = x0; x < x1; x++) {
        const u = Math.min(n - 1.001, Math.max(0, (x + 0.5) * ratio - 0.5))
        const i = (row * n + Math.floor(u)) * 3
        const [fx, fy] = [u - Math.floor(u), v - row]
        const r = bilinear(light, i, n * 3, fx, fy)
        const g = bilinear(light, i + 1, n * 3, fx, fy)
        const b = bilinear(light, i + 2, n * 3, fx, fy)
        this.screen(y * size + x, r, g, b)
      }
    }
  }

  /** The picture as interleaved RGB bytes. */
  bytes(): Uint8Array {
    const { pixels } = this
    const out = new Uint8Array(pixels.length * 3)
    for (let i = 0, o = 0; i < pixels.length; i++) {
      const v = pixels[i]!
      out[o++] = v
      out[o++] = v >> 8
      out[o++] = v >> 16
    }
    return out
  }

  /** Moves a pixel towards a colour by k. */
  private blend(p: number, r: number, g: number, b: number, k: number): void {
    const v = this.pixels[p]!
    const r0 = v & 255
    const g0 = (v >> 8) & 255
    const b0 = (v >> 16) & 255
    this.pixels[p] = pack(r0 + k * (r - r0), g0 + k * (g - g0), b0 + k * (b - b0))
  }

  private screen(p: number, r: number, g: number, b: number): void {
    const v = this.pixels[p]!
    const r0 = v & 255
    const g0 = (v >> 8) & 255
    const b0 = (v >> 16) & 255
    this.pixels[p] = pack(r0 + r * (1 - r0 / 255), g0 + g * (1 - g0 / 255), b0 + b * (1 - b0 / 255))
  }

  private accumulate(path: Path): Region | null {
    const { size, scale } = this
    let [left, top, right, bottom] = [size, size, 0, 0]
    for (const contour of path) {
      const n = contour.length
      let x0 = contour[n - 2]! * scale
      let y0 = contour[n - 1]! * scale
      for (let i = 0; i < n; i += 2) {
        const x1 = contour[i]! * scale
        const y1 = contour[i + 1]! * scale
        left = x1 < left ? x1 : left
        right = x1 > right ? x1 : right
        top = y1 < top ? y1 : top
        bottom = y1 > bottom ? y1 : bottom
        if (y0 < y1) this.edge(x0, y0, x1, y1, 1)
        else if (y1 < y0) this.edge(x1, y1, x0, y0, -1)
        x0 = x1
        y0 = y1
      }
    }
    const region = {
      x0: Math.max(0, Math.floor(left)),
      y0: Math.max(0, Math.floor(top)),
      x1: Math.min(size, Math.ceil(right)),
      y1: Math.min(size, Math.ceil(bottom)),
    }
    return region.x0 < region.x1 && region.y0 < region.y1 ? region : this.forget(region)
  }

  /** Edges left of the picture still leave their mark in column 0: wipe it when nothing is to be painted. */
  private forget({ y0, y1 }: Region): null {
    for (let y = y0; y < y1; y++) this.area.fill(0, y * this.stride, (y + 1) * this.stride)
    return null
  }

  /** One downward edge, cut at the picture's top, bottom, left and right. */
  private edge(x0: number, y0: number, x1: number, y1: number, sign: number): void {
    const { size } = this
    if (y1 <= 0 || y0 >= size) return
    const slope = (x1 - x0) / (y1 - y0)
    if (y0 < 0) {
      x0 -= y0 * slope
      y0 = 0
    }
    if (y1 > size) {
      x1 -= (y1 - size) * slope
      y1 = size
    }
    for (let y = Math.floor(y0), top = y0, x = x0; top < y1; y++) {
      const bottom = y + 1 < y1 ? y + 1 : y1
      const next = x + slope * (bottom - top)
      this.row(y * this.stride, x, next, (bottom - top) * sign)
      top = bottom
      x = next
    }
  }

  /** Adds one row's piece of an edge, from xa to xb, of signed height dy. */
  private row(base: number, xa: number, xb: number, dy: number): void {
    const { size, area } = this
    if (xa > xb) {
      const swap = xa
      xa = xb
      xb = swap
    }
    if (xb <= 0) {
      area[base] = area[base]! + dy
      return
    }
    if (xa >= size) return
    const perX = xb > xa ? dy / (xb - xa) : 0
    if (xa < 0) {
      area[base] = area[base]! - xa * perX
      dy += xa * perX
      xa = 0
    }
    if (xb > size) {
      dy -= (xb - size) * perX
      xb = size
    }
    let column = Math.floor(xa)
    while (xb > column + 1) {
      const part = (column + 1 - xa) * perX
      const own = part * (column + 1 - 0.5 * (xa + column + 1))
      area[base + column] = area[base + column]! + own
      area[base + column + 1] = area[base + column + 1]! + part - own
      dy -= part
      xa = ++column
    }
    const own = dy * (column + 1 - 0.5 * (xa + xb))
    area[base + column] = area[base + column]! + own
    area[base + column + 1] = area[base + column + 1]! + dy - own
  }

  private resolve(region: Region, paint: Paint): void {
    const { stride, scale } = this
    const alpha = paint.alpha ?? 1
    const from = paint.colour
    const to = paint.to ?? from
    const top = (paint.top ?? 0) * scale
    const span = (paint.bottom ?? 256) * scale - top
    for (let y = region.y0; y < region.y1; y++) {
      const t = Math.min(1, Math.max(0, (y + 0.5 - top) / span))
      const r = from[0] + t * (to[0] - from[0])
      const g = from[1] + t * (to[1] - from[1])
      const b = from[2] + t * (to[2] - from[2])
      const opacity = alpha + t * ((paint.alphaTo ?? alpha) - alpha)
      if (this.clip === null) this.spans(region, y, r, g, b, opacity)
      else this.clipped(region, y, r, g, b, opacity, this.clip)
      this.area.fill(0, y * stride + region.x0, y * stride + region.x1 + 2)
    }
  }

  /** One row without a clip: pixels between two changes of coverage are a run of one value. */
  private spans(region: Region, y: number, r: number, g: number, b: number, opacity: number): void {
    const { size, area, pixels } = this
    const solid = pack(r, g, b)
    const base = y * this.stride
    let sum = 0
    for (let x = region.x0; x < region.x1; ) {
      sum += area[base + x]!
      let end = x + 1
      while (end < region.x1 && area[base + end] === 0) end++
      const k = weight(sum) * opacity
      if (k === 1 && end - x > 16) pixels.fill(solid, y * size + x, y * size + end)
      else if (k === 1) for (let p = y * size + x; p < y * size + end; p++) pixels[p] = solid
      else if (k > 0) for (let p = y * size + x; p < y * size + end; p++) this.blend(p, r, g, b, k)
      x = end
    }
  }

  private clipped(
    region: Region,
    y: number,
    r: number,
    g: number,
    b: number,
    opacity: number,
    clip: Mask,
  ): void {
    if (y < clip.y0 || y >= clip.y1) return
    const { size, area } = this
    const row = (y - clip.y0) * (clip.x1 - clip.x0) - clip.x0
    const end = Math.min(region.x1, clip.x1)
    let sum = 0
    for (let x = region.x0; x < end; x++) {
      sum += area[y * this.stride + x]!
      if (x < clip.x0) continue
      const k = weight(sum) * opacity * clip.plane[row + x]!
      if (k > 0) this.blend(y * size + x, r, g, b, k)
    }
  }
}

/** Signed area to coverage 0..1; rounding noise at both ends is cut off. */
function weight(sum: number): number {
  const cover = sum < 0 ? -sum : sum
  return cover < 0.002 ? 0 : cover > 0.998 ? 1 : cover
}

/** Channels of 0..255, rounded, as one number. */
const pack = (r: number, g: number, b: number) =>
  (r + 0.5) | 0 | (((g + 0.5) | 0) << 8) | (((b + 0.5) | 0) << 16)

function bilinear(plane: Float32Array, i: number, row: number, fx: number, fy: number): number {
  const upper = plane[i]! + fx * (plane[i + 3]! - plane[i]!)
  const lower = plane[i + row]! + fx * (plane[i + row + 3]! - plane[i + row]!)
  return upper + fy * (lower - upper)
}

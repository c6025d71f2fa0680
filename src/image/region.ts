import { fail } from "../errors.ts"
import { blank, type Picture, toGrey } from "./pixels.ts"
import type { Box } from "./resize.ts"

/**
 * The smallest box around everything in a mask that is not black, `pad` pixels larger on each side, within the picture;
 * null where the mask is black. A1111's and diffusers' get_crop_region.
 * @returns left, top, right, bottom
 */
export function maskRegion(mask: Picture, pad: number): Box | null {
  const { width, height, data } = toGrey(mask)
  let [left, top, right, bottom] = [width, height, 0, 0]
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] === 0) continue
      left = Math.min(left, x)
      right = Math.max(right, x + 1)
      top = Math.min(top, y)
      bottom = y + 1
    }
  }
  if (right === 0) return null
  return [
    Math.max(left - pad, 0),
    Math.max(top - pad, 0),
    Math.min(right + pad, width),
    Math.min(bottom + pad, height),
  ]
}

/** One side pair grown to a length, evenly, then moved and cut to lie in 0..limit. */
function stretch(from: number, to: number, length: number, limit: number): [number, number] {
  const more = Math.trunc(length - (to - from))
  let start = from - Math.floor(more / 2)
  let end = to + more - Math.floor(more / 2)
  if (end >= limit) {
    start -= end - limit
    end = limit
  }
  if (start < 0) {
    end -= start
    start = 0
  }
  return [start, Math.min(end, limit)]
}

/** A box grown to the shape of the picture that will be drawn for it, as far as the picture it lies in allows. */
export function shapeRegion(
  [left, top, right, bottom]: Box,
  drawn: { width: number; height: number },
  whole: { width: number; height: number },
): Box {
  const ratio = drawn.width / drawn.height
  if ((right - left) / (bottom - top) > ratio) {
    const [y1, y2] = stretch(top, bottom, (right - left) / ratio, whole.height)
    return [left, y1, right, y2]
  }
  const [x1, x2] = stretch(left, right, (bottom - top) * ratio, whole.width)
  return [x1, top, x2, bottom]
}

/** The part of a picture in a box. */
export function cut(picture: Picture, [left, top, right, bottom]: Box): Picture {
  const { channels, width } = picture
  const out = blank(right - left, bottom - top, channels)
  const line = out.width * channels
  for (let y = 0; y < out.height; y++) {
    const from = ((top + y) * width + left) * channels
    out.data.set(picture.data.subarray(from, from + line), y * line)
  }
  return out
}

/** `part` put into a copy of `frame` with its upper left corner at (x, y); both have the same channels, and it fits. */
export function place(frame: Picture, part: Picture, x: number, y: number): Picture {
  const data = frame.data.slice()
  const line = part.width * part.channels
  for (let row = 0; row < part.height; row++)
    data.set(part.data.subarray(row * line, (row + 1) * line), ((y + row) * frame.width + x) * frame.channels)
  return { ...frame, data }
}

/** Taps of a Gaussian that ends at 2.5 deviations. */
function bell(sigma: number): Float64Array {
  const half = Math.trunc(2.5 * sigma + 0.5)
  const taps = Float64Array.from({ length: 2 * half + 1 }, (_, i) =>
    Math.exp(-((i - half) ** 2) / (2 * sigma ** 2)),
  )
  const sum = taps.reduce((a, b) => a + b, 0)
  return taps.map((v) => v / sum)
}

/** The place that a line mirrored at its outermost pixels has there. */
function mirrored(i: number, length: number): number {
  if (length === 1) return 0
  const period = 2 * (length - 1)
  const at = ((i % period) + period) % period
  return at < length ? at : period - at
}

/**
 * A mask with soft edges, as A1111 makes them: a Gaussian over 2 * int(2.5 sigma + 0.5) + 1 pixels along x, rounded to
 * 8 bits, then along y; edges mirrored (OpenCV's GaussianBlur). @param sigma in pixels; 0 leaves the mask as it is
 */
export function softenMask(mask: Picture, sigma: number): Picture {
  if (!(sigma >= 0 && sigma <= 256))
    fail("IMAGE_BLUR", `a mask blur of ${sigma} pixels is out of range`, { hint: "use 0 to 256" })
  const grey = toGrey(mask)
  if (sigma === 0) return grey
  const taps = bell(sigma)
  const half = (taps.length - 1) / 2
  const { width, height } = grey
  const pass = (from: Uint8ClampedArray, count: number, step: number, lines: number, stride: number) => {
    const to = new Uint8ClampedArray(from.length)
    const places = Int32Array.from({ length: count + 2 * half }, (_, i) => mirrored(i - half, count))
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < count; i++) {
        let sum = 0
        for (let k = 0; k < taps.length; k++) sum += taps[k]! * from[line * stride + places[i + k]! * step]!
        to[line * stride + i * step] = sum
      }
    }
    return to
  }
  return { ...grey, data: pass(pass(grey.data, width, 1, height, width), height, width, width, 1) }
}

/** Every value times `by`, at most white: A1111 lays a soft mask's outer half wholly over the original. */
export const brighten = (mask: Picture, by: number): Picture => ({
  ...mask,
  data: mask.data.map((v) => v * by),
})

/** How many pixels a picture grows on each side. */
export interface Sides {
  readonly left?: number
  readonly right?: number
  readonly top?: number
  readonly bottom?: number
}

/**
 * A larger canvas around a picture, and the mask of what is new: white there and `inset` pixels into the old picture
 * wherever it grows. What is new repeats the picture's outermost pixels.
 */
export function extendCanvas(
  picture: Picture,
  { left = 0, right = 0, top = 0, bottom = 0 }: Sides,
  inset: number,
): { picture: Picture; mask: Picture } {
  const { width, height, channels, data } = picture
  const made = blank(width + left + right, height + top + bottom, channels)
  const mask = blank(made.width, made.height, 1)
  const [x1, x2] = [left + (left > 0 ? inset : 0), left + width - (right > 0 ? inset : 0)]
  const [y1, y2] = [top + (top > 0 ? inset : 0), top + height - (bottom > 0 ? inset : 0)]
  for (let y = 0; y < made.height; y++) {
    const row = Math.min(height - 1, Math.max(0, y - top))
    for (let x = 0; x < made.width; x++) {
      const from = (row * width + Math.min(width - 1, Math.max(0, x - left))) * channels
      const to = y * made.width + x
      for (let c = 0; c < channels; c++) made.data[to * channels + c] = data[from + c]!
      mask.data[to] = x >= x1 && x < x2 && y >= y1 && y < y2 ? 0 : 255
    }
  }
  return { picture: made, mask }
}

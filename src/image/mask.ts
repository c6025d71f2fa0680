import { fail } from "../errors.ts"
import { blank, type Picture, toGrey } from "./pixels.ts"

/**
 * A mask as inpainting reads it (VaeImageProcessor with do_binarize): grey / 255, 1 where >= 0.5.
 * White (1) is repainted.
 * @returns [1, height, width] of 0 and 1
 */
export function binaryMask(mask: Picture): Float32Array {
  return Float32Array.from(toGrey(mask).data, (v) => (v >= 128 ? 1 : 0))
}

/** A mask as grey / 255 in float32, without a threshold. @returns [1, height, width] in 0..1 */
export function softMask(mask: Picture): Float32Array {
  return Float32Array.from(toGrey(mask).data, (v) => v / 255)
}

/** 0..1 weights as a grey picture, halves rounded to even. @param weights [height, width] */
export function pictureFromMask(weights: Float32Array, width: number, height: number): Picture {
  if (weights.length !== width * height)
    fail("IMAGE_SHAPE", `${weights.length} values do not fit a mask of ${width}x${height}`)
  return { width, height, channels: 1, data: Uint8ClampedArray.from(weights, (v) => Math.fround(v * 255)) }
}

/** Black and white swapped, channel by channel; alpha is kept. */
export function invert(picture: Picture): Picture {
  const alpha = picture.channels === 4
  return { ...picture, data: picture.data.map((v, i) => (alpha && i % 4 === 3 ? v : 255 - v)) }
}

/** What the inner loop of a box blur needs of its radius, in units of 2^-24. */
interface Window {
  whole: number
  weight: number
  edge: number
}

function windowOf(radius: number): Window {
  const whole = Math.trunc(radius)
  const weight = Math.trunc(Math.fround((1 << 24) / Math.fround(Math.fround(radius * 2) + 1)))
  return { whole, weight, edge: Math.trunc(((1 << 24) - (whole * 2 + 1) * weight) / 2) }
}

/**
 * One pass over a line whose ends are repeated whole + 1 times on both sides: a running sum of
 * 2 * whole + 1 pixels, and the two beyond with the fractional weight.
 */
function blurLine(
  padded: Uint8Array,
  out: Uint8ClampedArray,
  at: number,
  step: number,
  count: number,
  w: Window,
): void {
  const span = 2 * w.whole + 1
  let sum = 0
  for (let i = 0; i < span; i++) sum += padded[i]!
  for (let i = 0; i < count; i++, at += step) {
    sum += padded[i + span]! - padded[i]!
    const bulk = sum * w.weight + (padded[i]! + padded[i + span + 1]!) * w.edge
    out[at] = Math.floor((bulk + (1 << 23)) / (1 << 24))
  }
}

/** Fills `padded` with a line between repeats of its ends. */
function pad(line: Uint8ClampedArray, at: number, step: number, count: number, padded: Uint8Array): void {
  const edge = (padded.length - count) / 2
  padded.fill(line[at]!, 0, edge)
  padded.fill(line[at + (count - 1) * step]!, edge + count)
  for (let i = 0; i < count; i++) padded[edge + i] = line[at + i * step]!
}

function blurAxis(picture: Picture, radius: number, passes: number, axis: "x" | "y"): Picture {
  if (radius === 0) return picture
  const { width, height, channels } = picture
  const window = windowOf(radius)
  const step = axis === "x" ? channels : width * channels
  const [lines, count] = axis === "x" ? [height, width] : [width, height]
  const stride = axis === "x" ? width * channels : channels
  const padded = new Uint8Array(count + 2 * (window.whole + 1))
  let from = picture.data
  for (let pass = 0; pass < passes; pass++) {
    const to = new Uint8ClampedArray(from.length)
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < channels; c++) {
        pad(from, line * stride + c, step, count, padded)
        blurLine(padded, to, line * stride + c, step, count, window)
      }
    }
    from = to
  }
  return { ...picture, data: from }
}

function checkRadius(radius: number): number {
  if (!(radius >= 0 && radius <= 1024)) {
    fail("IMAGE_BLUR", `a blur radius of ${radius} pixels is out of range`, { hint: "use 0 to 1024" })
  }
  return Math.fround(radius)
}

/** Box blur with fractional radius and edges repeated: Pillow's ImageFilter.BoxBlur, bit for bit. */
export function boxBlur(picture: Picture, radius: number, passes = 1): Picture {
  const r = checkRadius(radius)
  return blurAxis(blurAxis(picture, r, passes, "x"), r, passes, "y")
}

/**
 * Gaussian blur as three extended box blurs (Gwosdek et al. 2011), Pillow's ImageFilter.GaussianBlur,
 * bit for bit. @param sigma standard deviation in pixels
 */
export function gaussianBlur(picture: Picture, sigma: number): Picture {
  const passes = 3
  const s = checkRadius(sigma)
  const variance = Math.fround(Math.fround(s * s) / passes)
  const length = Math.fround(Math.sqrt(12 * variance + 1))
  const whole = Math.fround(Math.floor((length - 1) / 2))
  const above = Math.fround(Math.fround(2 * whole) + 1)
  const fraction = Math.fround(
    above * Math.fround(Math.fround(whole * Math.fround(whole + 1)) - Math.fround(3 * variance)),
  )
  const square = Math.fround(Math.fround(whole + 1) * Math.fround(whole + 1))
  const part = Math.fround(fraction / Math.fround(6 * Math.fround(variance - square)))
  return boxBlur(picture, Math.fround(whole + part), passes)
}

/** Largest value in a square of 2 * pixels + 1: grows a white mask, as PIL's MaxFilter. */
export function dilate(picture: Picture, pixels: number): Picture {
  return extreme(picture, pixels, Math.max)
}

/** Smallest value in a square of 2 * pixels + 1: shrinks a white mask, as PIL's MinFilter. */
export function erode(picture: Picture, pixels: number): Picture {
  return extreme(picture, pixels, Math.min)
}

function extreme(picture: Picture, pixels: number, pick: (a: number, b: number) => number): Picture {
  if (!Number.isInteger(pixels) || pixels < 0 || pixels > 1024) {
    fail("IMAGE_BLUR", `a mask cannot grow by ${pixels} pixels`, {
      hint: "use a whole number from 0 to 1024",
    })
  }
  const { width, height, channels } = picture
  const line = width * channels
  const rows = slide(picture.data, height, line, width, channels, channels, pixels, pick)
  return { ...picture, data: slide(rows, width, channels, height, line, channels, pixels, pick) }
}

/** Running extreme along `count` values `step` apart, for `lines` lines: doubling the window, so O(log pixels). */
function slide(
  source: Uint8ClampedArray,
  lines: number,
  lineStep: number,
  count: number,
  step: number,
  channels: number,
  pixels: number,
  pick: (a: number, b: number) => number,
): Uint8ClampedArray {
  const out = new Uint8ClampedArray(source.length)
  const span = 2 * pixels + 1
  const values = new Uint8Array(count + 2 * pixels)
  for (let line = 0; line < lines * channels; line++) {
    const base = Math.floor(line / channels) * lineStep + (line % channels)
    for (let i = 0; i < values.length; i++) {
      values[i] = source[base + Math.min(count - 1, Math.max(0, i - pixels)) * step]!
    }
    for (let done = 1; done < span; ) {
      const shift = Math.min(done, span - done)
      for (let i = 0; i + shift < values.length; i++) values[i] = pick(values[i]!, values[i + shift]!)
      done += shift
    }
    for (let i = 0; i < count; i++) out[base + i * step] = values[i]!
  }
  return out
}

/** Keeps `over` where the mask is white and `under` where it is black: out = under + (over - under) * mask / 255. */
export function composite(over: Picture, under: Picture, mask: Picture): Picture {
  const weight = toGrey(mask).data
  const same = over.width === under.width && over.height === under.height && over.channels === under.channels
  if (!same || weight.length !== over.width * over.height) {
    fail(
      "IMAGE_SHAPE",
      `pictures of ${over.width}x${over.height} and ${under.width}x${under.height} and a mask of ${mask.width}x${mask.height} do not match`,
    )
  }
  const out = blank(over.width, over.height, over.channels)
  for (let i = 0; i < out.data.length; i++) {
    const m = weight[Math.floor(i / over.channels)]!
    const mixed = over.data[i]! * m + under.data[i]! * (255 - m) + 128
    out.data[i] = ((mixed >> 8) + mixed) >> 8
  }
  return out
}

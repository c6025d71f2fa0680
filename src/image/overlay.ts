import { fail } from "../errors.ts"
import { gaussianBlur } from "./mask.ts"
import { blank, type Picture, toGrey, toRgb, toRgba } from "./pixels.ts"

/** a b / 255, rounded, as Pillow's MULDIV255. */
function share(a: number, b: number): number {
  const product = a * b + 128
  return ((product >> 8) + product) >> 8
}

/** What a white mask leaves of a picture: colours times alpha ("RGBa"), alpha 0 where the mask is white. */
function outside(picture: Picture, mask: Picture): Picture {
  const rgba = toRgba(picture)
  const weight = toGrey(mask).data
  if (weight.length !== picture.width * picture.height)
    fail(
      "IMAGE_SHAPE",
      `a mask of ${mask.width}x${mask.height} does not fit a picture of ${picture.width}x${picture.height}`,
    )
  const data = new Uint8ClampedArray(rgba.data.length)
  for (let i = 0; i < data.length; i += 4) {
    const alpha = rgba.data[i + 3]!
    const kept = 255 - weight[i >> 2]!
    for (let c = 0; c < 3; c++) data[i + c] = share(share(rgba.data[i + c]!, alpha), kept)
    data[i + 3] = share(alpha, kept)
  }
  return { ...rgba, data }
}

/** Colours divided by alpha again. */
function straight(picture: Picture): Picture {
  const data = picture.data.slice()
  for (let i = 0; i < data.length; i += 4) {
    const alpha = data[i + 3]!
    if (alpha === 0 || alpha === 255) continue
    for (let c = 0; c < 3; c++) data[i + c] = Math.trunc((255 * data[i + c]!) / alpha)
  }
  return { ...picture, data }
}

/** Lays `over` on `under` in place, both RGBA with straight alpha: Pillow's alpha_composite, 7 bits of extra precision. */
function lay(under: Uint8ClampedArray, over: Uint8ClampedArray): void {
  const bits = 7
  for (let i = 0; i < under.length; i += 4) {
    const alpha = over[i + 3]!
    if (alpha === 0) continue
    const whole = alpha * 255 + under[i + 3]! * (255 - alpha)
    const a = Math.floor((alpha * 255 * 255 * (1 << bits)) / whole)
    const b = 255 * (1 << bits) - a
    for (let c = 0; c < 3; c++) {
      const sum = over[i + c]! * a + under[i + c]! * b + (0x80 << bits)
      under[i + c] = (((sum >> 8) + sum) >> 8) >> bits
    }
    const total = whole + 0x80
    under[i + 3] = ((total >> 8) + total) >> 8
  }
}

/**
 * The picture that inpainting gives back: what was drawn shows where the mask is white, the original everywhere else,
 * to the bit. The same numbers as diffusers' VaeImageProcessor.apply_overlay and A1111's apply_overlay, through Pillow.
 * @returns RGB
 */
export function layOver(original: Picture, drawn: Picture, mask: Picture): Picture {
  if (drawn.width !== original.width || drawn.height !== original.height)
    fail(
      "IMAGE_SHAPE",
      `pictures of ${drawn.width}x${drawn.height} and ${original.width}x${original.height} do not match`,
    )
  const under = toRgba(toRgb(drawn))
  const data = under.data.slice()
  lay(data, straight(outside(toRgb(original), mask)).data)
  return toRgb({ ...under, data })
}

/** Radii of the blurs that a hole is filled with, and how often each is laid on: A1111's modules/masking.py. */
const radii = [
  [256, 1],
  [64, 1],
  [16, 2],
  [4, 4],
  [2, 2],
  [0, 1],
] as const

/**
 * Fills what a mask covers with the colours around it, ever less blurred towards its edge: A1111's `masking.fill`, bit
 * for bit. @returns RGB
 */
export function fillHole(picture: Picture, mask: Picture): Picture {
  const rest = outside(picture, mask)
  const made = blank(picture.width, picture.height, 4)
  for (const [radius, times] of radii) {
    const blurred = straight(gaussianBlur(rest, radius)).data
    for (let i = 0; i < times; i++) lay(made.data, blurred)
  }
  return toRgb(made)
}

import { fail } from "../errors.ts"

/**
 * An 8-bit picture in memory: rows from top to bottom, pixels from left to right, channels interleaved.
 * 1 channel is grey (masks), 3 is RGB, 4 is RGBA with straight (not premultiplied) alpha.
 */
export interface Picture {
  readonly width: number
  readonly height: number
  readonly channels: 1 | 3 | 4
  /** height * width * channels values. */
  readonly data: Uint8ClampedArray
}

/** A picture of zeros (black, or transparent black). */
export function blank(width: number, height: number, channels: Picture["channels"]): Picture {
  return { width, height, channels, data: new Uint8ClampedArray(width * height * channels) }
}

/** Throws IMAGE_SHAPE unless sides are positive integers and the data has the length they ask for. */
export function checkPicture(picture: Picture): Picture {
  const { width, height, channels, data } = picture
  const whole = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0
  if (!whole || ![1, 3, 4].includes(channels) || data.length !== width * height * channels) {
    fail(
      "IMAGE_SHAPE",
      `a picture of ${width}x${height} with ${channels} channels does not fit ${data.length} values`,
    )
  }
  return picture
}

/**
 * The VAE's output as a picture, as diffusers' VaeImageProcessor.postprocess does it in float32:
 * clamp(x / 2 + 0.5, 0, 1) * 255, halves rounded to even.
 * @param planes [3, height, width], about -1..1; NaN becomes 0
 */
export function pictureFromPlanes(planes: Float32Array, width: number, height: number): Picture {
  const size = width * height
  if (planes.length !== 3 * size) {
    fail("IMAGE_SHAPE", `${planes.length} values do not fit planes of [3, ${height}, ${width}]`, {
      blame: "here",
    })
  }
  const picture = blank(width, height, 3)
  for (let c = 0; c < 3; c++) {
    for (let i = 0, at = c * size; i < size; i++, at++) {
      const unit = Math.fround(planes[at]! * 0.5 + 0.5)
      // Uint8ClampedArray clamps and rounds halves to even, which is numpy's rule
      picture.data[i * 3 + c] = Math.fround(unit * 255)
    }
  }
  return picture
}

/**
 * Planes of 0..1 as a picture: clamped, times 255, halves rounded to even.
 * @param planes [3, height, width]
 */
export function pictureFromUnit(planes: Float32Array, width: number, height: number): Picture {
  const size = width * height
  const picture = blank(width, height, 3)
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < size; i++) picture.data[i * 3 + c] = Math.fround(planes[c * size + i]! * 255)
  return picture
}

/** value / 255 and 2 * value / 255 - 1 in float32, each operation rounded as numpy and torch do. */
const unitOf = Float32Array.from({ length: 256 }, (_, v) => v / 255)
const signedOf = unitOf.map((v) => Math.fround(2 * v) - 1)

/**
 * A picture as the VAE's input, as VaeImageProcessor.preprocess: 2 * v / 255 - 1 in float32.
 * Alpha is dropped, grey is repeated.
 * @returns [3, height, width]
 */
export function planesFromPicture(picture: Picture): Float32Array {
  return planes(picture, signedOf)
}

/** A picture as v / 255, what ControlNet and the safety checker take. @returns [3, height, width] in 0..1 */
export function unitPlanesFromPicture(picture: Picture): Float32Array {
  return planes(picture, unitOf)
}

function planes({ width, height, channels, data }: Picture, table: Float32Array): Float32Array {
  const size = width * height
  const out = new Float32Array(3 * size)
  for (let c = 0; c < 3; c++) {
    let from = channels === 1 ? 0 : c
    for (let i = 0; i < size; i++, from += channels) out[c * size + i] = table[data[from]!]!
  }
  return out
}

/** RGB as PIL's convert("RGB"): alpha is dropped without blending, grey is repeated. */
export function toRgb(picture: Picture): Picture {
  if (picture.channels === 3) return picture
  const out = blank(picture.width, picture.height, 3)
  const { data, channels } = picture
  for (let from = 0, to = 0; to < out.data.length; from += channels, to += 3) {
    out.data[to] = data[from]!
    out.data[to + 1] = data[channels === 1 ? from : from + 1]!
    out.data[to + 2] = data[channels === 1 ? from : from + 2]!
  }
  return out
}

/** RGBA; opaque where there was no alpha. */
export function toRgba(picture: Picture): Picture {
  if (picture.channels === 4) return picture
  const rgb = toRgb(picture).data
  const out = blank(picture.width, picture.height, 4)
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    out.data[to] = rgb[from]!
    out.data[to + 1] = rgb[from + 1]!
    out.data[to + 2] = rgb[from + 2]!
    out.data[to + 3] = 255
  }
  return out
}

/** Grey as PIL's convert("L"): ITU-R 601 luma in 16-bit fixed point, alpha ignored. */
export function toGrey(picture: Picture): Picture {
  if (picture.channels === 1) return picture
  const out = blank(picture.width, picture.height, 1)
  const { data, channels } = picture
  for (let from = 0, to = 0; to < out.data.length; from += channels, to++) {
    const luma = data[from]! * 19595 + data[from + 1]! * 38470 + data[from + 2]! * 7471
    out.data[to] = (luma + 0x8000) >> 16
  }
  return out
}

/**
 * Turns a picture upright by EXIF's orientation (TIFF 6.0 tag 274), as PIL's exif_transpose.
 * 1 and values outside 1..8 leave it as it is.
 */
export function upright(picture: Picture, orientation: number): Picture {
  if (!(orientation >= 2 && orientation <= 8)) return picture
  const { width, height, channels, data } = picture
  const swap = orientation >= 5
  const out = blank(swap ? height : width, swap ? width : height, channels)
  const flipX = orientation === 2 || orientation === 3 || orientation === 7 || orientation === 8
  const flipY = orientation === 3 || orientation === 4 || orientation === 6 || orientation === 7
  let to = 0
  for (let y = 0; y < out.height; y++) {
    for (let x = 0; x < out.width; x++) {
      const sx = swap ? y : x
      const sy = swap ? x : y
      let from = ((flipY ? height - 1 - sy : sy) * width + (flipX ? width - 1 - sx : sx)) * channels
      for (let c = 0; c < channels; c++) out.data[to++] = data[from++]!
    }
  }
  return out
}

import { fail } from "../errors.ts"
import { blank, type Picture, toRgb } from "./pixels.ts"

export type Filter = "nearest" | "box" | "bilinear" | "hamming" | "bicubic" | "lanczos"
/** stretch is diffusers' "default"; crop covers the frame; fill fits inside and stretches the border lines. */
export type Fit = "stretch" | "crop" | "fill"
/** A part of the source picture in pixels: left, top, right, bottom. */
export type Box = readonly [number, number, number, number]

interface Kernel {
  support: number
  at(x: number): number
}

/** Keys 1981 with a = -0.5. */
function cubic(x: number): number {
  const d = Math.abs(x)
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1
  if (d < 2) return (((d - 5) * d + 8) * d - 4) * -0.5
  return 0
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI)
}

function hamming(x: number): number {
  const d = Math.abs(x)
  if (d >= 1) return 0
  return d === 0 ? 1 : sinc(d) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(d * Math.PI))
}

const kernels: Record<Exclude<Filter, "nearest">, Kernel> = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, at: hamming },
  bicubic: { support: 2, at: cubic },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
}

/** Pillow's fixed point: 8 bits of value, 2 bits of headroom for negative lobes. */
const BITS = 32 - 8 - 2

/** For each output pixel the first input pixel and the weights from there on, in units of 2^-22. */
interface Taps {
  first: Int32Array
  count: Int32Array
  weights: Int32Array
  stride: number
}

/** Weights of one axis as Pillow computes them: doubles, normalised to one, rounded away from zero. */
function taps(inSize: number, from: number, to: number, outSize: number, kernel: Kernel): Taps {
  const scale = Math.fround(to - from) / outSize
  const stretch = Math.max(scale, 1)
  const support = kernel.support * stretch
  const stride = Math.ceil(support) * 2 + 1
  const result: Taps = {
    first: new Int32Array(outSize),
    count: new Int32Array(outSize),
    weights: new Int32Array(outSize * stride),
    stride,
  }
  const row = new Float64Array(stride)
  const inverse = 1 / stretch
  for (let o = 0; o < outSize; o++) {
    const center = from + (o + 0.5) * scale
    const first = Math.max(0, Math.trunc(center - support + 0.5))
    const count = Math.min(inSize, Math.trunc(center + support + 0.5)) - first
    let sum = 0
    for (let i = 0; i < count; i++) sum += row[i] = kernel.at((i + first - center + 0.5) * inverse)
    for (let i = 0; i < count; i++) {
      const w = (sum === 0 ? row[i]! : row[i]! / sum) * (1 << BITS)
      result.weights[o * stride + i] = Math.trunc(w < 0 ? w - 0.5 : w + 0.5)
    }
    result.first[o] = first
    result.count[o] = count
  }
  return result
}

/** Horizontal pass over the rows [top, bottom) that the vertical pass will read. */
function alongRows(source: Picture, width: number, t: Taps, top: number, bottom: number): Picture {
  const { channels } = source
  const out = blank(width, bottom - top, channels)
  const line = source.width * channels
  for (let y = top; y < bottom; y++) {
    const from = source.data.subarray(y * line, (y + 1) * line)
    const to = out.data.subarray((y - top) * width * channels, (y - top + 1) * width * channels)
    if (channels === 3) rgbRow(from, to, t)
    else for (let c = 0; c < channels; c++) row(from, to, c, channels, t)
  }
  return out
}

/** One channel of a row. */
function row(from: Uint8ClampedArray, to: Uint8ClampedArray, c: number, channels: number, t: Taps): void {
  const { first, count, weights, stride } = t
  for (let x = 0; x < first.length; x++) {
    let sum = 1 << (BITS - 1)
    let at = first[x]! * channels + c
    const base = x * stride
    const end = base + count[x]!
    for (let w = base; w < end; w++, at += channels) sum = (sum + Math.imul(from[at]!, weights[w]!)) | 0
    to[x * channels + c] = sum >> BITS
  }
}

/** All of a row of RGB, each weight read once. */
function rgbRow(from: Uint8ClampedArray, to: Uint8ClampedArray, t: Taps): void {
  const { first, count, weights, stride } = t
  for (let x = 0; x < first.length; x++) {
    let red = 1 << (BITS - 1)
    let green = red
    let blue = red
    let at = first[x]! * 3
    const base = x * stride
    const end = base + count[x]!
    for (let i = base; i < end; i++, at += 3) {
      const w = weights[i]!
      red = (red + Math.imul(from[at]!, w)) | 0
      green = (green + Math.imul(from[at + 1]!, w)) | 0
      blue = (blue + Math.imul(from[at + 2]!, w)) | 0
    }
    to[x * 3] = red >> BITS
    to[x * 3 + 1] = green >> BITS
    to[x * 3 + 2] = blue >> BITS
  }
}

/** Vertical pass; `top` is the source row that row 0 of `source` holds. */
function alongColumns(source: Picture, height: number, t: Taps, top: number): Picture {
  const { channels, data } = source
  const line = source.width * channels
  const out = blank(source.width, height, channels)
  const sums = new Int32Array(line)
  for (let y = 0; y < height; y++) {
    sums.fill(1 << (BITS - 1))
    for (let i = 0; i < t.count[y]!; i++) {
      const w = t.weights[y * t.stride + i]!
      const from = (t.first[y]! - top + i) * line
      for (let x = 0; x < line; x++) sums[x] = (sums[x]! + Math.imul(data[from + x]!, w)) | 0
    }
    for (let x = 0, to = y * line; x < line; x++) out.data[to++] = sums[x]! >> BITS
  }
  return out
}

/** Nearest neighbour as Pillow: the source pixel under the centre, its place summed up step by step. */
function nearest(source: Picture, width: number, height: number, box: Box): Picture {
  const { channels, data } = source
  const places = (from: number, to: number, size: number, limit: number): Int32Array => {
    const step = (to - from) / size
    let at = from + step * 0.5
    const out = new Int32Array(size)
    for (let i = 0; i < size; i++, at += step) out[i] = Math.trunc(at) < limit ? Math.trunc(at) : -1
    return out
  }
  const xs = places(box[0], box[2], width, source.width)
  const ys = places(box[1], box[3], height, source.height)
  const out = blank(width, height, channels)
  let to = 0
  for (const y of ys) {
    for (const x of xs) {
      // a sum that rounds past the edge leaves black, as Pillow's does
      for (let c = 0; c < channels; c++)
        out.data[to++] = x < 0 || y < 0 ? 0 : data[(y * source.width + x) * channels + c]!
    }
  }
  return out
}

/** Colour times alpha and back, as Pillow does around the resampling of RGBA. */
function premultiply(picture: Picture): Picture {
  const data = picture.data.slice()
  for (let i = 0; i < data.length; i += 4) {
    for (let c = 0; c < 3; c++) {
      const product = data[i + c]! * data[i + 3]! + 128
      data[i + c] = ((product >> 8) + product) >> 8
    }
  }
  return { ...picture, data }
}

function unpremultiply(picture: Picture): Picture {
  const { data } = picture
  for (let i = 0; i < data.length; i += 4) {
    const alpha = data[i + 3]!
    if (alpha === 0 || alpha === 255) continue
    for (let c = 0; c < 3; c++) data[i + c] = Math.trunc((255 * data[i + c]!) / alpha)
  }
  return picture
}

/**
 * Resizes with the values Pillow's Image.resize gives, bit for bit: separable convolution in 22-bit
 * fixed point (Resample.c of Pillow 13), RGBA premultiplied for the time being.
 * @param box part of the source to read, default all of it; may have zero extent
 */
export function resize(
  source: Picture,
  width: number,
  height: number,
  filter: Filter = "lanczos",
  box?: Box,
): Picture {
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    fail("IMAGE_SHAPE", `cannot resize to ${width}x${height}`, {
      hint: "sides are whole numbers of at least 1",
    })
  }
  const [left, top, right, bottom] = box ?? [0, 0, source.width, source.height]
  const whole = left === 0 && top === 0 && right === source.width && bottom === source.height
  if (whole && width === source.width && height === source.height)
    return { ...source, data: source.data.slice() }
  if (filter === "nearest") return nearest(source, width, height, [left, top, right, bottom])
  const area: Box = [left, top, right, bottom]
  if (source.channels !== 4) return convolve(source, width, height, kernels[filter], area)
  return unpremultiply(convolve(premultiply(source), width, height, kernels[filter], area))
}

function convolve(source: Picture, width: number, height: number, kernel: Kernel, box: Box): Picture {
  const [left, top, right, bottom] = box
  const rows = taps(source.height, top, bottom, height, kernel)
  const columns = taps(source.width, left, right, width, kernel)
  const horizontal = width !== source.width || left !== 0 || right !== width
  const vertical = height !== source.height || top !== 0 || bottom !== height
  if (!horizontal) return vertical ? alongColumns(source, height, rows, 0) : source
  // the order Pillow 13 takes, found by trial: rows go first where far more of them vanish than columns
  const lost = source.height - height
  if (lost > 0 && lost > 2 * (source.width - width)) {
    return alongRows(alongColumns(source, height, rows, 0), width, columns, 0, height)
  }
  const first = rows.first[0]!
  const end = rows.first[height - 1]! + rows.count[height - 1]!
  const picture = alongRows(source, width, columns, first, end)
  return vertical ? alongColumns(picture, height, rows, first) : picture
}

/** Copies `part` into `frame` with its upper left corner at (x, y); what lies outside is cut off. */
function paste(frame: Picture, part: Picture, x: number, y: number): void {
  const { channels } = frame
  const x0 = Math.max(0, x)
  const x1 = Math.min(frame.width, x + part.width)
  if (x1 <= x0) return
  for (let row = Math.max(0, y); row < Math.min(frame.height, y + part.height); row++) {
    const from = ((row - y) * part.width + (x0 - x)) * channels
    frame.data.set(part.data.subarray(from, from + (x1 - x0) * channels), (row * frame.width + x0) * channels)
  }
}

/**
 * Brings a picture to width x height as diffusers' VaeImageProcessor.resize does for each mode:
 * stretch ignores the aspect ratio, crop covers and cuts the excess evenly, fill fits inside and
 * stretches the outermost lines (bicubic) over the rest. Alpha is dropped by crop and fill.
 */
export function fit(
  source: Picture,
  width: number,
  height: number,
  mode: Fit = "stretch",
  filter: Filter = "lanczos",
): Picture {
  if (mode === "stretch") return resize(source, width, height, filter)
  const picture = source.channels === 4 ? toRgb(source) : source
  const ratio = width / height
  const own = picture.width / picture.height
  const byWidth = mode === "crop" ? ratio > own : ratio < own
  const w = byWidth ? width : Math.floor((picture.width * height) / picture.height)
  const byHeight = mode === "crop" ? ratio <= own : ratio >= own
  const h = byHeight ? height : Math.floor((picture.height * width) / picture.width)
  const inner = resize(picture, w, h, filter)
  const frame = blank(width, height, picture.channels)
  const x = Math.floor(width / 2) - Math.floor(w / 2)
  const y = Math.floor(height / 2) - Math.floor(h / 2)
  paste(frame, inner, x, y)
  if (mode === "fill" && ratio < own && y > 0) {
    paste(frame, resize(inner, width, y, "bicubic", [0, 0, width, 0]), 0, 0)
    paste(frame, resize(inner, width, y, "bicubic", [0, h, width, h]), 0, y + h)
  } else if (mode === "fill" && ratio > own && x > 0) {
    paste(frame, resize(inner, x, height, "bicubic", [0, 0, 0, height]), 0, 0)
    paste(frame, resize(inner, x, height, "bicubic", [w, 0, w, height]), x + w, 0)
  }
  return frame
}

/**
 * torch.nn.functional.interpolate(mode="nearest") on float planes: floor(i * in / out) in float32.
 * @param planes [count, height, width]
 */
export function resizePlanes(
  planes: Float32Array,
  from: { width: number; height: number },
  to: { width: number; height: number },
): Float32Array {
  const size = from.width * from.height
  if (planes.length % size !== 0)
    fail("IMAGE_SHAPE", `${planes.length} values do not fit planes of ${from.height}x${from.width}`)
  const places = (a: number, b: number) => {
    const step = Math.fround(a / b)
    return Int32Array.from({ length: b }, (_, i) => Math.min(a - 1, Math.floor(Math.fround(i * step))))
  }
  const xs = places(from.width, to.width)
  const ys = places(from.height, to.height)
  const out = new Float32Array((planes.length / size) * to.width * to.height)
  let at = 0
  for (let base = 0; base < planes.length; base += size) {
    for (const y of ys) for (const x of xs) out[at++] = planes[base + y * from.width + x]!
  }
  return out
}

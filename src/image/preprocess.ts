import { fail } from "../errors.ts"
import { blank, type Picture, toGrey, toRgb } from "./pixels.ts"

/** What makes a condition picture for a ControlNet out of an ordinary one, or of a depth map. */
export const preprocessors = ["none", "canny", "lines", "depth"] as const
export type Preprocessor = (typeof preprocessors)[number]

/** Applies a preprocessor by name. @throws REQUEST_PREPROCESS */
export function preprocess(picture: Picture, name: Preprocessor): Picture {
  if (name === "none") return picture
  if (name === "canny") return canny(picture)
  if (name === "lines") return lines(picture)
  if (name === "depth") return depth(picture)
  return fail("REQUEST_PREPROCESS", `there is no preprocessor ${String(name)}`, {
    hint: `use one of ${preprocessors.join(", ")}`,
  })
}

function grey(width: number, height: number, values: ArrayLike<number>): Picture {
  const out = blank(width, height, 3)
  for (let i = 0; i < width * height; i++) out.data.fill(values[i]!, 3 * i, 3 * i + 3)
  return out
}

const tan22 = Math.round(0.4142135623730951 * 2 ** 15)

/** Sobel's derivatives with replicated edges, of the channel that changes most at each place. */
function gradients({ data, width, height }: Picture): { dx: Int32Array; dy: Int32Array; size: Int32Array } {
  const [dx, dy, size] = [0, 1, 2].map(() => new Int32Array(width * height)) as [
    Int32Array,
    Int32Array,
    Int32Array,
  ]
  const row = (y: number) => Math.min(height - 1, Math.max(0, y)) * width
  const column = (x: number) => Math.min(width - 1, Math.max(0, x))
  for (let y = 0; y < height; y++) {
    const [above, here, below] = [row(y - 1), row(y), row(y + 1)]
    for (let x = 0; x < width; x++) {
      const [left, right] = [column(x - 1), column(x + 1)]
      const at = here + x
      for (let c = 0; c < 3; c++) {
        const v = (place: number) => data[3 * place + c]!
        const gx =
          v(above + right) +
          2 * v(here + right) +
          v(below + right) -
          v(above + left) -
          2 * v(here + left) -
          v(below + left)
        const gy =
          v(below + left) +
          2 * v(below + x) +
          v(below + right) -
          v(above + left) -
          2 * v(above + x) -
          v(above + right)
        const length = Math.abs(gx) + Math.abs(gy)
        if (c > 0 && length <= size[at]!) continue
        size[at] = length
        dx[at] = gx
        dy[at] = gy
      }
    }
  }
  return { dx, dy, size }
}

/**
 * White edges on black: Canny 1986, with lengths as sums of absolute derivatives and the sectors of OpenCV's version.
 * @param low gradient length (0..2040) from which an edge goes on
 * @param high length from which it begins
 */
export function canny(picture: Picture, low = 100, high = 200): Picture {
  const { width, height } = picture
  const { dx, dy, size } = gradients(toRgb(picture))
  const length = (x: number, y: number) =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : size[y * width + x]!
  const peak = (x: number, y: number): boolean => {
    const at = y * width + x
    const m = size[at]!
    const across = Math.abs(dx[at]!)
    const up = Math.abs(dy[at]!) * 2 ** 15
    if (up < across * tan22) return m > length(x - 1, y) && m >= length(x + 1, y)
    if (up > across * tan22 + across * 2 ** 16) return m > length(x, y - 1) && m >= length(x, y + 1)
    const side = dx[at]! < 0 !== dy[at]! < 0 ? -1 : 1
    return m > length(x - side, y - 1) && m > length(x + side, y + 1)
  }
  // 0 none, 1 may go on, 2 edge
  const state = new Uint8Array(width * height)
  const stack: number[] = []
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x
      if (size[at]! <= low || !peak(x, y)) continue
      state[at] = size[at]! > high ? 2 : 1
      if (state[at] === 2) stack.push(at)
    }
  }
  follow(state, stack, width, height)
  return grey(
    width,
    height,
    state.map((s) => (s === 2 ? 255 : 0)),
  )
}

/** Carries edges on along their weaker neighbours. */
function follow(state: Uint8Array, stack: number[], width: number, height: number): void {
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    const [x0, y0] = [at % width, Math.floor(at / width)]
    for (let y = Math.max(0, y0 - 1); y <= Math.min(height - 1, y0 + 1); y++) {
      for (let x = Math.max(0, x0 - 1); x <= Math.min(width - 1, x0 + 1); x++) {
        if (state[y * width + x] !== 1) continue
        state[y * width + x] = 2
        stack.push(y * width + x)
      }
    }
  }
}

/** Deviation of the blur that tells a line from its surroundings, in pixels. */
const blur = 6

/**
 * White lines on black, for line-art ControlNets: how much darker a place is than its surroundings, brought to a median
 * of half white.
 */
export function lines(picture: Picture): Picture {
  const { width, height, data } = toRgb(picture)
  const area = width * height
  const darker = new Float32Array(area).fill(255)
  for (let c = 0; c < 3; c++) {
    const plane = Float32Array.from({ length: area }, (_, i) => data[3 * i + c]!)
    const around = gaussian(plane, width, height, blur)
    for (let i = 0; i < area; i++) darker[i] = Math.min(darker[i]!, Math.max(0, around[i]! - plane[i]!))
  }
  const clear = darker.filter((v) => v > 8).sort()
  const middle = clear.length === 0 ? 0 : (clear[(clear.length - 1) >> 1]! + clear[clear.length >> 1]!) / 2
  const unit = Math.max(16, middle)
  return grey(
    width,
    height,
    darker.map((v) => Math.min(255, Math.floor((v / unit) * 127))),
  )
}

/** Gaussian blur of a plane, with mirrored edges. */
function gaussian(plane: Float32Array, width: number, height: number, sigma: number): Float32Array {
  const reach = Math.ceil(4 * sigma)
  const kernel = Float64Array.from({ length: 2 * reach + 1 }, (_, i) =>
    Math.exp(-((i - reach) ** 2) / (2 * sigma ** 2)),
  )
  const sum = kernel.reduce((a, b) => a + b, 0)
  const pass = (
    from: Float32Array,
    count: number,
    step: number,
    lanes: number,
    stride: number,
  ): Float32Array => {
    const to = new Float32Array(from.length)
    for (let lane = 0; lane < lanes; lane++) {
      for (let i = 0; i < count; i++) {
        let v = 0
        for (let k = -reach; k <= reach; k++)
          v += from[lane * stride + mirrored(i + k, count) * step]! * kernel[k + reach]!
        to[lane * stride + i * step] = v / sum
      }
    }
    return to
  }
  return pass(pass(plane, width, 1, height, width), height, width, width, 1)
}

/** An index folded back into 0..n-1, the edge itself not repeated. */
function mirrored(i: number, n: number): number {
  if (n === 1) return 0
  const period = 2 * (n - 1)
  const at = ((i % period) + period) % period
  return at < n ? at : period - at
}

/** A depth map from a file, near white and far black, stretched to the whole range. */
export function depth(picture: Picture): Picture {
  const { data, width, height } = toGrey(toRgb(picture))
  let [low, high] = [255, 0]
  for (const v of data) {
    low = Math.min(low, v)
    high = Math.max(high, v)
  }
  const span = Math.max(1, high - low)
  return grey(
    width,
    height,
    Float32Array.from(data, (v) => Math.round(((v - low) / span) * 255)),
  )
}

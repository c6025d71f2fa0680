import { type Picture, resize } from "../index.ts"

/** Ways of enlarging a picture, by A1111's names. */
export const upscalers = ["None", "Lanczos", "Nearest"] as const
export type Upscaler = (typeof upscalers)[number]

/** How a picture is to be enlarged. */
export interface Enlarging {
  /** The second one is laid over the first by `blend`. */
  upscalers: readonly Upscaler[]
  blend: number
  /** A factor, or a size to fill. */
  to: { factor: number } | { width: number; height: number; crop: boolean }
}

const eights = (pixels: number) => Math.max(8, Math.floor(Math.floor(pixels) / 8) * 8)

/** Sides of the enlarged picture before a crop: A1111's, multiples of 8. */
export function enlargedSize({ width, height }: { width: number; height: number }, { to }: Enlarging) {
  const factor = "factor" in to ? to.factor : Math.max(to.width / width, to.height / height)
  return { width: eights(width * factor), height: eights(height * factor) }
}

/** A1111's extras tab: enlarged by one way or a blend of two, and cut to a size where one is asked for. */
export function enlarge(picture: Picture, asked: Enlarging): Picture {
  const made = asked.upscalers
    .filter((name) => name !== "None")
    .map((name) => {
      const { width, height } = enlargedSize(picture, asked)
      return resize(picture, width, height, name === "Nearest" ? "nearest" : "lanczos")
    })
  const [first, second] = made
  if (!first) return picture
  const whole = second ? blend(first, second, asked.blend) : first
  return "crop" in asked.to && asked.to.crop ? middle(whole, asked.to.width, asked.to.height) : whole
}

function blend(a: Picture, b: Picture, share: number): Picture {
  const data = a.data.map((value, i) => Math.round(value + share * (b.data[i]! - value)))
  return { ...a, data: Uint8ClampedArray.from(data) }
}

/** The middle of a picture; what lies beyond it stays black. */
function middle(picture: Picture, width: number, height: number): Picture {
  const { channels } = picture
  const data = new Uint8ClampedArray(width * height * channels)
  const left = Math.floor(width / 2) - Math.floor(picture.width / 2)
  const top = Math.floor(height / 2) - Math.floor(picture.height / 2)
  for (let y = Math.max(0, top); y < Math.min(height, top + picture.height); y++) {
    const from = Math.max(0, -left)
    const count = Math.min(width, left + picture.width) - Math.max(0, left)
    const row = ((y - top) * picture.width + from) * channels
    data.set(picture.data.subarray(row, row + count * channels), (y * width + Math.max(0, left)) * channels)
  }
  return { width, height, channels, data }
}

import { AquatintError } from "../errors.ts"
import { type LoadedUpscaler, loadUpscaler, type Picture, resize } from "../index.ts"
import type { Models } from "./models.ts"

/** Ways of enlarging a picture that need no file, by A1111's names. */
export const filters = ["None", "Lanczos", "Nearest"] as const

/** How a picture is to be enlarged. */
export interface Enlarging {
  /** Filters, or ids of networks; the second one is laid over the first by `blend`. */
  upscalers: readonly string[]
  blend: number
  /** A factor, or a size to fill. */
  to: { factor: number } | { width: number; height: number; crop: boolean }
}

/** A filter, or the id of a network, that a client's name means. @throws UPSCALER */
export function upscalerNamed(models: Models, name: string | null | undefined): string {
  const asked = name || "None"
  const known =
    filters.find((one) => one.toLowerCase() === asked.toLowerCase()) ?? models.upscalers.named(asked)?.id
  if (known !== undefined) return known
  throw new AquatintError("UPSCALER", `there is no upscaler ${asked.slice(0, 80)}`, {
    hint: `one of ${[...filters, ...models.upscalers.all.map(({ id }) => id)].slice(0, 20).join(", ")}`,
  })
}

/** The network that was used last, in a process of its own. */
export class Enlargers {
  private readonly pathOf: (id: string) => string
  private last: { path: string; net: LoadedUpscaler } | undefined

  /** @param pathOf the file of a network's id. @throws REQUEST_UPSCALER */
  constructor(pathOf: (id: string) => string) {
    this.pathOf = pathOf
  }

  async get(id: string): Promise<LoadedUpscaler> {
    const path = this.pathOf(id)
    if (this.last?.path === path) return this.last.net
    await this.close()
    const net = await loadUpscaler(path)
    this.last = { path, net }
    return net
  }

  /** Ends the process; what it was doing fails. */
  async close(): Promise<void> {
    const net = this.last?.net
    this.last = undefined
    await net?.release()
  }
}

const eights = (pixels: number) => Math.max(8, Math.floor(Math.floor(pixels) / 8) * 8)

/** Sides of the enlarged picture before a crop: A1111's, multiples of 8. */
export function enlargedSize({ width, height }: { width: number; height: number }, { to }: Enlarging) {
  const factor = "factor" in to ? to.factor : Math.max(to.width / width, to.height / height)
  return { width: eights(width * factor), height: eights(height * factor) }
}

/** A1111's extras tab: enlarged by one way or a blend of two, and cut to a size where one is asked for. */
export async function enlarge(
  picture: Picture,
  asked: Enlarging,
  networks: Enlargers,
  signal: AbortSignal,
): Promise<Picture> {
  const { width, height } = enlargedSize(picture, asked)
  const made: Picture[] = []
  for (const name of asked.upscalers) {
    if (name === "None") continue
    if (name === "Lanczos" || name === "Nearest")
      made.push(resize(picture, width, height, name === "Nearest" ? "nearest" : "lanczos"))
    else made.push(await (await networks.get(name)).enlarge(picture, width, height, signal))
  }
  const [first, second] = made
  if (!first) return picture
  const whole = second ? blend(first, second, asked.blend) : first
  return "crop" in asked.to && asked.to.crop ? middle(whole, asked.to.width, asked.to.height) : whole
}

/** Without transparency where one of the two has none. */
function blend(a: Picture, b: Picture, share: number): Picture {
  const channels = a.channels < b.channels ? a.channels : b.channels
  const data = new Uint8ClampedArray(a.width * a.height * channels)
  for (let i = 0; i < a.width * a.height; i++)
    for (let c = 0; c < channels; c++) {
      const [from, to] = [a.data[i * a.channels + c]!, b.data[i * b.channels + c]!]
      data[i * channels + c] = Math.round(from + share * (to - from))
    }
  return { width: a.width, height: a.height, channels, data }
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

import { blank, type Picture } from "../image/pixels.ts"

/** Share of red, green and blue in each of Stable Diffusion's four latent channels: a least-squares fit, good enough to watch. */
const colours = [
  [0.298, 0.207, 0.208],
  [0.187, 0.286, 0.173],
  [-0.158, 0.189, 0.264],
  [-0.184, -0.271, -0.473],
] as const

/** Latents as a small picture, one pixel per latent place, by one matrix; no network runs. */
export function latentPreview(
  x0: Float32Array,
  { size: [height, width], channels }: { size: readonly [number, number]; channels: number },
): Picture {
  const picture = blank(width, height, 3)
  const area = width * height
  for (let i = 0; i < area; i++) {
    for (let rgb = 0; rgb < 3; rgb++) {
      let v = 0
      for (let c = 0; c < Math.min(channels, 4); c++) v += x0[c * area + i]! * colours[c]![rgb]!
      picture.data[3 * i + rgb] = (v * 0.5 + 0.5) * 255
    }
  }
  return picture
}

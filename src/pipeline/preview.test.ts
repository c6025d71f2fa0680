import { expect, test } from "vitest"
import type { Networks } from "./networks.ts"
import { coloursOf, latentPreview } from "./preview.ts"

const size = [16, 16] as const
const sized = { size, channels: 3 }
const shares = [
  [0.1, -0.2, 0.3],
  [0.5, 0, -0.25],
  [-0.125, 0.75, 0],
  [0, 0.0625, 1],
] as const

/** A decoder that paints each place in a mixture of its latents, four pixels wide. */
const paints = async ({ latents }: { latents: { data: Float32Array; shape: number[] } }) => {
  const [rows, channels, side] = latents.shape as [number, number, number]
  const wide = side * 4
  const image = Float32Array.from({ length: rows * 3 * wide * wide }, (_, i) => {
    const [x, y, rgb] = [i % wide, Math.floor(i / wide) % wide, Math.floor(i / wide ** 2) % 3]
    const place = (Math.floor(y / 4) * side + Math.floor(x / 4)) | 0
    const row = Math.floor(i / wide ** 2 / 3)
    // the decoder reads latents that are not scaled
    const z = (c: number) => 0.5 * latents.data[(row * channels + c) * side * side + place]!
    return shares.reduce((sum, share, c) => sum + share[rgb]! * (c === 0 ? 1 : z(c - 1)), 0)
  })
  return { image: { data: image } }
}

const networks = (vaeBytes: number) =>
  ({
    vaeBytes,
    vae: { latent_channels: 3, block_out_channels: [1, 1, 1], scaling_factor: 0.5 },
    decoder: async () => ({ run: paints }),
  }) as unknown as Networks

test("a small decoder is asked what its latents look like", async () => {
  const colours = await coloursOf(networks(1e6), sized)
  for (const [i, share] of shares.entries())
    for (const [rgb, want] of share.entries()) expect(colours[i]![rgb]).toBeCloseTo(want, 5)
  const { data } = latentPreview(new Float32Array(3 * 16 * 16), sized, colours)
  expect([...data.slice(0, 3)]).toEqual([140, 102, 166])
})

test("a large one is taken for Stable Diffusion's", async () => {
  const colours = await coloursOf(networks(300e6), sized)
  expect(colours[0]).toEqual([0, 0, 0])
  expect(colours).toHaveLength(5)
})

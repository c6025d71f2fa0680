import type { Picture } from "../image/pixels.ts"
import type { Value } from "../runtime/engine.ts"

/** Part of an RGB picture as numbers in -1..1, channels first, into `out` at `at`; mirrored if asked. */
export function cropInto(
  out: Float32Array,
  at: number,
  picture: { width: number; height: number; data: ArrayLike<number> },
  crop: { x: number; y: number; size: number; mirror: boolean },
): void {
  const { size } = crop
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < size; y++) {
      const row = (crop.y + y) * picture.width + crop.x
      const to = at + (c * size + y) * size
      for (let x = 0; x < size; x++)
        out[to + x] = picture.data[3 * (row + (crop.mirror ? size - 1 - x : x)) + c]! / 127.5 - 1
    }
}

/** Pictures of -1..1 (b 3 h w, one or several arrays of equal rows) as one sheet, `columns` wide. */
export function contactSheet(batches: readonly Value[], columns: number): Picture {
  const [, , height, width] = batches[0]!.shape as [number, number, number, number]
  const tiles = batches.flatMap(({ data, shape }) =>
    Array.from({ length: shape[0]! }, (_, i) =>
      (data as Float32Array).subarray(3 * i * height * width, 3 * (i + 1) * height * width),
    ),
  )
  const lines = Math.ceil(tiles.length / columns)
  const [wide, tall] = [columns * width, lines * height]
  const out = new Uint8ClampedArray(wide * tall * 3)
  tiles.forEach((tile, n) => {
    const [left, top] = [(n % columns) * width, Math.floor(n / columns) * height]
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++)
          out[3 * ((top + y) * wide + left + x) + c] = (tile[(c * height + y) * width + x]! + 1) * 127.5
  })
  return { width: wide, height: tall, channels: 3, data: out }
}

/** Peak signal-to-noise ratio in dB of pictures in -1..1, each for itself: b c h w. */
export function psnr(made: Value, wanted: Value): number[] {
  const rows = made.shape[0]!
  const size = made.data.length / rows
  return Array.from({ length: rows }, (_, r) => {
    let sum = 0
    for (let i = r * size; i < (r + 1) * size; i++) {
      const clamped = Math.min(1, Math.max(-1, Number(made.data[i])))
      sum += (clamped - Number(wanted.data[i])) ** 2
    }
    return 10 * Math.log10(4 / Math.max(sum / size, 1e-10))
  })
}

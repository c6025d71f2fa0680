import { fail } from "../../errors.ts"

/** A picture size that batches are made of. */
export interface Size {
  readonly width: number
  readonly height: number
}

export interface BucketOptions {
  /** Side of the square whose area no bucket exceeds. */
  readonly resolution: number
  /** Sides are multiples of this: 64, or the autoencoder's factor times the U-Net's. */
  readonly step: number
  /** Shortest and longest side; default half and double the resolution. */
  readonly shortest?: number
  readonly longest?: number
  /** All pictures in one square. */
  readonly square?: boolean
}

/** Every size of at most resolution^2 pixels whose sides are multiples of `step`, the largest of each width; by aspect ratio. */
export function bucketSizes({ resolution, step, shortest, longest, square }: BucketOptions): Size[] {
  const base = Math.floor(resolution / step) * step
  if (base < step)
    fail(
      "TRAIN_CONFIG",
      `a resolution of ${resolution} is less than ${step}, the smallest this model can learn`,
      {
        hint: `sides are multiples of ${step}`,
      },
    )
  const found = new Map<string, Size>([[`${base}`, { width: base, height: base }]])
  if (square) return [...found.values()]
  const [low, high] = [Math.max(step, shortest ?? resolution / 2), longest ?? resolution * 2]
  for (let width = Math.ceil(low / step) * step; width <= high; width += step) {
    const height = Math.min(Math.floor(resolution ** 2 / width / step) * step, Math.floor(high / step) * step)
    if (height < low) continue
    for (const size of [
      { width, height },
      { width: height, height: width },
    ])
      if (size.width !== size.height) found.set(nameOf(size), size)
  }
  return [...found.values()].sort((a, b) => a.width / a.height - b.width / b.height || a.width - b.width)
}

/** The bucket whose aspect ratio is nearest, as a factor; the larger one of equals. */
export function bucketFor({ width, height }: Size, sizes: readonly Size[]): Size {
  const off = (s: Size) => Math.abs(Math.log(s.width / s.height) - Math.log(width / height))
  return sizes.reduce((best, s) =>
    off(s) < off(best) - 1e-9 || (off(s) < off(best) + 1e-9 && s.width * s.height > best.width * best.height)
      ? s
      : best,
  )
}

/** `512x768`: the name of a size, and of the graph that takes it. */
export const nameOf = ({ width, height }: Size): string => `${width}x${height}`

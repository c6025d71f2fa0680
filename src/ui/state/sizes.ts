/** Sides in pixels. */
export interface Size {
  readonly width: number
  readonly height: number
}

/** By how many pixels sides are offered: 64 around 512 pixels and more, finer for models and pictures that are smaller. */
export const grain = (side: number): number => Math.min(64, Math.max(8, 8 * Math.round(side / 64)))

export const sameSize = (a: Size, b: Size): boolean => a.width === b.width && a.height === b.height

/** Formats around a model's native side, its area kept roughly. */
export function formats(side: number): Record<"square" | "portrait" | "landscape", Size> {
  const step = grain(side)
  const near = (v: number) => Math.max(64, Math.round(v / step) * step)
  const [long, short] = [near(side * 1.25), near(side * 0.85)]
  return {
    square: { width: side, height: side },
    portrait: { width: short, height: long },
    landscape: { width: long, height: short },
  }
}

/** A size in multiples of 8, which models can draw. */
function eights({ width, height }: Size, scale: number, round: (v: number) => number): Size {
  const side = (v: number) => Math.max(64, 8 * round((v * scale) / 8))
  return { width: side(width), height: side(height) }
}

/** By how much a picture may be larger than what its model was made for and still be drawn as it is. */
const roomy = 1.25

/** A picture's shape in about the area that a model was made for; what is not larger stays. */
export function nativeSize(picture: Size, native: Size): Size {
  const share = (native.width * native.height) / (picture.width * picture.height)
  return eights(picture, share * roomy >= 1 ? 1 : Math.sqrt(share), Math.round)
}

/** A picture's own size, as far as the studio draws it. */
export function ownSize(picture: Size, most: { readonly side: number; readonly pixels: number }): Size {
  const { width, height } = picture
  const scale = Math.min(1, most.side / Math.max(width, height), Math.sqrt(most.pixels / (width * height)))
  return eights(picture, scale, scale < 1 ? Math.floor : Math.round)
}

/** The sides that the reader chose; one that is left open follows the shape. */
export function chosenSize(shape: Size, { width, height }: { width?: number; height?: number }): Size {
  if (width !== undefined && height !== undefined) return { width, height }
  if (width === undefined && height === undefined) return shape
  const scale = width === undefined ? height! / shape.height : width / shape.width
  return { ...eights(shape, scale, Math.round), ...(width === undefined ? { height: height! } : { width }) }
}

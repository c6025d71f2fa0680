import { blank, png } from "../state/bitmap.ts"
import type { Size } from "../state/sizes.ts"

/** One act on a mask; places in pixels of the picture. */
export type Act =
  | {
      readonly kind: "paint" | "erase"
      readonly size: number
      readonly points: readonly (readonly [number, number])[]
    }
  | { readonly kind: "fill" | "clear" | "invert" }

/** How far a picture goes on beyond each of its edges, in pixels. */
export interface Sides {
  readonly left: number
  readonly right: number
  readonly top: number
  readonly bottom: number
}

export const noSides: Sides = { left: 0, right: 0, top: 0, bottom: 0 }

export const extended = ({ width, height }: Size, { left, right, top, bottom }: Sides): Size => ({
  width: width + left + right,
  height: height + top + bottom,
})

/** Draws the acts on a transparent canvas of the picture's shape, opaque where the picture is to be repainted. */
export function drawMask(
  context: CanvasRenderingContext2D,
  { width, height }: Size,
  acts: readonly Act[],
): void {
  const { canvas } = context
  context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0)
  context.clearRect(0, 0, width, height)
  context.lineCap = "round"
  context.lineJoin = "round"
  for (const act of acts) {
    context.globalCompositeOperation = modes[act.kind]
    if ("points" in act) stroke(context, act)
    else if (act.kind === "clear") context.clearRect(0, 0, width, height)
    else context.fillRect(0, 0, width, height)
  }
  context.globalCompositeOperation = "source-over"
}

const modes: Record<Act["kind"], GlobalCompositeOperation> = {
  paint: "source-over",
  erase: "destination-out",
  fill: "source-over",
  clear: "source-over",
  invert: "xor",
}

function stroke(
  context: CanvasRenderingContext2D,
  { size, points }: Extract<Act, { points: unknown }>,
): void {
  context.lineWidth = size
  context.beginPath()
  const [first = [0, 0]] = points
  context.moveTo(first[0], first[1])
  // a dot is a line of no length
  for (const [x, y] of points.length === 1 ? [first] : points.slice(1)) context.lineTo(x, y)
  context.stroke()
}

/**
 * The mask as a file: white is repainted, black stays. Null where nothing is white.
 * @param picture what the acts' places are measured in
 * @param size of the file
 */
export async function maskFile(picture: Size, size: Size, acts: readonly Act[]): Promise<Blob | null> {
  const context = blank(size)
  drawMask(context, picture, acts)
  const image = context.getImageData(0, 0, size.width, size.height)
  let any = false
  for (let i = 0; i < image.data.length; i += 4) {
    const white = image.data[i + 3]! >= 128
    any ||= white
    image.data.fill(white ? 255 : 0, i, i + 3)
    image.data[i + 3] = 255
  }
  context.putImageData(image, 0, 0)
  return any ? png(context) : null
}

/**
 * A larger picture whose new parts are white in its mask; they start from the edges' colours.
 * @param step the least a side grows by
 */
export async function extendFiles(
  picture: ImageBitmap,
  sides: Sides,
  step: number,
): Promise<{ init: Blob; mask: Blob; size: Size }> {
  const size = extended(picture, sides)
  const context = blank(size)
  stretchEdges(context, picture, sides, step)
  context.drawImage(picture, sides.left, sides.top)
  const mask = blank(size)
  mask.fillStyle = "#fff"
  mask.fillRect(0, 0, size.width, size.height)
  mask.fillStyle = "#000"
  // new and old overlap, so that the seam is drawn anew
  const overlap = Math.max(8, step / 4)
  const inset = (side: number) => (side > 0 ? overlap : 0)
  mask.fillRect(
    sides.left + inset(sides.left),
    sides.top + inset(sides.top),
    picture.width - inset(sides.left) - inset(sides.right),
    picture.height - inset(sides.top) - inset(sides.bottom),
  )
  return { init: await png(context), mask: await png(mask), size }
}

/** Mirrors the picture across its edges, softened: plausible light for what comes. */
export function stretchEdges(
  context: CanvasRenderingContext2D,
  picture: ImageBitmap,
  sides: Sides,
  step: number,
): void {
  const { width, height } = picture
  context.save()
  context.filter = `blur(${(step * 3) / 16}px)`
  for (const fx of [-1, 1, 0] as const)
    for (const fy of [-1, 1, 0] as const) {
      const x = sides.left + fx * width
      const y = sides.top + fy * height
      context.save()
      context.translate(x + (fx ? width : 0), y + (fy ? height : 0))
      context.scale(fx ? -1 : 1, fy ? -1 : 1)
      context.drawImage(picture, 0, 0)
      context.restore()
    }
  context.restore()
}

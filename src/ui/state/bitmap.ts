import type { Size } from "./sizes.ts"

/** A new canvas of this size. */
export const blank = ({ width, height }: Size): CanvasRenderingContext2D => {
  const canvas = document.createElement("canvas")
  canvas.width = width
  canvas.height = height
  return canvas.getContext("2d", { willReadFrequently: true })!
}

/** What is on a canvas, as a file. */
export const png = (context: CanvasRenderingContext2D): Promise<Blob> =>
  new Promise((done, fail) =>
    context.canvas.toBlob(
      (blob) => (blob ? done(blob) : fail(new Error("no picture came out"))),
      "image/png",
    ),
  )

/** The picture at another size, as a file. */
export async function resizedFile(picture: ImageBitmap, size: Size): Promise<Blob> {
  const context = blank(size)
  context.imageSmoothingQuality = "high"
  context.drawImage(picture, 0, 0, size.width, size.height)
  return png(context)
}

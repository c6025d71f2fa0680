import { decodeImage, encodeImage, readMetadata, resize } from "../../web.ts"

/** A picture file made larger by Lanczos; what it says of its making goes on with it. Sides are multiples of 8. */
export async function enlargedFile(
  file: Blob,
  factor: number,
): Promise<{ picture: Blob; width: number; height: number }> {
  const bytes = new Uint8Array(await file.arrayBuffer())
  const { parameters, xmp } = await readMetadata(bytes)
  const from = await decodeImage(bytes)
  const side = (pixels: number) => 8 * Math.floor((pixels * factor) / 8)
  const [width, height] = [side(from.width), side(from.height)]
  const metadata = { ...(parameters ? { parameters } : {}), ...(xmp ? { xmp } : {}) }
  const made = await encodeImage(resize(from, width, height), { format: "png", metadata })
  return { picture: new Blob([made as BlobPart], { type: "image/png" }), width, height }
}

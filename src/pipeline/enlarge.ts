import type { Picture } from "../image/pixels.ts"
import { resize } from "../image/resize.ts"

/** What enlarges pictures: a filter, or a network by its own factor. */
export type Enlarger = "lanczos" | "nearest" | ((picture: Picture) => Promise<Picture>)

/** How often a network may enlarge its own result. */
const rounds = 3

/**
 * A picture at width x height as A1111 gets it there: a network runs until its result is large enough, at most three
 * times, then Lanczos fits the size.
 */
export async function enlarge(
  picture: Picture,
  width: number,
  height: number,
  by: Enlarger = "lanczos",
): Promise<Picture> {
  if (by === "nearest") return resize(picture, width, height, "nearest")
  if (by === "lanczos") return resize(picture, width, height)
  let made = picture
  for (let i = 0; i < rounds && (i === 0 || made.width < width || made.height < height); i++)
    made = await by(made)
  return resize(made, width, height)
}

import { fail } from "../errors.ts"
import { composite } from "../image/mask.ts"
import { fillHole, layOver } from "../image/overlay.ts"
import { blank, type Picture, toGrey, toRgb } from "../image/pixels.ts"
import { brighten, cut, extendCanvas, maskRegion, place, shapeRegion, softenMask } from "../image/region.ts"
import { type Box, fit as fitTo, resize } from "../image/resize.ts"
import type { GenerateRequest } from "./request.ts"
import type { Settings } from "./settings.ts"

/** What is drawn of a start picture, and what becomes of the result. */
export interface Scene {
  /** RGB at the drawing's size, its hole filled as asked. */
  readonly picture: Picture
  /** White is repainted; null for image to image. */
  readonly mask: Picture | null
  /** Puts the drawing into the picture that it belongs to. */
  finish(drawn: Picture): Picture
}

/**
 * The start picture, or the part of it around the mask, as it is drawn.
 * @throws REQUEST_MASK when a part is asked for and the mask is black
 */
export function sceneOf(settings: Settings): Scene | null {
  const { init, mask, width, height, inpaintArea, maskBlur } = settings
  if (!init) return null
  if (!mask) return { picture: resize(toRgb(init), width, height), mask: null, finish: (drawn) => drawn }
  const soft = maskBlur ? softenMask(mask, maskBlur) : mask
  if (inpaintArea === "masked") return partOf(settings, toRgb(init), soft)
  const picture = resize(toRgb(init), width, height)
  const sized = maskBlur ? resize(soft, width, height) : soft
  // A1111 shows all of what was drawn from the middle of a soft edge on
  const shown = maskBlur === undefined ? null : brighten(resize(toGrey(soft), width, height), 2)
  return {
    picture: filled(settings, picture, sized),
    mask: sized,
    finish: (drawn) => (shown ? layOver(picture, drawn, shown) : drawn),
  }
}

function filled({ fill, width, height }: Settings, picture: Picture, mask: Picture): Picture {
  return fill === "original" ? picture : fillHole(picture, resize(toGrey(mask), width, height))
}

/** Only the region around the mask is drawn, at the drawing's size, as diffusers' padding_mask_crop and A1111 do. */
function partOf(settings: Settings, whole: Picture, soft: Picture): Scene {
  const { width, height, maskPadding } = settings
  const shown = resize(toGrey(soft), whole.width, whole.height)
  const found = maskRegion(shown, maskPadding)
  if (!found)
    return fail("REQUEST_MASK", "the mask is black: nothing is repainted", {
      hint: "paint white what shall be drawn anew",
    })
  const region: Box = shapeRegion(found, settings, whole)
  const mask = fitTo(cut(shown, region), width, height, "fill")
  const picture = fitTo(cut(whole, region), width, height, "fill")
  const [left, top, right, bottom] = region
  return {
    picture: filled(settings, picture, mask),
    mask,
    finish(drawn) {
      const part = fitTo(drawn, right - left, bottom - top, "crop")
      return layOver(whole, place(blank(whole.width, whole.height, 3), part, left, top), shown)
    },
  }
}

/** How far the mask of an extended picture reaches into it, and how soft its edge is. */
const extendBlur = 8

/** What outpainting makes of a request: the larger picture, its mask, and the defaults that go with them. */
export function extended(
  ask: GenerateRequest,
  step: number,
): Pick<GenerateRequest, "init" | "mask" | "fill" | "maskBlur" | "strength"> | null {
  const { init, extend, maskBlur = extendBlur } = ask
  if (!init || !extend) return null
  const old = toRgb(init)
  const sides = wholeSides(old, extend, step)
  const { picture, mask } = extendCanvas(old, sides, Math.round(maskBlur))
  return {
    init: picture,
    mask: ask.mask ? withMask(mask, resize(toGrey(ask.mask), old.width, old.height), sides) : mask,
    fill: ask.fill ?? "fill",
    maskBlur,
    strength: ask.strength ?? 0.85,
  }
}

/** Sides grown until the whole is a multiple of `step`: on a side that grows anyway, else to the right and below. */
function wholeSides(
  { width, height }: Picture,
  { left = 0, right = 0, top = 0, bottom = 0 }: NonNullable<GenerateRequest["extend"]>,
  step: number,
) {
  const missing = (n: number) => (step - (n % step)) % step
  const [x, y] = [missing(width + left + right), missing(height + top + bottom)]
  const [onLeft, onTop] = [left > 0 && right === 0, top > 0 && bottom === 0]
  return {
    left: left + (onLeft ? x : 0),
    right: right + (onLeft ? 0 : x),
    top: top + (onTop ? y : 0),
    bottom: bottom + (onTop ? 0 : y),
  }
}

/** The mask of what is new, and what the caller wants repainted of the old picture. */
function withMask(fresh: Picture, own: Picture, { left, top }: { left: number; top: number }): Picture {
  const white: Picture = { ...fresh, data: fresh.data.map(() => 255) }
  return composite(white, fresh, place(blank(fresh.width, fresh.height, 1), own, left, top))
}

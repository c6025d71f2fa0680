import { computed, signal } from "@preact/signals"
import type { Order, Print, Recipe } from "../studio/types.ts"
import { resizedFile } from "./bitmap.ts"
import { chosenSize, nativeSize, ownSize, type Size } from "./sizes.ts"
import { facts, modelOf } from "./store.ts"

/** A picture the next one starts from, with its address for showing. */
export interface StartPicture extends Size {
  readonly blob: Blob
  readonly url: string
}

/** What the reader is writing; absent fields are the model's choice. */
export const recipe = signal<Recipe>({ prompt: "" })
export const start = signal<StartPicture | null>(null)
/** A large start picture is drawn at its own size instead of its model's. */
export const keepSize = signal(false)

export const change = (some: Partial<Recipe>): void => {
  recipe.value = { ...recipe.value, ...some }
}

/** Everything but the prompt goes back to the model's choice. */
export const resetRecipe = (): void => {
  const { prompt } = recipe.value
  recipe.value = { prompt }
}

const plain = ["prompt", "strength"]
/** Fields that are not at their default, in the order in which they are shown. */
export const changed = computed(() =>
  (Object.keys(recipe.value) as (keyof Recipe)[]).filter((key) => {
    const value = recipe.value[key]
    return (
      value !== undefined &&
      value !== "" &&
      !plain.includes(key) &&
      !(Array.isArray(value) && value.length === 0)
    )
  }),
)

/** Of what a picture was made with, all that has to do with the picture it began from. */
const fromStart = new Set(
  "init mask fit maskBlur inpaintArea maskPadding fill invertMask maskFrom imageCfg strength hires".split(
    " ",
  ),
)

/** A recipe for another start picture, or for none. */
export function unstarted({ more, ...rest }: Recipe): Recipe {
  const left = Object.entries(more ?? {}).filter(([key]) => !fromStart.has(key))
  return left.length > 0 ? { ...rest, more: Object.fromEntries(left) } : rest
}

export function setStart(next: StartPicture | null): void {
  const old = start.value
  if (old && old.url !== next?.url) URL.revokeObjectURL(old.url)
  start.value = next
  keepSize.value = false
}

/** The two sizes in which a picture can be drawn again: about its model's area, and its own as far as that goes. */
export function sizesFor(picture: Size, from: Pick<Recipe, "model">): { native: Size; own: Size } {
  const most = facts.value?.limits ?? { side: 2048, pixels: 2048 ** 2 }
  const own = ownSize(picture, most)
  return { native: nativeSize(own, modelOf(from) ?? { width: 512, height: 512 }), own }
}

/** The size that is drawn after this picture as the recipe stands. */
export function sizeAfter(picture: Size): Size {
  const { native, own } = sizesFor(picture, recipe.value)
  return chosenSize(keepSize.value ? own : native, recipe.value)
}

/** Makes a file the start picture. @throws where the browser cannot read it */
export async function startFrom(blob: Blob): Promise<StartPicture> {
  const bitmap = await createImageBitmap(blob)
  const { width, height } = bitmap
  bitmap.close()
  const next = { blob, url: URL.createObjectURL(blob), width, height }
  setStart(next)
  recipe.value = unstarted(recipe.value)
  if (recipe.value.strength === undefined) change({ strength: 0.75 })
  return next
}

/** Prompt, seed and every setting of a finished picture, what it began from among them. */
export function reuse(print: Print): void {
  const { strength, count: _, more, ...rest } = print.recipe
  const whole = more && strength !== undefined ? { ...more, strength } : more
  recipe.value = whole ? { ...rest, more: whole } : rest
  setStart(null)
}

/** A picture as it goes out to be drawn again: what is much larger than that is made smaller here. */
export async function fileFor(blob: Blob, picture: Size, size: Size): Promise<Blob> {
  if (size.width > picture.width - 8 && size.height > picture.height - 8) return blob
  const bitmap = await createImageBitmap(blob)
  try {
    return await resizedFile(bitmap, size)
  } finally {
    bitmap.close()
  }
}

/** The order as it stands. */
export async function currentOrder(): Promise<Order> {
  const { strength, ...rest } = recipe.value
  const from = start.value
  if (!from) return { recipe: rest }
  const size = sizeAfter(from)
  const init = await fileFor(from.blob, from, size)
  return { recipe: { ...rest, ...size, strength: strength ?? 0.75 }, init }
}

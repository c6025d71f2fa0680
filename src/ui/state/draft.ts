import { computed, signal } from "@preact/signals"
import type { Order, Print, Recipe } from "../studio/types.ts"
import { mostFrom } from "./sizes.ts"
import { modelOf } from "./store.ts"

/** A picture the next one starts from, with its address for showing. */
export interface StartPicture {
  readonly blob: Blob
  readonly url: string
  readonly width: number
  readonly height: number
}

/** What the reader is writing; absent fields are the model's choice. */
export const recipe = signal<Recipe>({ prompt: "" })
export const start = signal<StartPicture | null>(null)

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
}

/** Sides that models can draw: multiples of 8 within the limit, near the picture's own shape. */
export function fittingSize(width: number, height: number, most: number): { width: number; height: number } {
  const scale = Math.min(1, most / Math.max(width, height))
  const side = (v: number) => Math.max(64, Math.round((v * scale) / 8) * 8)
  return { width: side(width), height: side(height) }
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

/** The order as it stands. */
export function currentOrder(): Order {
  const { strength, ...rest } = recipe.value
  const from = start.value
  if (!from) return { recipe: rest }
  const most = mostFrom(modelOf(rest)?.width ?? 512)
  const size = rest.width && rest.height ? {} : fittingSize(from.width, from.height, most)
  return {
    recipe: { ...rest, ...size, strength: strength ?? 0.75 },
    init: from.blob,
  }
}

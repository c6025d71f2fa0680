import { type Dim, mulDim, symbol } from "../graph/index.ts"
import type { ClipConfig, UNetConfig } from "../models/index.ts"

/** SDXL's refiner reads five numbers beside the pooled text, its base model six: told by what is left of the width. */
export function sizeIds(
  { projection_class_embeddings_input_dim: width, addition_time_embed_dim: each }: UNetConfig,
  texts: readonly ClipConfig[],
): 5 | 6 {
  const last = texts.at(-1)!
  const pooled = last.projection_dim ?? last.hidden_size
  return width && each && width - pooled === 5 * each ? 5 : 6
}

/** Names for a height and a width, as multiples of the first unit that divides both. */
export function sides(
  units: readonly number[],
  height: number,
  width: number,
): { unit: number; h: Dim; w: Dim } {
  const unit = units.find((n) => height % n === 0 && width % n === 0) ?? 1
  return { unit, h: mulDim(unit, symbol("h")), w: mulDim(unit, symbol("w")) }
}

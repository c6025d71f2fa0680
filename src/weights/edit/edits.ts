import { fail } from "../../errors.ts"
import { type FilePool, tensorBytes } from "../convert-bytes.ts"
import { castOf } from "../convert-cast.ts"
import type { Component, ModelFiles } from "../model-files.ts"
import type { StoredTensor } from "../torch-file.ts"
import { elements, type TensorView, Weights } from "../view.ts"
import { COMPUTED_DTYPES, type Computed } from "./computed.ts"

/** What edits of weights share: where made tensors live, how stored ones are read, and the type asked for. */
export interface Workbench {
  readonly computed: Computed
  readonly pool: FilePool
  /** A later cast to another type follows, so that made numbers stay in single precision until then. */
  readonly cast: boolean
  readonly notes: string[]
}

export const isFloat = (view: TensorView): boolean =>
  view.dtype === "F32" || view.scale !== undefined || castOf(view.dtype, "F32") !== undefined

/** A tensor's numbers in single precision, row by row. */
export async function floatsOf(view: StoredTensor, pool: FilePool): Promise<Float32Array> {
  const out = new Uint8Array(elements(view.shape) * 4)
  let at = 0
  for await (const piece of tensorBytes(view, { pool, dtype: "F32" })) {
    out.set(piece, at)
    at += piece.length
  }
  return new Float32Array(out.buffer)
}

/** A tensor in the place of another: of its shape and type, or of single precision where a cast follows. @throws CONVERT_DTYPE */
export function inPlaceOf(bench: Workbench, view: TensorView, make: () => Promise<Float32Array>): TensorView {
  const dtype = bench.cast ? "F32" : view.dtype
  if (!COMPUTED_DTYPES.includes(dtype))
    fail(
      "CONVERT_DTYPE",
      `${view.file}: ${view.name} is stored as ${view.dtype}, which is not written anew`,
      {
        file: view.file,
        hint: "name the type to write with --dtype",
      },
    )
  return bench.computed.add({ name: view.name, dtype, shape: view.shape }, make)
}

/** A model with some of its tensors exchanged. */
export function edited(
  model: ModelFiles,
  bench: Workbench,
  change: (view: TensorView, key: string, component: string) => TensorView,
): ModelFiles {
  const components = new Map<string, Component>()
  for (const [name, component] of model.components) {
    const weights = new Weights()
    let changed = false
    for (const [key, view] of component.weights) {
      const now = change(view, key, name)
      changed ||= now !== view
      weights.set(key, now)
    }
    // where types are cast later, the untouched neighbours of a fused tensor must be of the same type by then
    if (changed && bench.cast)
      for (const [key, view] of weights)
        if (component.weights.get(key) === view && isFloat(view) && view.dtype !== "F32")
          weights.set(
            key,
            inPlaceOf(bench, view, () => floatsOf(view, bench.pool)),
          )
    components.set(name, { ...component, weights })
  }
  return { ...model, components }
}

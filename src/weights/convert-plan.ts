import type { StoredTensor } from "./torch-file.ts"
import { DTYPE_BITS, type Dtype, elements, type TensorView } from "./view.ts"

/** A tensor to write: its parts one after the other along the first axis, or zeros where there are none. */
export interface PlannedTensor {
  name: string
  dtype: Dtype
  shape: readonly number[]
  parts: readonly StoredTensor[]
  /** Written in this type, whatever the others become. */
  exact?: boolean
}

/** A file to write, under its path inside the destination; the empty path is the destination itself. */
export type PlannedFile =
  | { path: string; tensors: PlannedTensor[]; metadata: ReadonlyMap<string, string> }
  | { path: string; text: string }
  | { path: string; copyOf: string }

/** Everything a conversion writes, known from headers before any byte is moved. */
export interface Plan {
  format: "single-file" | "diffusers" | "component" | "tensors"
  family: string
  files: PlannedFile[]
  /** What the destination cannot say, or was left out: for the user's eyes. */
  notes: string[]
}

/** A tensor written as it stands. */
export function planned(view: TensorView, name = view.name): PlannedTensor {
  return { name, dtype: view.dtype, shape: view.shape, parts: [view] }
}

/** Rank of a dtype in the reference writer's order (safetensors' `Dtype`), widest last. */
const ORDER = Object.keys(DTYPE_BITS)

/** safetensors' own order: wide types first, then by name, so that equal contents give equal files. */
export function inOrder(tensors: Iterable<PlannedTensor>): PlannedTensor[] {
  const rank = (dtype: Dtype) => ORDER.indexOf(dtype)
  return [...tensors].sort(
    (a, b) => rank(b.dtype) - rank(a.dtype) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  )
}

/** Bytes of tensors before any cast. */
export const plannedBytes = (tensors: Iterable<PlannedTensor>): number =>
  [...tensors].reduce((sum, { dtype, shape }) => sum + elements(shape) * (DTYPE_BITS[dtype] / 8), 0)

/** JSON as diffusers writes it: two spaces, keys sorted, a line feed at the end. */
export function jsonFile(path: string, value: Record<string, unknown>): PlannedFile {
  const text = JSON.stringify(sortedKeys(value), null, 2)
  return { path, text: `${text.replace(WHOLE_FLOAT, "$1.0")}\n` }
}

/** transformers refuses 1 where its configs want 1.0, which JavaScript writes as 1. */
const WHOLE_FLOAT =
  /("(?:initializer_factor|initializer_range|layer_norm_eps|(?:attention_)?dropout|logit_scale_init_value)": -?\d+)(?=,?$)/gm

export const sortedKeys = (value: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))

import { fail } from "../errors.ts"
import type { StoredDType, StoredTensor } from "../graph/index.ts"
import type { TensorView } from "../weights/view.ts"

const dtypes: Partial<Record<TensorView["dtype"], StoredDType>> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  F64: "f64",
  I8: "i8",
}

/** A view as the runtime takes it. */
export function storedView(view: TensorView): StoredTensor {
  const dtype =
    (view.dtype === "I8" && !view.scale ? undefined : dtypes[view.dtype]) ??
    fail("WEIGHTS_DTYPE", `${view.file}: ${view.name} is stored as ${view.dtype}`, {
      file: view.file,
      hint: "convert the file to F16 or F32",
    })
  return {
    dtype,
    shape: view.shape,
    bytes: { location: view.file, offset: view.offset, length: view.length },
    ...(view.transposed ? { transposed: true } : {}),
    ...(view.scale ? { scale: storedView(view.scale) } : {}),
  }
}

import { castOf, TARGETS } from "../convert-cast.ts"
import { byteLength, type Dtype, type TensorView } from "../view.ts"

/** Types in which computed numbers can be written; they are rounded once, from single precision. */
export const COMPUTED_DTYPES: readonly Dtype[] = ["F32", "F16", "BF16"]

/** How many made tensors stay: what is made of what, and the parts of a fused one, which are read in turn. */
const kept = 4

/**
 * Tensors whose numbers are made while they are written: views of files that are nowhere but here. A plan can rename,
 * cut, fuse and turn them like any other view, and memory holds a few at a time.
 */
export class Computed {
  private readonly makers = new Map<string, { dtype: Dtype; make: () => Promise<Float32Array> }>()
  private readonly made = new Map<string, Promise<Uint8Array>>()

  /** A view of numbers that `make` will give, row by row. `dtype` is one of COMPUTED_DTYPES, or I8 for codes. */
  add(
    { name, dtype, shape }: Pick<TensorView, "name" | "dtype" | "shape">,
    make: () => Promise<Float32Array>,
  ): TensorView {
    const file = `computed ${this.makers.size}`
    this.makers.set(file, { dtype, make })
    return { name, dtype, shape: [...shape], file, offset: 0, length: byteLength(dtype, shape) }
  }

  /** The bytes of a view's file, or undefined for files of the disk. */
  bytes(file: string): Promise<Uint8Array> | undefined {
    const maker = this.makers.get(file)
    if (!maker) return undefined
    const known = this.made.get(file)
    if (known) return known
    const made = maker.make().then((values) => encoded(values, maker.dtype))
    this.made.set(file, made)
    for (const old of [...this.made.keys()].slice(0, -kept)) this.made.delete(old)
    return made
  }
}

function encoded(values: Float32Array, dtype: Dtype): Uint8Array {
  if (dtype === "I8") return new Uint8Array(Int8Array.from(values).buffer)
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  const cast = castOf(
    "F32",
    Object.values(TARGETS).find((target) => target === dtype),
  )
  if (!cast) return bytes
  const out = new Uint8Array((bytes.length / cast.from) * cast.to)
  cast.run(bytes, out)
  return out
}

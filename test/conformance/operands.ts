import type { DType } from "../../src/graph/index.ts"
import type { Value } from "../../src/runtime/engine.ts"
import type { Case } from "./cases.ts"
import { type Arr, arr } from "./reference.ts"

/** Numbers in -1.5..1.5 from a hash of their place, the same in every run. */
export const noise = (n: number): number => {
  const s = Math.sin(n * 12.9898 + 4.1414) * 43758.5453
  return (s - Math.floor(s)) * 3 - 1.5
}

export const operands = (c: Case): Arr[] =>
  c.shapes.map((shape, k) =>
    arr(shape, (i) => {
      const u = Math.fround(noise(1000 * k + i))
      return c.draw ? c.draw(u, k, i) : u
    }),
  )

export const typeOf = (c: Case, k: number): DType =>
  c.integers?.includes(k) ? "i64" : c.bools?.includes(k) ? "bool" : "f32"

export const feed = (x: Arr, dtype: DType): Value => ({
  shape: x.shape,
  data:
    dtype === "i64"
      ? BigInt64Array.from(Array.from(x.data, BigInt))
      : dtype === "bool"
        ? Uint8Array.from(x.data)
        : Float32Array.from(x.data),
})

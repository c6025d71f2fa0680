import type { OpAttrs, OpName } from "./attrs.ts"
import { blocked } from "./ops/blocked.ts"
import { elementwise } from "./ops/elementwise.ts"
import { int8 } from "./ops/int8.ts"
import { layout } from "./ops/layout.ts"
import { network } from "./ops/network.ts"
import { picked } from "./ops/picked.ts"
import { reductions } from "./ops/reduce.ts"
import { type Op, row } from "./ops/row.ts"

const leaf = <A>(): Op<A> =>
  row<A>({
    shape: () => {
      throw new TypeError("a leaf is made with its shape")
    },
    grad: "a leaf",
    onnx: () => "",
  })

/** The table: one row per op, total by type, so that an op without a gradient decision does not compile. */
export const ops: { readonly [N in OpName]: Op<OpAttrs[N]> } = {
  input: leaf(),
  param: leaf(),
  constant: leaf(),
  ...elementwise,
  ...layout,
  ...network,
  ...blocked,
  ...int8,
  ...reductions,
  ...picked,
}

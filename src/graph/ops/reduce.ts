import { type Dim, mulDim } from "../dim.ts"
import type { Tensor } from "../tensor.ts"
import { type Op, row } from "./row.ts"

interface Reduce {
  axes: readonly number[]
  keep: boolean
}

const reduce = (onnx: string, grad: Op<Reduce>["grad"]): Op<Reduce> =>
  row<Reduce>({
    shape: ([x], { axes, keep }) => ({
      shape: x!.shape.flatMap((d, i) => (!axes.includes(i) ? [d] : keep ? [1] : [])),
      dtype: x!.dtype,
    }),
    grad,
    onnx: (e, [x], { axes, keep }) => e.node(onnx, [x!, e.ints(axes)], { keepdims: keep ? 1 : 0 }),
  })

/** Gives a reduced gradient its axes back, as size one. */
const unreduce = (g: Tensor, x: Tensor, axes: readonly number[]): Tensor =>
  g.reshape(x.shape.map((d, i) => (axes.includes(i) ? 1 : d)))
const count = (x: Tensor, axes: readonly number[]): Dim => mulDim(...axes.map((a) => x.shape[a]!))

export const reductions = {
  sum: reduce("ReduceSum", (g, _y, [x], { axes }) => [unreduce(g, x!, axes).broadcastTo(x!.shape)]),
  mean: reduce("ReduceMean", (g, _y, [x], { axes }) => {
    const n = count(x!, axes)
    const spread = unreduce(g, x!, axes)
    // a size known only at run time divides by a sum of ones
    const share = typeof n === "number" ? spread.mul(1 / n) : spread.div(x!.mul(0).add(1).sum(axes, true))
    return [share.broadcastTo(x!.shape)]
  }),
  amax: reduce("ReduceMax", (g, y, [x], { axes }) => {
    const hit = x!.equal(unreduce(y, x!, axes)).cast("f32")
    return [hit.mul(unreduce(g, x!, axes)).div(hit.sum(axes, true))]
  }),
  argmax: row<{ axis: number }>({
    shape: ([x], { axis }) => ({ shape: x!.shape.filter((_, i) => i !== axis), dtype: "i64" }),
    grad: "an index has no slope",
    onnx: (e, [x], { axis }) => e.node("ArgMax", [x!], { axis, keepdims: 0 }),
  }),
} as const

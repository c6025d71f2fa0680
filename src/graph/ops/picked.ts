import { type Dim, sameDim } from "../dim.ts"
import { apply, type Tensor } from "../tensor.ts"
import { type Emitter, type Made, misfit, type Op, row } from "./row.ts"

type None = Readonly<Record<never, never>>

/** Ids (b m) with the entry of the batch before each: b m 2. */
function withEntry(e: Emitter, ids: string, [b, m]: readonly Dim[]): string {
  const [from, to, step] = [e.ints([0]), e.shape([b!]), e.ints([1])].map((n) => e.node("Squeeze", [n]))
  const entries = e.node("Unsqueeze", [e.node("Range", [from!, to!, step!]), e.ints([1, 2])])
  return e.node(
    "Concat",
    [e.node("Expand", [entries, e.shape([b!, m!, 1])]), e.node("Unsqueeze", [ids, e.ints([2])])],
    {
      axis: 2,
    },
  )
}

const fits = (op: string, [x, ids]: readonly Tensor[]): void => {
  if (x!.rank !== 3 || ids!.rank !== 2 || ids!.dtype !== "i64" || !sameDim(x!.shape[0]!, ids!.shape[0]!))
    misfit(op, [x!, ids!], "needs b n c and ids b m")
}

/** What becomes of x (b n c) when rows (b m c) come to ids (b m). */
function changed(op: string, [x, ids, rows]: readonly Tensor[]): Made {
  fits(op, [x!, ids!])
  if (!sameDim(rows!.shape[1]!, ids!.shape[1]!) || !sameDim(rows!.shape[2]!, x!.shape[2]!))
    misfit(op, [x!, ids!, rows!], "a row per id")
  return { shape: x!.shape, dtype: x!.dtype }
}

/** Rows chosen apart for each entry of a batch. */
export const picked: {
  largest: Op<{ count: Dim }>
  pick: Op<None>
  addAt: Op<None>
  put: Op<None>
} = {
  /** Places of the `count` largest numbers of each row of x (b n), the largest first; of equal ones the earlier. */
  largest: row<{ count: Dim }>({
    shape: ([x], { count }) =>
      x!.rank === 2 ? { shape: [x!.shape[0]!, count], dtype: "i64" } : misfit("largest", [x!], "needs b n"),
    grad: "an index has no slope",
    onnx: (e, [x], { count }) => e.several("TopK", [x!, e.shape([count])], 2)[1]!,
  }),
  /** Rows of x (b n c) at ids (b m): b m c. */
  pick: row({
    shape: ([x, ids]) => {
      fits("pick", [x!, ids!])
      return { shape: [x!.shape[0]!, ids!.shape[1]!, x!.shape[2]!], dtype: x!.dtype }
    },
    grad: (g, _y, [x, ids]) => [apply("addAt", [x!.mul(0), ids!, g]), null],
    onnx: (e, [x, ids]) =>
      e.node("GatherND", [x!, e.node("Unsqueeze", [ids!, e.ints([2])])], { batch_dims: 1 }),
  }),
  /** x (b n c) with rows (b m c) added at ids (b m), as often as an id occurs. */
  addAt: row({
    shape: (operands) => changed("addAt", operands),
    grad: (g, _y, [, ids]) => [g, null, apply("pick", [g, ids!])],
    // not ScatterND, whose threads race where an id occurs twice
    onnx: (e, [x, ids, rows], _attrs, node) => {
      const each = e.node("Expand", [
        e.node("Unsqueeze", [ids!, e.ints([2])]),
        e.shape(node.inputs[2]!.shape),
      ])
      return e.node("ScatterElements", [x!, each, rows!], { axis: 1, reduction: "add" })
    },
  }),
  /** x (b n c) with rows (b m c) in the place of those at ids (b m), each of which occurs once. */
  put: row({
    shape: (operands) => changed("put", operands),
    grad: (g, _y, [, ids, rows]) => [apply("put", [g, ids!, rows!.mul(0)]), null, apply("pick", [g, ids!])],
    onnx: (e, [x, ids, rows], _attrs, node) =>
      e.node("ScatterND", [x!, withEntry(e, ids!, node.inputs[1]!.shape), rows!]),
  }),
}

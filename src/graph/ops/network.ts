import type { AttentionAttrs, ConvAttrs } from "../attrs.ts"
import { addDim, type Dim, floorDiv, mulDim, sameDim } from "../dim.ts"
import { apply, concat, type Tensor } from "../tensor.ts"
import { convWeightGrad } from "./conv-grad.ts"
import { type Emitter, misfit, row } from "./row.ts"

const ends = (x: Tensor, n: number): readonly Dim[] => x.shape.slice(0, x.rank - n)
const swapLast = (x: Tensor): Tensor =>
  x.transpose([...x.shape.keys()].slice(0, -2).concat(x.rank - 1, x.rank - 2))

export const network = {
  matmul: row({
    shape: ([a, b]) => {
      if (a!.rank < 2 || b!.rank < 2 || !sameDim(a!.shape.at(-1)!, b!.shape.at(-2)!))
        misfit("matmul", [a!, b!], "inner sizes differ")
      const rank = Math.max(a!.rank, b!.rank) - 2
      const batch = Array.from({ length: rank }, (_, i) => {
        const [p, q] = [a!, b!].map((t) => ends(t, 2)[i - rank + t.rank - 2] ?? 1) as [Dim, Dim]
        return p === 1
          ? q
          : q === 1 || sameDim(p, q)
            ? p
            : misfit("matmul", [a!, b!], `batch axis ${i} differs`)
      })
      return { shape: [...batch, a!.shape.at(-2)!, b!.shape.at(-1)!], dtype: a!.dtype }
    },
    grad: (g, _y, [a, b]) => [g.matmul(swapLast(b!)), swapLast(a!).matmul(g)],
    onnx: "MatMul",
  }),
  /** c + a b of matrices in one pass over c. */
  addmm: row({
    shape: ([c, a, b]) => {
      const fits =
        a!.rank === 2 &&
        b!.rank === 2 &&
        sameDim(a!.shape[1]!, b!.shape[0]!) &&
        c!.rank === 2 &&
        sameDim(c!.shape[0]!, a!.shape[0]!) &&
        sameDim(c!.shape[1]!, b!.shape[1]!)
      if (!fits) misfit("addmm", [c!, a!, b!], "sizes differ")
      return { shape: c!.shape, dtype: c!.dtype }
    },
    grad: (g, _y, [, a, b]) => [g, g.matmul(swapLast(b!)), swapLast(a!).matmul(g)],
    onnx: (e, [c, a, b]) => e.node("Gemm", [a!, b!, c!]),
  }),
  linear: row({
    shape: ([x, w, bias]) => {
      if (
        w!.rank !== 2 ||
        !sameDim(x!.shape.at(-1)!, w!.shape[1]!) ||
        (bias && !sameDim(bias.shape[0]!, w!.shape[0]!))
      )
        misfit("linear", [x!, w!], "weight is out in")
      return { shape: [...ends(x!, 1), w!.shape[0]!], dtype: x!.dtype }
    },
    grad: (g, _y, [x, w, bias]) => {
      const rows = mulDim(...ends(x!, 1))
      const flat = g.reshape([rows, w!.shape[0]!])
      const dw = flat.transpose([1, 0]).matmul(x!.reshape([rows, w!.shape[1]!]))
      return [flat.matmul(w!).reshape(x!.shape), dw, ...(bias ? [flat.sum([0])] : [])]
    },
    onnx: (e, [x, w, bias], _a, node) => {
      const from = node.inputs[0]!
      const flat = from.rank === 2 ? x! : e.node("Reshape", [x!, e.ints([-1, from.shape.at(-1) as number])])
      const y = e.node("Gemm", bias ? [flat, w!, bias] : [flat, w!], { transB: 1 })
      return from.rank === 2 ? y : e.node("Reshape", [y, unflatten(e, node.shape)])
    },
  }),
  conv2d: row<ConvAttrs>({
    shape: ([x, w, bias], { stride, pads, groups }) => {
      const [b, c, h, wide] = x!.dims("b c h w")
      const [o, i, kh, kw] = w!.shape as number[]
      if (w!.rank !== 4 || !sameDim(c, i! * groups) || (bias && bias.shape[0] !== o))
        misfit("conv2d", [x!, w!], "channels differ")
      const out = (d: Dim, pad: number, k: number) => addDim(floorDiv(addDim(d, pad - k), stride), 1)
      return {
        shape: [b, o!, out(h, pads[0]! + pads[2]!, kh!), out(wide, pads[1]! + pads[3]!, kw!)],
        dtype: x!.dtype,
      }
    },
    grad: (g, _y, [x, w, bias], attrs) => [
      apply("convInput", [g, w!], { ...attrs, height: x!.shape[2]!, width: x!.shape[3]! }),
      convWeightGrad(g, x!, w!, attrs),
      ...(bias ? [g.sum([0, 2, 3])] : []),
    ],
    onnx: (e, inputs, { stride, pads, groups }, node) =>
      e.node("Conv", inputs, {
        strides: [stride, stride],
        pads,
        group: groups,
        kernel_shape: node.inputs[1]!.shape.slice(2) as number[],
      }),
  }),
  /** The transposed convolution that carries a gradient back to the input of conv2d. */
  convInput: row<ConvAttrs & { height: Dim; width: Dim }>({
    shape: ([g, w], { groups, height, width }) => ({
      shape: [g!.shape[0]!, mulDim(w!.shape[1]!, groups), height, width],
      dtype: g!.dtype,
    }),
    grad: (gg, _y, [g, w], { stride, pads, groups }) => [
      gg.conv2d(w!, null, { stride, pads, groups }),
      convWeightGrad(g!, gg, w!, { stride, pads, groups }),
    ],
    onnx: (e, inputs, { stride, pads, groups, height, width }, node) => {
      const [g, w] = node.inputs
      const extra = [height, width].map((size, i) => {
        const k = w!.shape[2 + i] as number
        const full = addDim(mulDim(stride, addDim(g!.shape[2 + i]!, -1)), k - pads[i]! - pads[2 + i]!)
        const missing = addDim(size, mulDim(-1, full))
        return typeof missing === "number"
          ? missing
          : misfit("convInput", [g!, w!], "a strided gradient needs known sizes")
      })
      return e.node("ConvTranspose", inputs, {
        strides: [stride, stride],
        pads,
        group: groups,
        output_padding: extra,
      })
    },
  }),
  /** One fused node; the gradient recomputes the probabilities (Vaswani et al. 2017, eq. 1). */
  attention: row<AttentionAttrs>({
    shape: ([q, k, v], { heads }) => {
      const bad =
        q!.rank !== 3 ||
        k!.rank !== 3 ||
        !sameDim(k!.shape[1]!, v!.shape[1]!) ||
        !sameDim(q!.shape[2]!, k!.shape[2]!) ||
        (q!.shape[2] as number) % heads !== 0
      if (bad) misfit("attention", [q!, k!, v!], `${heads} heads`)
      return { shape: [q!.shape[0]!, q!.shape[1]!, v!.shape[2]!], dtype: q!.dtype }
    },
    grad: (g, _y, [q, k, v, mask], { heads, scale }) => {
      const split = (t: Tensor) => t.rearrange("b s (heads d) -> b heads s d", { heads })
      const join = (t: Tensor) => t.rearrange("b heads s d -> b s (heads d)")
      const factor = scale ?? 1 / Math.sqrt((q!.shape[2] as number) / heads)
      const all = [q!, k!, v!, g].map(split) as [Tensor, Tensor, Tensor, Tensor]
      const sizes = [q!.shape[0]!, q!.shape[1]!, k!.shape[1]!]
      const scores = sizes.reduce<number>((n, d) => n * (typeof d === "number" ? d : 1), heads)
      if (mask || scores < manyScores) {
        const { dq, dk, dv, ds } = attentionGrad(all, factor, mask)
        return [join(dq), join(dk), join(dv), ...(mask ? [ds] : [])]
      }
      // head by head, so that the probabilities of one are all there is of them
      const each = Array.from({ length: heads }, (_, h) =>
        attentionGrad(all.map((t) => t.slice(1, h, h + 1)) as typeof all, factor),
      )
      return (["dq", "dk", "dv"] as const).map((key) =>
        join(
          concat(
            each.map((part) => part[key]),
            1,
          ),
        ),
      )
    },
    onnx: (e, [q, k, v, mask], { heads, scale }) =>
      e.node(
        "MultiHeadAttention",
        mask ? [q!, k!, v!, "", "", mask] : [q!, k!, v!],
        { num_heads: heads, ...(scale === undefined ? {} : { scale: { float: scale } }) },
        "com.microsoft",
      ),
  }),
  layerNorm: row<{ eps: number }>({
    shape: ([x]) => x!,
    grad: (g, _y, [x, scale], { eps }) => {
      const axes = [x!.rank - 1]
      const lead = [...x!.shape.keys()].slice(0, -1)
      const [unit, rstd] = standardise(x!, axes, eps)
      return [unstandardise(g.mul(scale!), unit, rstd, axes), g.mul(unit).sum(lead), g.sum(lead)]
    },
    onnx: (e, inputs, { eps }) => e.node("LayerNormalization", inputs, { axis: -1, epsilon: { float: eps } }),
  }),
  groupNorm: row<{ groups: number; eps: number }>({
    shape: ([x, scale], { groups }) =>
      sameDim(x!.shape[1]!, scale!.shape[0]!) && (x!.shape[1] as number) % groups === 0
        ? x!
        : misfit("groupNorm", [x!, scale!], `${groups} groups`),
    grad: (g, _y, [x, scale], { groups, eps }) => groupNormGrad(g, x!, scale!, groups, eps),
    onnx: (e, [x, scale, bias], { groups, eps }, node) => {
      const shape = node.inputs[0]!.shape
      const ones = Array.from({ length: groups }, () => 1)
      const grouped = e.node("Reshape", [x!, e.ints([0, groups, -1])])
      const unit = e.node(
        "InstanceNormalization",
        [
          grouped,
          e.floats(ones, [groups]),
          e.floats(
            ones.map(() => 0),
            [groups],
          ),
        ],
        { epsilon: { float: eps } },
      )
      const back = e.node("Reshape", [unit, unflatten(e, shape)])
      const perChannel = e.ints([-1, ...shape.slice(2).map(() => 1)])
      return e.node("Add", [
        e.node("Mul", [back, e.node("Reshape", [scale!, perChannel])]),
        e.node("Reshape", [bias!, perChannel]),
      ])
    },
  }),
  /**
   * What `groupNorm` multiplies each channel of x (b c h w) by, then what it adds: b 2c 1 1, from sums over x as it
   * stands, so that no second picture is made of it.
   */
  groupAffine: row<{ groups: number; eps: number }>({
    shape: ([x, scale]) => ({ shape: [x!.shape[0]!, mulDim(2, scale!.shape[0]!), 1, 1], dtype: x!.dtype }),
    grad: "made from a groupNorm after gradients",
    onnx: (e, inputs, { groups, eps }, node) =>
      groupAffine(e, inputs, { groups, eps, width: node.inputs[0]!.shape[3]! }),
  }),
  softmax: row<{ axis: number }>({
    shape: ([x]) => x!,
    grad: (g, y, _in, { axis }) => [y.mul(g.sub(g.mul(y).sum([axis], true)))],
    onnx: (e, inputs, { axis }) => e.node("Softmax", inputs, { axis }),
  }),
} as const

/** ONNX's number for double precision. */
const double = 11

function groupAffine(
  e: Emitter,
  [x, scale, bias]: readonly string[],
  { groups, eps, width }: { groups: number; eps: number; width: Dim },
): string {
  // rows by themselves and their sums in double precision: the difference below is of nearly equal numbers
  const overRows = (op: string) => {
    const rows = e.node(op, [x!, e.ints([3])], { keepdims: 1 }) // b c h 1
    const wide = e.node("Cast", [e.node("Reshape", [rows, e.ints([0, groups, -1])])], { to: double })
    return e.node("ReduceMean", [wide, e.ints([2])], { keepdims: 1 }) // b groups 1
  }
  const single = (v: string) => e.node("Cast", [v], { to: 1 })
  const exact = overRows("ReduceMean")
  const square = e.node("Div", [
    overRows("ReduceSumSquare"),
    e.node("Cast", [e.shape([width])], { to: double }),
  ])
  const spread = single(e.node("Sub", [square, e.node("Mul", [exact, exact])]))
  const mean = single(exact)
  const safe = e.node("Add", [e.node("Max", [spread, e.float(0)]), e.float(eps)])
  const rstd = e.node("Reciprocal", [e.node("Sqrt", [safe])])
  const perGroup = e.ints([1, groups, -1])
  const factor = e.node("Mul", [rstd, e.node("Reshape", [scale!, perGroup])]) // b groups per
  const shift = e.node("Sub", [e.node("Reshape", [bias!, perGroup]), e.node("Mul", [mean, factor])])
  const perChannel = e.ints([0, -1, 1, 1])
  const both = [factor, shift].map((v) => e.node("Reshape", [v, perChannel]))
  return e.node("Concat", both, { axis: 1 })
}

/** Target of a reshape back to `shape`: whole where known, else with sizes found at run time. */
function unflatten(
  e: { ints(v: readonly number[]): string; shape(d: readonly Dim[]): string },
  shape: readonly Dim[],
): string {
  return shape.filter((d) => typeof d !== "number").length <= 1
    ? e.ints(shape.map((d) => (typeof d === "number" ? d : -1)))
    : e.shape(shape)
}

/**
 * Gradient of groupNorm with as few walks over the picture as there can be: sums per channel first, then
 * dx = rstd (g scale - mean(g scale) - unit mean(g scale unit)) as one affine map per channel (Wu & He 2018).
 */
function groupNormGrad(g: Tensor, x: Tensor, scale: Tensor, groups: number, eps: number): Tensor[] {
  const [b, c] = x.shape as [Dim, number]
  const per = c / groups
  const flat = (t: Tensor) => t.reshape([b, groups, per, -1]) // b groups per hw
  const n = mulDim(per, ...x.shape.slice(2))
  const centred = flat(x).sub(flat(x).mean([2, 3], true))
  const rstd = centred.square().mean([2, 3], true).add(eps).sqrt().reciprocal() // b groups 1 1
  const weight = scale.reshape([1, groups, per, 1])
  const total = flat(g).sum([3], true) // b groups per 1
  const along = flat(g).mul(centred).sum([3], true).mul(rstd)
  // a size known only at run time divides by a sum of ones
  const share = (t: Tensor) =>
    typeof n === "number" ? t.mul(1 / n) : t.div(flat(x).mul(0).add(1).sum([2, 3], true))
  const mean = share(total.mul(weight).sum([2], true))
  const slope = share(along.mul(weight).sum([2], true))
  const dx = flat(g)
    .mul(weight.mul(rstd))
    .sub(centred.mul(rstd.square().mul(slope)))
    .sub(mean.mul(rstd))
  return [dx.reshape(x.shape), along.sum([0]).reshape([c]), total.sum([0]).reshape([c])]
}

/** From this many probabilities on, 64 MB, attention's gradient is made head by head. */
const manyScores = 2 ** 24

/** Gradients of q, k, v and the logits from that of the result, all b heads s d; the probabilities are made again. */
function attentionGrad(
  [q, k, v, g]: readonly [Tensor, Tensor, Tensor, Tensor],
  factor: number,
  mask?: Tensor,
): Record<"dq" | "dk" | "dv" | "ds", Tensor> {
  const logits = q.matmul(k.transpose([0, 1, 3, 2])).mul(factor)
  const p = (mask ? logits.add(mask) : logits).softmax(-1) // b heads s t
  const dp = g.matmul(v.transpose([0, 1, 3, 2]))
  const ds = p.mul(dp.sub(p.mul(dp).sum([-1], true)))
  const scaled = ds.mul(factor)
  return {
    dq: scaled.matmul(k),
    dk: scaled.transpose([0, 1, 3, 2]).matmul(q),
    dv: p.transpose([0, 1, 3, 2]).matmul(g),
    ds,
  }
}

/** (x - mean) / sqrt(var + eps) and the reciprocal root, over `axes`. */
function standardise(x: Tensor, axes: readonly number[], eps: number): [Tensor, Tensor] {
  const centred = x.sub(x.mean(axes, true))
  const rstd = centred.square().mean(axes, true).add(eps).sqrt().reciprocal()
  return [centred.mul(rstd), rstd]
}

/** Gradient through `standardise`: Ba et al. 2016, normalisation's own terms included. */
const unstandardise = (g: Tensor, unit: Tensor, rstd: Tensor, axes: readonly number[]): Tensor =>
  rstd.mul(g.sub(g.mean(axes, true)).sub(unit.mul(g.mul(unit).mean(axes, true))))

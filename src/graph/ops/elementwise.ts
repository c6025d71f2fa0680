import type { DType } from "../attrs.ts"
import { scalar, type Tensor } from "../tensor.ts"
import { broadcast, type Emitter, type Op, row } from "./row.ts"

type None = Readonly<Record<never, never>>
type Unary = (g: Tensor, y: Tensor, x: Tensor) => Tensor

const unary = (onnx: Op<None>["onnx"], grad: Unary | string): Op<None> =>
  row({
    shape: ([x]) => x!,
    grad: typeof grad === "string" ? grad : (g, y, [x]) => [grad(g, y, x!)],
    onnx,
  })

const binary = (name: string, onnx: string, grad: Op<None>["grad"]): Op<None> =>
  row({ shape: (inputs) => ({ shape: broadcast(name, inputs), dtype: inputs[0]!.dtype }), grad, onnx })

const compare = (name: string, onnx: string): Op<None> =>
  row({
    shape: (inputs) => ({ shape: broadcast(name, inputs), dtype: "bool" }),
    grad: "a truth value has no slope",
    onnx,
  })

/** x * sigmoid(alpha x): one fused node where the runtime has it. */
const swish =
  (alpha: number) =>
  (e: Emitter, [x]: readonly string[]): string =>
    e.node("QuickGelu", [x!], { alpha: { float: alpha } }, "com.microsoft")

/** s + alpha y (1 - s), with y from the way forward. */
const swishGrad =
  (alpha: number): Unary =>
  (g, y, x) => {
    const times = (t: Tensor) => (alpha === 1 ? t : t.mul(alpha))
    const s = times(x).sigmoid()
    return g.mul(s.add(times(y).mul(scalar(1).sub(s))))
  }

const sqrt2Pi = Math.sqrt(2 * Math.PI)

export const elementwise = {
  add: binary("add", "Add", (g) => [g, g]),
  sub: binary("sub", "Sub", (g) => [g, g.neg()]),
  mul: binary("mul", "Mul", (g, _y, [a, b]) => [g.mul(b!), g.mul(a!)]),
  div: binary("div", "Div", (g, y, [, b]) => [g.div(b!), g.mul(y).div(b!).neg()]),
  max: binary("max", "Max", (g, _y, [a, b]) => share(g, a!.greater(b!), a!.equal(b!))),
  min: binary("min", "Min", (g, _y, [a, b]) => share(g, b!.greater(a!), a!.equal(b!))),
  pow: binary("pow", "Pow", (g, y, [a, b]) => [
    g.mul(b!).mul(a!.pow(b!.sub(1))),
    b!.op === "constant" ? null : g.mul(y).mul(a!.log()),
  ]),
  greater: compare("greater", "Greater"),
  equal: compare("equal", "Equal"),
  where: row({
    shape: (inputs) => ({ shape: broadcast("where", inputs), dtype: inputs[1]!.dtype }),
    grad: (g, _y, [c]) => [null, c!.where(g, scalar(0)), c!.where(scalar(0), g)],
    onnx: "Where",
  }),
  neg: unary("Neg", (g) => g.neg()),
  exp: unary("Exp", (g, y) => g.mul(y)),
  log: unary("Log", (g, _y, x) => g.div(x)),
  sqrt: unary("Sqrt", (g, y) => g.div(y.mul(2))),
  reciprocal: unary("Reciprocal", (g, y) => g.mul(y).mul(y).neg()),
  abs: unary("Abs", (g, _y, x) => g.mul(x.sign())),
  sign: unary("Sign", "flat but for the jump"),
  sin: unary("Sin", (g, _y, x) => g.mul(x.cos())),
  cos: unary("Cos", (g, _y, x) => g.mul(x.sin()).neg()),
  tanh: unary("Tanh", (g, y) => g.mul(scalar(1).sub(y.square()))),
  erf: unary("Erf", (g, _y, x) => g.mul(x.square().neg().exp()).mul(2 / Math.sqrt(Math.PI))),
  relu: unary("Relu", (g, _y, x) => x.greater(0).where(g, scalar(0))),
  sigmoid: unary("Sigmoid", (g, y) => g.mul(y).mul(scalar(1).sub(y))),
  silu: unary(swish(1), swishGrad(1)),
  quickGelu: unary(swish(1.702), swishGrad(1.702)),
  gelu: unary("Gelu", (g, _y, x) => {
    const normal = x.mul(Math.SQRT1_2).erf().add(1).mul(0.5)
    return g.mul(normal.add(x.mul(x.square().mul(-0.5).exp()).mul(1 / sqrt2Pi)))
  }),
  cast: row<{ dtype: DType }>({
    shape: ([x], { dtype }) => ({ shape: x!.shape, dtype }),
    grad: (g, _y, [x]) => [x!.dtype === "f32" || x!.dtype === "f16" ? g.cast(x!.dtype) : null],
    onnx: (e, [x], { dtype }) =>
      e.node("Cast", [x!], { to: { f32: 1, f16: 10, i64: 7, i32: 6, i8: 3, bool: 9 }[dtype] }),
  }),
} as const

/** The slope of max and min: to the winner, half each at a tie (as PyTorch does). */
function share(g: Tensor, first: Tensor, tie: Tensor): readonly Tensor[] {
  const half = g.mul(0.5)
  const zero = scalar(0)
  return [tie.where(half, first.where(g, zero)), tie.where(half, first.where(zero, g))]
}

import { expect, test } from "vitest"
import { gradients, input, lowerConvolutions, toOnnx } from "../../src/graph/index.ts"
import { f32, value } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { Random } from "../../src/train/corpus/index.ts"

interface Shape {
  b: number
  i: number
  o: number
  kernel: [number, number]
  stride: number
  pads: [number, number, number, number]
  size: [number, number]
}

/** Any kernel, stride and padding, on maps from few places to many. */
function drawn(random: Random): Shape {
  const whole = (from: number, to: number) => from + Math.floor(random.unit() * (to - from + 1))
  const [kh, kw] = [whole(1, 4), whole(1, 4)]
  const most = random.chance(0.5) ? 4 : 11
  return {
    b: whole(1, 3),
    i: whole(1, 5),
    o: whole(1, 5),
    kernel: [kh, kw],
    stride: random.chance(0.7) ? 1 : 2,
    pads: [whole(0, kh), whole(0, kw), whole(0, kh), whole(0, kw)],
    size: [whole(kh, Math.max(kh, most)), whole(kw, Math.max(kw, most))],
  }
}

/** The definition, place by place: result, and gradients of operand and weights for a gradient of the result. */
function bySums({ b, i, o, kernel: [kh, kw], stride, pads, size: [h, w] }: Shape, oh: number, ow: number) {
  const sums = {
    y: new Float64Array(b * o * oh * ow),
    x: new Float64Array(b * i * h * w),
    w: new Float64Array(o * i * kh * kw),
  }
  const each = (visit: (x: number, w: number, y: number) => void) => {
    for (let n = 0; n < b * o * i * oh * ow * kh * kw; n++) {
      let rest = n
      const next = (by: number) => {
        const at = rest % by
        rest = Math.floor(rest / by)
        return at
      }
      const [q, p, v, u, c, k, row] = [next(kw), next(kh), next(ow), next(oh), next(i), next(o), next(b)]
      const [down, across] = [u * stride + p - pads[0], v * stride + q - pads[1]]
      if (down < 0 || across < 0 || down >= h || across >= w) continue
      visit(
        ((row * i + c) * h + down) * w + across,
        ((k * i + c) * kh + p) * kw + q,
        ((row * o + k) * oh + u) * ow + v,
      )
    }
  }
  return { sums, each }
}

test("forms for training of any convolution equal its definition", async () => {
  const engine = nodeEngine()
  const random = new Random(77)
  for (let n = 0; n < 60; n++) {
    const shape = drawn(random)
    const { b, i, o, kernel, stride, pads, size } = shape
    const operands = { x: [b, i, ...size], w: [o, i, ...kernel] }
    const y = input("x", operands.x).conv2d(input("w", operands.w), null, { stride, pads })
    const sizes: Record<string, number[]> = { ...operands, g: y.shape as number[] }
    const [x, w, g] = ["x", "w", "g"].map((name) => input(name, sizes[name]!))
    const made = x!.conv2d(w!, null, { stride, pads })
    const [gx, gw] = gradients(made.mul(g!).sum([0, 1, 2, 3]), [x!, w!])
    const onnx = toOnnx(lowerConvolutions({ outputs: { "d y": made, "d x": gx!, "d w": gw! } }, 16))
    const given = Object.fromEntries(
      Object.entries(sizes).map(([name, s]) => {
        const count = s.reduce((a, c) => a * c, 1)
        return [
          name,
          f32(
            Float32Array.from({ length: count }, () => random.unit() * 2 - 1),
            s,
          ),
        ]
      }),
    )
    const session = await engine.create({ onnx, externals: [], device: "cpu" })
    const out = await engine.run(session, given)
    await engine.release(session)
    const { sums, each } = bySums(shape, y.shape[2] as number, y.shape[3] as number)
    const [dx, dw, dg] = ["x", "w", "g"].map((name) => given[name]!.data as Float32Array)
    each((atX, atW, atY) => {
      sums.y[atY]! += dx![atX]! * dw![atW]!
      sums.x[atX]! += dg![atY]! * dw![atW]!
      sums.w[atW]! += dg![atY]! * dx![atX]!
    })
    for (const [name, want] of Object.entries(sums)) {
      const found = value(out, `d ${name}`).data as Float32Array
      const worst = want.reduce((m, v, at) => Math.max(m, Math.abs(v - found[at]!)), 0)
      expect(worst, `${name} of ${JSON.stringify(shape)}`).toBeLessThan(1e-4)
    }
  }
  await engine.close()
})

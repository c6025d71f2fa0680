import { describe, expect, test } from "vitest"
import { addDim } from "./dim.ts"
import {
  concat,
  evalDim,
  floorDiv,
  type Graph,
  graphNodes,
  input,
  mergeLayouts,
  mulDim,
  nameOf,
  ops,
  parameter,
  printGraph,
  sameDim,
  scalar,
  shareEqual,
  stage,
  symbol,
  toOnnx,
} from "./index.ts"

const code = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`
  }
  return "no error"
}

describe("sizes", () => {
  const h = symbol("h")
  const w = symbol("w")

  test("polynomials are equal whatever the order they were made in", () => {
    expect(sameDim(mulDim(h, w, 2), mulDim(2, w, h))).toBe(true)
    expect(sameDim(addDim(h, w, h), addDim(mulDim(2, h), w))).toBe(true)
    expect(addDim(h, mulDim(-1, h))).toBe(0)
  })

  test("what divides evenly leaves the floor", () => {
    const eight = mulDim(8, h)
    const halved = addDim(floorDiv(addDim(eight, -1), 2), 1)
    expect(String(halved)).toBe("4*h")
    expect(sameDim(mulDim(2, halved), eight)).toBe(true)
    const odd = addDim(floorDiv(addDim(h, -1), 2), 1)
    expect([9, 10, 11].map((n) => evalDim(odd, { h: n }))).toEqual([5, 5, 6])
  })

  test("an unbound name is an error that names it", () => {
    expect(() => evalDim(mulDim(h, w), { h: 2 })).toThrow("size w is not bound")
  })
})

describe("shapes are checked while tracing", () => {
  const x = input("x", [symbol("b"), 8, symbol("h"), symbol("w")])

  test("rearrange splits, moves and merges", () => {
    expect(x.rearrange("b (g c) h w -> b g (h w) c", { g: 2 }).shape.map(String)).toEqual([
      "b",
      "2",
      "h*w",
      "4",
    ])
    expect(x.rearrange("b c h w -> b c h w")).toBe(x)
  })

  test.each([
    [
      () => x.rearrange("b c h -> b (c h)"),
      'GRAPH_SHAPE: rearrange "b c h -> b (c h)" of [b, 8, h, w]: the rank differs',
    ],
    [() => x.rearrange("b (g c) h w -> b g c h w"), "sizes of g and c are not given"],
    [() => x.rearrange("b (g c) h w -> b g c h w", { g: 3 }), "8 is not a multiple of 3"],
    [() => x.rearrange("b c h w -> b c h"), "names differ between the sides"],
    [() => x.dims("b c"), 'GRAPH_RANK: expected "b c", got [b, 8, h, w]'],
    [
      () => x.add(input("y", [3, 1, 1])),
      "GRAPH_SHAPE: add of f32[b, 8, h, w] and f32[3, 1, 1]: axis 1 differs",
    ],
    [() => x.conv2d(parameter("w", [4, 7, 3, 3]), null), "channels differ"],
    [() => x.matmul(input("y", [5, 2])), "inner sizes differ"],
    [() => x.groupNorm(parameter("s", [8]), parameter("b", [8]), { groups: 3, eps: 1e-5 }), "3 groups"],
    [() => x.reshape([symbol("b"), 9, -1]), "cannot reshape"],
    [() => concat([x, input("y", [symbol("b"), 8, symbol("h"), 3])], 1), "along axis 1"],
    [() => x.sum([4]), "axis 4"],
  ])("%#: %s", (run, message) => {
    expect(code(run)).toContain(message)
  })
})

/** A residual block in small: what the printer, the passes and the writer have to do with in practice. */
function block(): Graph {
  const x = input("x", [symbol("b"), 4, symbol("h"), symbol("w")])
  const t = input("t", [1])
  const shift = t.rearrange("n -> n 1").linear(parameter("time.weight", [4, 1]), parameter("time.bias", [4]))
  const h = x
    .groupNorm(parameter("norm.weight", [4]), parameter("norm.bias", [4]), { groups: 2, eps: 1e-5 })
    .silu()
  const y = h
    .conv2d(parameter("conv.weight", [4, 4, 3, 3]), null, { pads: [1, 1, 1, 1] })
    .add(shift.rearrange("b c -> b c 1 1"))
  return { outputs: { y: x.add(y) } }
}

test("graphs print as text", () => {
  expect(printGraph(block())).toMatchInlineSnapshot(`
    "input x : f32[b, 4, h, w]
    %0 = groupNorm(x, norm.weight, norm.bias) groups=2 eps=0.00001 : f32[b, 4, h, w]
    %1 = silu(%0) : f32[b, 4, h, w]
    %2 = conv2d(%1, conv.weight) stride=1 pads=[1,1,1,1] groups=1 : f32[b, 4, h, w]
    input t : f32[1]
    %3 = reshape(t) : f32[1, 1]
    %4 = linear(%3, time.weight, time.bias) : f32[1, 4]
    %5 = reshape(%4) : f32[1, 4, 1, 1]
    %6 = add(%2, %5) : f32[b, 4, h, w]
    %7 = add(x, %6) : f32[b, 4, h, w]
    output y = %7"
  `)
})

describe("passes", () => {
  test("a graph is cut by how often its inputs change", () => {
    const { stages } = stage(block(), [["t"]])
    const inputs = stages.map((s) =>
      graphNodes(s)
        .filter((n) => n.op === "input")
        .map(nameOf),
    )
    expect(inputs).toEqual([["t"], ["x", "s0"]])
    expect(printGraph(stages[0]!)).toContain("output s0 = %2")
  })

  test("equal values are computed once", () => {
    const x = input("x", [2, 3])
    const y = x.exp().mul(2).add(x.exp().mul(2))
    const count = (g: Graph) => graphNodes(g).filter((n) => n.op === "exp" || n.op === "mul").length
    expect(count({ outputs: { y } })).toBe(4)
    expect(count(shareEqual({ outputs: { y } }))).toBe(2)
  })

  test("layouts that cancel out vanish", () => {
    const x = input("x", [2, 3, 4])
    const y = x.transpose([0, 2, 1]).transpose([0, 2, 1]).reshape([6, 4]).reshape([2, 3, 4])
    expect(mergeLayouts({ outputs: { y } }).outputs.y).toBe(x)
  })
})

describe("ONNX", () => {
  const weights = new Map(
    [
      ["time.weight", [4, 1]],
      ["time.bias", [4]],
      ["norm.weight", [4]],
      ["norm.bias", [4]],
      ["conv.weight", [4, 4, 3, 3]],
    ].map(([name, shape]) => [
      name as string,
      {
        dtype: "f16" as const,
        shape: shape as number[],
        bytes: { location: "model.safetensors", offset: 8, length: 2 },
      },
    ]),
  )
  const text = (bytes: Uint8Array) => new TextDecoder("latin1").decode(bytes)

  test("weights are named by file, offset and length, never copied", () => {
    const bytes = text(toOnnx(block(), weights))
    expect(bytes).toContain("model.safetensors")
    expect(bytes.match(/location/g)).toHaveLength(5)
    expect(bytes).not.toContain("aquatint.weights")
  })

  test("the same graph gives the same bytes", () => {
    expect(toOnnx(block(), weights)).toEqual(toOnnx(block(), weights))
  })

  test("a missing weight is named", () => {
    expect(code(() => toOnnx(block(), new Map()))).toContain("WEIGHT_MISSING: the graph needs")
  })

  test("rows of a weight are a smaller range of its bytes", () => {
    const y = input("x", [1, 2]).linear(parameter("w", [6, 2]).slice(0, 2, 4))
    const w = { dtype: "f32" as const, shape: [6, 2], bytes: { location: "f", offset: 100, length: 48 } }
    const bytes = text(toOnnx({ outputs: { y } }, new Map([["w", w]])))
    expect(bytes).toContain("116")
    expect(bytes).toContain("w[2:4]")
  })
})

test("every op either has a gradient or says why not", () => {
  for (const [name, row] of Object.entries(ops)) {
    expect(typeof row.grad === "function" || (row.grad as string).length > 3, name).toBe(true)
    expect(row.onnx, name).toBeDefined()
  }
  expect(scalar(1).shape).toEqual([])
})

import type { ConvAttrs } from "./attrs.ts"
import type { Lifted } from "./lift.ts"
import { int8Limit } from "./ops/int8.ts"
import { rewrite } from "./rewrite.ts"
import { apply, type Graph, graphNodes, input, nameOf, type Tensor } from "./tensor.ts"

/** Weights of fewer numbers than this are not worth their rounding. */
const leastWeights = 2 ** 16
/** Kernels over fewer channels are as fast in Winograd's form or as they are. */
const leastChannels = 640

/**
 * Turns linear layers and convolutions into products of eight-bit integers, their codes and scales made once from the
 * stored weights. Layers that follow from `slow` inputs alone stay as they are: they run once per prompt or step.
 */
export function liftInt8(graph: Graph, slow: ReadonlySet<string>): Lifted {
  const made = new Map<string, Tensor>()
  const fast = fastNodes(graph, slow)
  const lift = (name: string, node: Tensor): Tensor => {
    made.set(name, node)
    return input(name, node.shape, node.dtype)
  }
  const codesOf = (name: string, rows: Tensor): [Tensor, Tensor] => {
    const scale = rows
      .abs()
      .amax([1])
      .mul(1 / int8Limit)
      .max(1e-30)
    return [lift(`${name} codes`, apply("int8Codes", [rows, scale])), lift(`${name} scales`, scale)]
  }
  const lifted = rewrite(graph, (node, original) => {
    const weight = original.inputs[1]
    if (!fast.has(original) || !weight || !suits(original)) return node
    const [x, , bias] = node.inputs as [Tensor, Tensor, Tensor?]
    const [codes, scales] = codesOf(labelOf(weight), matrixOf(weight))
    const inputs = [x, codes, scales, ...(bias ? [bias] : [])]
    if (node.op === "linear") return apply("int8Linear", inputs)
    const kernel = weight.shape.slice(2) as [number, number]
    return apply("int8Conv", inputs, { ...(node.attrs as unknown as ConvAttrs), kernel })
  })
  return { graph: lifted, made }
}

/** Nodes that must be made anew when an input that is not slow changes. */
function fastNodes(graph: Graph, slow: ReadonlySet<string>): Set<Tensor> {
  const fast = new Set<Tensor>()
  for (const node of graphNodes(graph))
    if (node.op === "input" ? !slow.has(nameOf(node)) : node.inputs.some((from) => fast.has(from)))
      fast.add(node)
  return fast
}

function suits(node: Tensor): boolean {
  const weight = node.inputs[1]!
  const shape = weight.shape as number[]
  const from = weight.op === "slice" && weight.attrs.axis === 0 ? weight.inputs[0]! : weight
  if (from.op !== "param" || shape.reduce((a, b) => a * b, 1) < leastWeights) return false
  if (node.op === "linear") return true
  const groups = node.op === "conv2d" ? (node.attrs as unknown as ConvAttrs).groups : 0
  return groups === 1 && Math.min(shape[0]!, shape[1]!) >= leastChannels
}

/** Name of a weight, or of some of its rows. */
const labelOf = (weight: Tensor): string =>
  weight.op === "param"
    ? nameOf(weight)
    : `${nameOf(weight.inputs[0]!)} ${weight.attrs.start} ${weight.attrs.end}`

/** A weight with everything but its output channels in one axis, taps first. */
function matrixOf(weight: Tensor): Tensor {
  if (weight.rank === 2) return weight
  const [o, i, kh, kw] = weight.shape as [number, number, number, number]
  return weight
    .reshape([o, i, kh * kw])
    .transpose([0, 2, 1])
    .reshape([o, kh * kw * i])
}

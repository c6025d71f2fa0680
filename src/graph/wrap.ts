import type { ConvAttrs } from "./attrs.ts"
import { addDim } from "./dim.ts"
import { rewrite } from "./rewrite.ts"
import { apply, concat, type Graph, type Tensor } from "./tensor.ts"

/** The axes along which a picture goes on at its other edge. */
export interface Wrap {
  readonly x: boolean
  readonly y: boolean
}

/** The last `before` and the first `after` places of an axis, put around it. */
function around(x: Tensor, axis: number, before: number, after: number): Tensor {
  const size = x.shape[axis]!
  return concat([x.slice(axis, addDim(size, -before), size), x, x.slice(axis, 0, after)], axis)
}

/**
 * Lets convolutions read beyond an edge what lies at the opposite one, as torch's padding_mode "circular": along the axes
 * asked for, and where they pad on both sides. What is padded on one side only (the VAE's reductions) stays as it is,
 * since that padding is no part of the layer in the reference.
 */
export function wrapConvolutions(graph: Graph, { x, y }: Wrap): Graph {
  return rewrite(graph, (node) => {
    if (node.op !== "conv2d") return node
    const { pads } = node.attrs as unknown as ConvAttrs
    const [top, left, bottom, right] = pads as [number, number, number, number]
    const [down, across] = [y && top > 0 && bottom > 0, x && left > 0 && right > 0]
    if (!down && !across) return node
    const [from, ...weights] = node.inputs as [Tensor, ...Tensor[]]
    const tall = down ? around(from, 2, top, bottom) : from
    const wide = across ? around(tall, 3, left, right) : tall
    const rest = [down ? 0 : top, across ? 0 : left, down ? 0 : bottom, across ? 0 : right]
    return apply("conv2d", [wide, ...weights], { ...node.attrs, pads: rest })
  })
}

import { showShape } from "./dim.ts"
import { type Graph, graphNodes, nameOf, type Tensor } from "./tensor.ts"

/** A graph as text, one value per line: `%3 = conv2d(%0, unet.conv_in.weight) stride=1 : f32[b, 320, h, w]`. */
export function printGraph(graph: Graph): string {
  const names = new Map<Tensor, string>()
  const lines: string[] = []
  let count = 0
  for (const node of graphNodes(graph)) {
    const type = `${node.dtype}${showShape(node.shape)}`
    if (node.op === "input" || node.op === "param") {
      names.set(node, nameOf(node))
      if (node.op === "input") lines.push(`input ${nameOf(node)} : ${type}`)
      continue
    }
    if (node.op === "constant" && node.shape.length === 0) {
      names.set(node, String((node.attrs.data as Float32Array)[0]))
      continue
    }
    const name = `%${count++}`
    names.set(node, name)
    const operands = node.inputs.map((i) => names.get(i)!).join(", ")
    lines.push(`${name} = ${node.op}(${operands})${showAttrs(node)} : ${type}`)
  }
  for (const [name, node] of Object.entries(graph.outputs)) lines.push(`output ${name} = ${names.get(node)}`)
  return lines.join("\n")
}

const showAttrs = (node: Tensor): string =>
  Object.entries(node.attrs)
    .filter(([key, value]) => key !== "data" && value !== undefined && !(key === "shape"))
    .map(([key, value]) => ` ${key}=${Array.isArray(value) ? `[${value}]` : String(value)}`)
    .join("")

/** A piece of a prompt in any dialect. Printing the A1111 tree gives back the text it was read from. */
export type Node = TextNode | WeightNode | SwitchNode | TurnsNode | SwapNode | BlendNode

export interface TextNode {
  kind: "text"
  text: string
}

/** Emphasis: the children's weight times `factor`, or `factor` alone where `absolute`. */
export interface WeightNode {
  kind: "weight"
  factor: number
  absolute?: boolean
  children: Node[]
  /** Brackets as written, where they must survive printing. */
  written?: { open: string; close: string }
}

/** `[before:after:at]`: another text from a step on. `at` is kept as written, since `1` and `1.0` differ. */
export interface SwitchNode {
  kind: "switch"
  before: Node[] | undefined
  after: Node[]
  at: string
  /** What stands between the last colon and the closing bracket, spaces included. */
  tail: string
}

/** `[a|b]`: one option per step, in turn. */
export interface TurnsNode {
  kind: "turns"
  options: Node[][]
}

/** Compel's `a.swap(b)`: prompt-to-prompt editing (Hertz et al. 2022). */
export interface SwapNode {
  kind: "swap"
  original: Node[]
  edited: Node[]
  options: Record<string, string>
}

/** Compel's `("a", "b").blend(1, 2)`: one embedding mixed from several. */
export interface BlendNode {
  kind: "blend"
  prompts: Node[][]
  weights: number[]
  normalize: boolean
}

/** An extra network named in a prompt: `<lora:name:0.8>`. */
export interface Network {
  kind: string
  /** Arguments without a key, in order. */
  args: string[]
  /** Arguments written `key=value`. */
  named: Record<string, string>
}

/** A prompt: parts that are combined, each with its weight, and the networks named on the way. */
export interface Prompt {
  parts: { weight: number; nodes: Node[] }[]
  /** How parts combine: A1111's AND adds their guidance, Compel's `.and()` sets their embeddings side by side. */
  join: "guidance" | "concat"
  networks: Network[]
}

/** A tree as text, in A1111's notation or, for a Comfy tree, ComfyUI's. */
export function printNodes(nodes: readonly Node[]): string {
  return nodes.map(printNode).join("")
}

function printNode(node: Node): string {
  switch (node.kind) {
    case "text":
      return node.text
    case "weight": {
      const { open, close } = node.written ?? { open: "(", close: `:${round(node.factor)})` }
      return open + printNodes(node.children) + close
    }
    case "switch":
      return `[${node.before ? `${printNodes(node.before)}:` : ""}${printNodes(node.after)}:${node.tail}]`
    case "turns":
      return `[${node.options.map(printNodes).join("|")}]`
    case "swap":
      return `(${printNodes(node.original)}).swap(${[printNodes(node.edited), ...options(node.options)].join(", ")})`
    case "blend":
      return `(${node.prompts.map((p) => `"${printNodes(p)}"`).join(", ")}).blend(${[...node.weights, ...(node.normalize ? [] : ["no_normalize"])].join(", ")})`
  }
}

const options = (record: Record<string, string>) =>
  Object.entries(record).map(([key, value]) => `${key}=${value}`)

const round = (x: number) => Number(x.toPrecision(6))

/** An indented outline of a prompt, for people. */
export function outline(prompt: Prompt): string {
  const lines = prompt.parts.flatMap((part) => [
    ...(prompt.parts.length > 1 || part.weight !== 1 ? [`part x ${round(part.weight)}`] : []),
    ...outlineNodes(part.nodes, 1),
  ])
  const networks = prompt.networks.map((n) => `${n.kind} ${[...n.args, ...options(n.named)].join(" ")}`)
  return [...lines, ...networks].join("\n")
}

function outlineNodes(nodes: readonly Node[], depth: number): string[] {
  return nodes.flatMap((node) => outlineNode(node, depth))
}

function outlineNode(node: Node, depth: number): string[] {
  const at = "  ".repeat(depth)
  const branch = (name: string, children: readonly Node[]) => [
    `${at}${name}`,
    ...outlineNodes(children, depth + 1),
  ]
  switch (node.kind) {
    case "text":
      return [`${at}${JSON.stringify(node.text)}`]
    case "weight":
      return branch(`${node.absolute ? "weight" : "x"} ${round(node.factor)}`, node.children)
    case "switch":
      return [...branch(`until ${node.at}`, node.before ?? []), ...branch("then", node.after)]
    case "turns":
      return node.options.flatMap((option, i) => branch(i === 0 ? "in turn" : "or", option))
    case "swap":
      return [...branch("swap", node.original), ...branch("for", node.edited)]
    case "blend":
      return node.prompts.flatMap((p, i) => branch(`blend ${node.weights[i]}`, p))
  }
}

/** Texts with the weight each carries, left to right; neighbours of one weight are not joined. */
export function spans(nodes: readonly Node[], weight = 1): { text: string; weight: number }[] {
  return nodes.flatMap((node) => {
    if (node.kind === "text") return [{ text: node.text, weight }]
    if (node.kind === "weight")
      return spans(node.children, node.absolute ? node.factor : weight * node.factor)
    if (node.kind === "swap") return spans(node.original, weight)
    return []
  })
}

import { fail } from "../errors.ts"
import { type ClipTokenizer, vectorIds } from "./bpe.ts"
import type { Group } from "./chunks.ts"
import { type Node, spans } from "./tree.ts"

/*
 * ComfyUI's prompt syntax (comfy/sd1_clip.py): (x) weighs 1.1 times what is around it, (x:1.3) weighs 1.3 whatever
 * is around it, \( and \) are text, embedding:name is a textual-inversion word.
 */

// stand-ins that ComfyUI uses too: no prompt holds these characters
const escapes = [
  ["\\)", "\0\x01", ")"],
  ["\\(", "\0\x02", "("],
] as const
const number = /^\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*$/
const deepest = 500

/** Tree of a prompt in ComfyUI's dialect. Brackets that do not match are text. */
export function parseComfy(text: string): Node[] {
  return weigh(
    escapes.reduce((t, [written, mark]) => t.replaceAll(written, mark), text),
    0,
  )
}

function weigh(text: string, depth: number): Node[] {
  if (depth > deepest) fail("PROMPT-NESTING", `a prompt opens more than ${deepest} brackets at once`)
  return topLevel(text).map((item): Node => {
    if (item.length < 2 || !item.startsWith("(") || !item.endsWith(")"))
      return { kind: "text", text: escapes.reduce((t, [, mark, meant]) => t.replaceAll(mark, meant), item) }
    const inner = item.slice(1, -1)
    const colon = inner.lastIndexOf(":")
    const weight = colon > 0 ? inner.slice(colon + 1) : ""
    return number.test(weight)
      ? {
          kind: "weight",
          factor: Number(weight),
          absolute: true,
          children: weigh(inner.slice(0, colon), depth + 1),
          written: { open: "(", close: `:${weight})` },
        }
      : { kind: "weight", factor: 1.1, children: weigh(inner, depth + 1), written: { open: "(", close: ")" } }
  })
}

/** Text cut at its outermost brackets, which stay on. */
function topLevel(text: string): string[] {
  const items: string[] = []
  let item = ""
  let open = 0
  for (const part of text.split(/([()])/)) {
    if (part === "(" && open === 0 && item !== "") {
      items.push(item)
      item = ""
    }
    item += part
    if (part === "(") open++
    if (part === ")" && --open === 0) {
      items.push(item)
      item = ""
    }
  }
  if (item !== "") items.push(item)
  return items
}

const identifier = "embedding:"

/** Ids of a tree, one group per segment: ComfyUI breaks long segments over chunks and keeps short ones whole. */
export function comfySegments(nodes: readonly Node[], tokenizer: ClipTokenizer): Group[] {
  return spans(nodes).flatMap(({ text, weight }) =>
    text.split(/(?<=\s)(?=embedding:)/).flatMap((part) => {
      if (!part.startsWith(identifier)) return [{ ids: tokenizer.encode(part), weight }]
      const { ids, rest } = embedding(part.slice(identifier.length), tokenizer)
      return [ids, tokenizer.encode(rest)].map((group) => ({ ids: group, weight }))
    }),
  )
}

/** The vectors named at the start of a text, and the text after the name. */
function embedding(text: string, tokenizer: ClipTokenizer): { ids: number[]; rest: string } {
  const [first = "", ...others] = text.split(/\s+/).filter((word) => word !== "")
  const bracket = first.search(/[<[]/)
  const name = bracket < 0 ? first : first.slice(0, bracket)
  const rest = [...(bracket < 0 ? [] : [first.slice(bracket)]), ...others].join(" ")
  const bare = name.replace(/^,+|,+$/g, "")
  for (const candidate of [name, bare]) {
    const stem = candidate.replace(/\.(safetensors|pt|bin)$/, "")
    const word = tokenizer.words.find((entry) => entry.word === candidate || entry.word === stem)
    if (word)
      return { ids: vectorIds(word), rest: candidate === name ? rest : `${name.slice(bare.length)} ${rest}` }
  }
  return fail("PROMPT-EMBEDDING", `the prompt names embedding:${bare}, which is not loaded`, {
    hint: "give its file with --embedding PATH",
  })
}

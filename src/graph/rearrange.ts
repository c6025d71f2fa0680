import { fail } from "../errors.ts"
import { type Dim, exactDiv, mulDim, showShape } from "./dim.ts"
import type { Tensor } from "./tensor.ts"

type Side = string[][]

/** Reads one side of a pattern: names, `1`, and groups in brackets. */
function side(text: string): Side {
  return [...text.matchAll(/\(([^)]*)\)|(\S+)/g)].map((m) =>
    m[2] ? [m[2]] : m[1]!.trim().split(/\s+/).filter(Boolean),
  )
}

const wrong = (x: Tensor, pattern: string, why: string): never =>
  fail("GRAPH_SHAPE", `rearrange "${pattern}" of ${showShape(x.shape)}: ${why}`, { blame: "here" })

/**
 * Splits, permutes and merges axes by a pattern such as `b s (heads d) -> b heads s d`; a literal 1 adds or drops
 * an axis of size one. Sizes of at most one name per group are inferred, others are given in `sizes`.
 * Notation: Rogozhnikov 2022 (einops).
 */
export function rearrange(x: Tensor, pattern: string, sizes: Readonly<Record<string, Dim>>): Tensor {
  const [left, right] = pattern.split("->").map((s) => side(s.trim()))
  if (!left || !right || left.length !== x.rank) return wrong(x, pattern, "the rank differs")
  const size = new Map<string, Dim>(Object.entries(sizes))
  left.forEach((group, i) => {
    if (group.length === 1 && group[0] === "1") return
    const unknown = group.filter((name) => !size.has(name))
    const known = mulDim(...group.filter((name) => size.has(name)).map((name) => size.get(name)!))
    if (unknown.length > 1) wrong(x, pattern, `sizes of ${unknown.join(" and ")} are not given`)
    if (unknown.length === 1)
      size.set(
        unknown[0]!,
        exactDiv(x.shape[i]!, known) ?? wrong(x, pattern, `${x.shape[i]} is not a multiple of ${known}`),
      )
  })
  const from = left.flat().filter((name) => name !== "1")
  const to = right.flat().filter((name) => name !== "1")
  if (from.length !== to.length || to.some((name) => !from.includes(name)))
    return wrong(x, pattern, "names differ between the sides")
  const split = x.reshape(from.map((name) => size.get(name)!))
  const moved = split.transpose(to.map((name) => from.indexOf(name)))
  return moved.reshape(
    right.map((group) => mulDim(...group.map((name) => (name === "1" ? 1 : size.get(name)!)))),
  )
}

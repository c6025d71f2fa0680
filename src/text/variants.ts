import { fail } from "../errors.ts"

/** How a prompt with variants is expanded. */
export interface Variants {
  /** Numbers in [0, 1), one per choice in reading order: a seeded generator makes the same prompt every time. */
  random: () => number
  /** Lines of the wildcard file `name`, for `__name__`. */
  wildcard?: (name: string) => readonly string[] | undefined
}

const deepest = 20
const wildcardName = /__([\p{L}\p{N}_./* -]+?)__/gu

/**
 * Replaces `{a|b|c}` by one of its options (`{3::a|b}` makes `a` three times as likely, `{2$$a|b|c}` takes two,
 * joined by commas) and `__name__` by a line of a wildcard file. Options and lines may hold both again.
 * Backslashes keep braces and bars as they are.
 */
export function expandVariants(prompt: string, variants: Variants): string {
  return expand(prompt, variants, 0)
}

function expand(prompt: string, variants: Variants, depth: number): string {
  if (depth > deepest)
    fail("PROMPT-WILDCARD", `wildcards lead to each other more than ${deepest} times over`, {
      hint: "a wildcard file names itself",
    })
  const { text } = readUntilClose(prompt, 0, variants)
  if (!variants.wildcard) return text
  return text.replace(wildcardName, (_, name: string) => {
    const lines = variants.wildcard!(name)?.filter((line) => line.trim() !== "" && !line.startsWith("#"))
    if (!lines || lines.length === 0)
      return fail("PROMPT-WILDCARD", `the prompt names the wildcard __${name}__, which has no lines`)
    return expand(lines[Math.floor(variants.random() * lines.length)]!.trim(), variants, depth + 1)
  })
}

/** Expands from `at` to the brace that closes there, or to the end; the options found on the way are separate. */
function readUntilClose(
  prompt: string,
  at: number,
  variants: Variants,
  inside = false,
): { text: string; options: string[]; next: number; closed: boolean } {
  const options: string[] = []
  let text = ""
  while (at < prompt.length) {
    const c = prompt[at]!
    if (c === "\\" && at + 1 < prompt.length) {
      text += /[{}|]/.test(prompt[at + 1]!) ? prompt[at + 1] : c + prompt[at + 1]
      at += 2
    } else if (c === "{") {
      const inner = readUntilClose(prompt, at + 1, variants, true)
      const all = [...inner.options, inner.text]
      text += inner.closed ? choose(all, variants) : `{${all.join("|")}`
      at = inner.next
    } else if (inside && c === "}") return { text, options, next: at + 1, closed: true }
    else if (inside && c === "|") {
      options.push(text)
      text = ""
      at++
    } else {
      text += c
      at++
    }
  }
  return { text, options, next: at, closed: false }
}

function choose(options: string[], { random }: Variants): string {
  const many = /^(\d+)\$\$/.exec(options[0]!)
  const rest = many ? [options[0]!.slice(many[0].length), ...options.slice(1)] : options
  const left = rest.map((option) => {
    const weight = /^\s*(\d+(?:\.\d+)?|\.\d+)::/.exec(option)
    return {
      option: weight ? option.slice(weight[0].length) : option,
      weight: weight ? Number(weight[1]) : 1,
    }
  })
  const chosen: string[] = []
  for (let n = many ? Math.min(Number(many[1]), left.length) : 1; n > 0; n--) {
    let mark = random() * left.reduce((sum, { weight }) => sum + weight, 0)
    let i = left.findIndex(({ weight }) => (mark -= weight) < 0)
    if (i < 0) i = left.length - 1
    chosen.push(left.splice(i, 1)[0]!.option)
  }
  return chosen.join(", ")
}

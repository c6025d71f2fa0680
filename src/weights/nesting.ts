/** Levels of lists and maps that a config may have; real ones have 8. */
export const deepest = 64

/**
 * Whether a text nests further than any config does: whoever follows it runs out of stack, and V8 ends a process whose
 * stack is gone inside a regular expression.
 */
export function nestsTooDeep(text: string): boolean {
  let depth = 0
  for (const letter of text) {
    if (letter === "[" || letter === "{") depth++
    else if (letter === "]" || letter === "}") depth = Math.max(0, depth - 1)
    if (depth > deepest) return true
  }
  return /^[ \t?:-]{513}/m.test(text)
}

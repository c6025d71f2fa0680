import { fail } from "../errors.ts"
import { byteAlphabet, MergeTable } from "./merges.ts"

/** A vocabulary with its merges, as byte-pair encoding needs it. */
export interface Vocabulary {
  /** How many symbols there are, and the highest id among them. */
  count: number
  highest: number
  /** Id of each byte's symbol inside a word and at its end; -1 where the vocabulary lacks it. */
  inner: Int32Array
  last: Int32Array
  merges: MergeTable
  find(symbol: string): number | undefined
  /** The symbol of an id. */
  symbol(id: number): string | undefined
}

/** What ends a word in CLIP's vocabulary. */
export const wordEnd = "</w>"

/**
 * Vocabulary of a parsed vocab.json and the lines "left right" of merges.txt, best first.
 * Fails with TOKENIZER-VOCAB or TOKENIZER-MERGES where the two do not belong together, as tokenizers does.
 */
export function readVocabulary(json: Record<string, unknown>, lines: readonly string[]): Vocabulary {
  const vocab = new Map<string, number>()
  let highest = -1
  for (const symbol of Object.keys(json)) {
    const id = json[symbol]
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0)
      fail("TOKENIZER-VOCAB", `the vocabulary gives ${JSON.stringify(symbol)} the id ${JSON.stringify(id)}`)
    vocab.set(symbol, id)
    if (id > highest) highest = id
  }
  if (vocab.size === 0)
    fail("TOKENIZER-VOCAB", "the tokenizer has no vocabulary", {
      hint: "a tokenizer folder holds vocab.json and merges.txt, or tokenizer.json",
    })
  const find = (symbol: string) => vocab.get(symbol)
  let symbols: Map<number, string> | undefined
  const symbol = (id: number) => (symbols ??= new Map([...vocab].map(([name, at]) => [at, name]))).get(id)
  return { count: vocab.size, highest, ...byteIds(find), merges: readMerges(find, lines), find, symbol }
}

/** Lines of a merges.txt; the `#version` line and blank lines are dropped. */
export function mergeLines(text: string): string[] {
  return text.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#version"))
}

export function byteIds(find: (symbol: string) => number | undefined): {
  inner: Int32Array
  last: Int32Array
} {
  return {
    inner: Int32Array.from(byteAlphabet, (symbol) => find(symbol) ?? -1),
    last: Int32Array.from(byteAlphabet, (symbol) => find(symbol + wordEnd) ?? -1),
  }
}

function readMerges(find: (symbol: string) => number | undefined, lines: readonly string[]): MergeTable {
  const columns = [0, 1, 2].map(() => new Int32Array(lines.length))
  const lacking = (what: string, line: string): never =>
    fail("TOKENIZER-MERGES", `merges.txt has the line ${JSON.stringify(line)}: ${what}`, {
      hint: "use the vocab.json and merges.txt that belong together",
    })
  lines.forEach((line, i) => {
    const gap = line.indexOf(" ")
    const left = line.slice(0, gap)
    const right = line.slice(gap + 1)
    if (gap < 1 || right === "" || right.includes(" ")) lacking('it is not "left right"', line)
    for (const [column, symbol] of [left, right, left + right].entries())
      columns[column]![i] = find(symbol) ?? lacking(`the vocabulary lacks ${JSON.stringify(symbol)}`, line)
  })
  return new MergeTable(columns[0]!, columns[1]!, columns[2]!)
}

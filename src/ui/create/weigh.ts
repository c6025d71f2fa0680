export interface Weighed {
  readonly text: string
  readonly start: number
  readonly end: number
  readonly words: string
  readonly weight: number
}

const step = 0.1

/** The word around a caret, without the punctuation at its edges. */
function wordAt(text: string, at: number): [number, number] {
  const letter = (i: number) => /[\p{L}\p{N}'’-]/u.test(text[i] ?? "")
  let [from, to] = [at, at]
  while (from > 0 && letter(from - 1)) from--
  while (letter(to)) to++
  return [from, to]
}

/** The selection without the white space at its edges. */
function trimmed(text: string, from: number, to: number): [number, number] {
  while (from < to && /\s/.test(text[from]!)) from++
  while (to > from && /\s/.test(text[to - 1]!)) to--
  return [from, to]
}

/**
 * Raises or lowers the weight of the selected words, or of the word at the caret, by a tenth, as A1111 writes it:
 * `(words:1.1)`. At weight 1 the brackets go. Null where there is no word.
 */
export function weigh(text: string, start: number, end: number, up: boolean): Weighed | null {
  let [from, to] = start === end ? wordAt(text, start) : trimmed(text, start, end)
  const whole = /^\(([^()]*):([\d.]+)\)$/.exec(text.slice(from, to))
  if (whole) [from, to] = [from + 1, from + 1 + whole[1]!.length]
  if (from === to) return null
  const around = text[from - 1] === "(" ? /^:([\d.]+)\)/.exec(text.slice(to)) : null
  const before = around ? Number(around[1]) : 1
  const weight = Math.round(Math.min(2, Math.max(0.1, before + (up ? step : -step))) * 100) / 100
  const words = text.slice(from, to)
  const head = text.slice(0, around ? from - 1 : from)
  const tail = text.slice(to + (around?.[0].length ?? 0))
  if (weight === 1)
    return { text: head + words + tail, start: head.length, end: head.length + words.length, words, weight }
  const marked = `(${words}:${weight})`
  const at = head.length + 1
  return { text: head + marked + tail, start: at, end: at + words.length, words, weight }
}

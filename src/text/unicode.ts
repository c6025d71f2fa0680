/**
 * Where the fast tokenizer's Unicode tables are older than JavaScript's, a newer character means something else
 * to it. Compared over every code point with tokenizers 0.23.3 and Unicode 17.
 */

/** Marks and composing letters that its NFC (Unicode 9) takes for plain characters. */
const unknownToNfc =
  "7fd 897-89f 8ca-8d3 9fe c3c d3b-d3c eba 1715 1abf-1add 1ae0-1aeb 1df6-1dfa a82c 105d2 105da 10d24-10d27 " +
  "10d69-10d6d 10eab-10eac 10efa-10efb 10efd-10eff 10f46-10f50 10f82-10f85 11070 1133b 11382 11384 1138b 11390 " +
  "113c2 113ce-113d0 1145e 11839-1183a 11935 1193d-1193e 11943 119e0 11a34 11a47 11a99 11d42 11d44-11d45 11d97 " +
  "11f41-11f42 1611e 16121-16122 16129 1612f 16d63 16d67-16d69 16ff0-16ff1 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef " +
  "1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5"

/** Letters and numbers of Unicode 17, which its word pattern (Unicode 16) takes for neither. */
const unknownToWords =
  "88f c5c cdc a7ce-a7cf a7f1 10940-10959 10ec5-10ec7 11db0-11ddb 11de0-11de9 16ea0-16eb8 16ebb-16ed3 " +
  "16ff2-16ff6 187f8-187ff 18d09-18d1e 18d80-18df2 1e6c0-1e6de 1e6e0-1e6e2 1e6e4-1e6e5 1e6e7-1e6ed 1e6f0-1e6f4 " +
  "1e6fe-1e6ff 2b73a-2b73f 2cea2-2cead 323b0-33479"

const inClass = (ranges: string) => ranges.replace(/[0-9a-f]+/g, "\\u{$&}").replaceAll(" ", "")

const markers = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d"

let newMarks: RegExp | undefined
let unicodePieces: RegExp | undefined
const asciiPieces = new RegExp(`${markers}|[a-z]+|[0-9]|[^\\t-\\r a-z0-9]+`, "g")

// spares a cold start the 10 ms that compiling Unicode classes takes
const isAscii = (text: string) => /^[\0-\x7f]*$/.test(text)

/** NFC, runs of white space to one space, lower case. Sigma is lowered alone: a final one stays σ, not ς. */
export function clean(text: string): string {
  if (isAscii(text)) return text.replace(/[\t-\r ]+/g, " ").toLowerCase()
  newMarks ??= new RegExp(`([${inClass(unknownToNfc)}]+)`, "u")
  const composed = text.split(newMarks).map((part, i) => (i % 2 ? part : part.normalize("NFC")))
  return composed
    .join("")
    .replace(/\p{White_Space}+/gu, " ")
    .replaceAll("Σ", "σ")
    .toLowerCase()
}

/** Cleaned text cut into contractions, runs of letters, single digits and runs of anything else. */
export function pieces(text: string): readonly string[] {
  if (isAscii(text)) return text.match(asciiPieces) ?? []
  unicodePieces ??= unicodePattern()
  return text.match(unicodePieces) ?? []
}

function unicodePattern(): RegExp {
  const late = `[${inClass(unknownToWords)}]`
  const word = `(?:(?!${late})\\p{L})+|(?!${late})\\p{N}`
  return new RegExp(`${markers}|${word}|(?:${late}|[^\\p{White_Space}\\p{L}\\p{N}])+`, "gu")
}

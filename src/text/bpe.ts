import { fail } from "../errors.ts"
import { byteAlphabet } from "./merges.ts"
import { type AddedToken, readSpecialTokens, type SpecialTokens } from "./special.ts"
import { clean, pieces } from "./unicode.ts"
import { mergeLines, readVocabulary, type Vocabulary, wordEnd } from "./vocabulary.ts"

/** Files of a tokenizer folder, as text or already parsed. Either `vocab` and `merges`, or `tokenizer`. */
export interface TokenizerFiles {
  /** vocab.json */
  vocab?: unknown
  /** merges.txt */
  merges?: string
  /** tokenizer.json, preferred over vocab.json and merges.txt */
  tokenizer?: unknown
  /** tokenizer_config.json */
  config?: unknown
  /** special_tokens_map.json */
  specialTokens?: unknown
  /** added_tokens.json */
  addedTokens?: unknown
}

/** A textual-inversion word: its vectors are the ids `first` to `first + count - 1`, past the vocabulary. */
export interface Word {
  word: string
  first: number
  count: number
}

/** What an id stands for. */
export interface Piece {
  /** UTF-8, which may begin or end within a character. */
  readonly bytes: Uint8Array
  /** It ends a word. */
  readonly end: boolean
}

const cacheLimit = 20_000
const utf8 = new TextEncoder()
const byteOf = new Map(byteAlphabet.map((letter, byte) => [letter, byte]))

/**
 * CLIP's tokenizer (Radford et al. 2021), with the cleaning of Hugging Face's fast one: NFC, white space to
 * one space, lower case letter by letter, no HTML unescaping. Special tokens in the text are themselves.
 */
export class ClipTokenizer {
  readonly bos: number
  readonly eos: number
  readonly pad: number
  /** Tokens of one chunk, begin and end included: 77. */
  readonly maxLength: number
  /** One past the highest id: where ids of textual-inversion words begin. */
  readonly size: number
  /** Textual-inversion words in the order given to `withWords`. */
  readonly words: readonly Word[]

  private readonly core: Core
  private readonly raw: Splitter | undefined
  private readonly cleaned: Splitter | undefined
  private readonly wordSplitter: Splitter | undefined
  private readonly wordsByFirstId: ReadonlyMap<number, { ids: number[]; word: Word }[]>

  private constructor(core: Core, words: readonly Word[] = []) {
    this.core = core
    this.words = words
    const { special, added } = core
    this.bos = core.idOf(special.bos)
    this.eos = core.idOf(special.eos)
    this.pad = core.idOf(special.pad)
    this.maxLength = special.maxLength
    this.size = core.size
    this.raw = splitter([...added.values()].filter((token) => !token.normalized))
    this.cleaned = splitter([...added.values()].filter((token) => token.normalized).map(cleanToken))
    this.wordSplitter = splitter(
      words.map((word) => ({ ...plainToken, content: clean(word.word), id: word.first })),
    )
    this.wordsByFirstId = this.indexWords()
  }

  /** Tokenizer of a folder's files. Fails with TOKENIZER-VOCAB, TOKENIZER-MERGES or TOKENIZER-CONFIG. */
  static fromFiles(files: TokenizerFiles): ClipTokenizer {
    const tokenizer = parse(files.tokenizer, "tokenizer.json")
    const model = files.tokenizer === undefined ? {} : asObject(tokenizer.model, "tokenizer.json: model")
    const vocab =
      files.tokenizer === undefined
        ? parse(files.vocab, "vocab.json")
        : asObject(model.vocab, "tokenizer.json: vocab")
    const merges = files.tokenizer === undefined ? mergeLines(files.merges ?? "") : listedMerges(model.merges)
    const special = readSpecialTokens(
      parse(files.config, "tokenizer_config.json"),
      parse(files.specialTokens, "special_tokens_map.json"),
      parse(files.addedTokens, "added_tokens.json"),
      tokenizer,
    )
    return new ClipTokenizer(new Core(readVocabulary(vocab, merges), special))
  }

  /** Tokenizer of a vocabulary already in memory: the way the bundled one is made. */
  static fromVocabulary(vocabulary: Vocabulary, special: SpecialTokens): ClipTokenizer {
    return new ClipTokenizer(new Core(vocabulary, special))
  }

  /** The same tokenizer, knowing textual-inversion words and how many vectors each one has. */
  withWords(words: ReadonlyMap<string, number>): ClipTokenizer {
    let first = this.size
    const list = [...words].map(([word, count]) => {
      const entry = { word, first, count }
      first += count
      return entry
    })
    return new ClipTokenizer(this.core, list)
  }

  /** Ids of a text, without begin and end. Textual-inversion words are not looked for. */
  encode(text: string): number[] {
    return this.encodeItems(text, false).flat()
  }

  /**
   * Ids of a text in groups: one id, or all ids of a textual-inversion word found anywhere in the cleaned text,
   * as diffusers finds the tokens it adds.
   */
  encodeGroups(text: string): number[][] {
    return this.encodeItems(text, true)
  }

  /** The longest textual-inversion word whose own ids stand at `at`, as A1111 looks for embeddings. */
  wordAt(ids: readonly number[], at: number): { word: Word; length: number } | undefined {
    const candidates = this.wordsByFirstId.get(ids[at]!) ?? []
    const hit = candidates.find((c) => c.ids.every((id, i) => ids[at + i] === id))
    return hit && { word: hit.word, length: hit.ids.length }
  }

  /** Id of a symbol such as `,</w>`, if the vocabulary or the added tokens hold it. */
  id(symbol: string): number | undefined {
    return this.core.find(symbol)
  }

  /** What an id stands for; the first of a textual-inversion word's ids has all of its letters. */
  piece(id: number): Piece {
    const word = this.words.find(({ first, count }) => id >= first && id < first + count)
    if (!word) return this.core.piece(id)
    const text = id === word.first ? word.word : ""
    return { bytes: utf8.encode(text), end: id === word.first + word.count - 1 }
  }

  private encodeItems(text: string, withWords: boolean): number[][] {
    const out: number[][] = []
    const plain = (part: string) => {
      for (const word of pieces(part)) for (const id of this.core.word(word)) out.push([id])
    }
    const wordsIn = (part: string) =>
      withWords
        ? split(part, this.wordSplitter, (first) => out.push(this.vectors(first)), plain)
        : plain(part)
    const cleanedPart = (part: string) => split(clean(part), this.cleaned, (id) => out.push([id]), wordsIn)
    split(text, this.raw, (id) => out.push([id]), cleanedPart)
    return out
  }

  private vectors(first: number): number[] {
    const word = this.words.find((entry) => entry.first === first)!
    return vectorIds(word)
  }

  private indexWords(): Map<number, { ids: number[]; word: Word }[]> {
    const index = new Map<number, { ids: number[]; word: Word }[]>()
    for (const word of this.words) {
      const ids = this.encode(word.word)
      if (ids.length === 0) continue
      const list = [...(index.get(ids[0]!) ?? []), { ids, word }]
      index.set(
        ids[0]!,
        list.sort((a, b) => b.ids.length - a.ids.length),
      )
    }
    return index
  }
}

/** Ids that stand for a word's vectors. */
export const vectorIds = ({ first, count }: Word): number[] =>
  Array.from({ length: count }, (_, i) => first + i)

/** What a tokenizer and its copies with words share: vocabulary, merges, added tokens, words already encoded. */
class Core {
  readonly added = new Map<string, AddedToken & { id: number }>()
  readonly special: SpecialTokens
  readonly size: number
  private readonly vocabulary: Vocabulary
  private readonly cache = new Map<string, number[]>()

  constructor(vocabulary: Vocabulary, special: SpecialTokens) {
    this.vocabulary = vocabulary
    this.special = special
    let { count: fresh, highest } = vocabulary
    for (const token of special.added) {
      const id = this.find(token.content) ?? fresh++
      if (id > highest) highest = id
      this.added.set(token.content, { ...token, id })
    }
    this.size = highest + 1
  }

  find(symbol: string): number | undefined {
    return this.added.get(symbol)?.id ?? this.vocabulary.find(symbol)
  }

  idOf(symbol: string): number {
    return this.find(symbol) ?? fail("TOKENIZER-CONFIG", `special token ${JSON.stringify(symbol)} has no id`)
  }

  piece(id: number): Piece {
    for (const token of this.added.values())
      if (token.id === id) return { bytes: utf8.encode(token.content), end: true }
    const symbol = this.vocabulary.symbol(id) ?? ""
    const end = symbol.endsWith(wordEnd)
    // the vocabulary's letters stand for bytes
    const letters = end ? symbol.slice(0, -wordEnd.length) : symbol
    return { bytes: Uint8Array.from(letters, (letter) => byteOf.get(letter) ?? 0x3f), end }
  }

  /** Ids of one pre-token. */
  word(word: string): readonly number[] {
    const known = this.cache.get(word)
    if (known) return known
    // the byte-level step of the fast tokenizer splits these once more where they are no special tokens
    const marker = /^(<\|)(startoftext|endoftext)(\|>)$/.exec(word)
    const ids = (marker ? marker.slice(1) : [word]).flatMap((part) => this.encodeWord(part))
    if (this.cache.size >= cacheLimit) this.cache.clear()
    this.cache.set(word, ids)
    return ids
  }

  private encodeWord(word: string): number[] {
    const { inner, last, merges } = this.vocabulary
    const bytes = utf8.encode(word)
    return merges.merge(
      Array.from(bytes, (byte, i) => {
        const id = (i + 1 < bytes.length ? inner : last)[byte]!
        return id < 0 ? this.unknown(word) : id
      }),
    )
  }

  private unknown(word: string): number {
    const { unk } = this.special
    return (
      this.vocabulary.find(unk) ??
      fail("TOKENIZER-VOCAB", `the vocabulary cannot spell ${JSON.stringify(word)} and has no ${unk}`, {
        hint: "the vocab.json is incomplete",
      })
    )
  }
}

type Splitter = { pattern: RegExp; tokens: Map<string, AddedToken & { id: number }> }

const plainToken = { normalized: true, lstrip: false, rstrip: false, singleWord: false }

const cleanToken = <T extends AddedToken>(token: T): T => ({ ...token, content: clean(token.content) })

function splitter(tokens: (AddedToken & { id: number })[]): Splitter | undefined {
  const usable = tokens.filter((token) => token.content !== "")
  if (usable.length === 0) return undefined
  // leftmost, then longest
  const longestFirst = usable.map((token) => token.content).sort((a, b) => b.length - a.length)
  const source = longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|")
  return { pattern: new RegExp(source, "g"), tokens: new Map(usable.map((token) => [token.content, token])) }
}

function split(
  text: string,
  by: Splitter | undefined,
  onToken: (id: number) => void,
  onText: (part: string) => void,
): void {
  let done = 0
  for (const match of by ? text.matchAll(by.pattern) : []) {
    const token = by!.tokens.get(match[0])!
    let start = match.index
    let stop = start + match[0].length
    if (
      token.singleWord &&
      (/[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u.test(text.slice(0, start)) ||
        /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u.test(text.slice(stop)))
    )
      continue
    if (token.lstrip) start = Math.max(text.slice(0, start).replace(/\p{White_Space}+$/u, "").length, done)
    if (token.rstrip) stop += /^\p{White_Space}*/u.exec(text.slice(stop))![0].length
    if (start > done) onText(text.slice(done, start))
    onToken(token.id)
    done = stop
  }
  if (done < text.length) onText(text.slice(done))
}

function parse(value: unknown, file: string): Record<string, unknown> {
  if (value === undefined) return {}
  if (typeof value !== "string") return asObject(value, file)
  let parsed: unknown
  try {
    parsed = JSON.parse(value)
  } catch (cause) {
    fail("TOKENIZER-CONFIG", `${file} is not JSON`, { file, cause })
  }
  return asObject(parsed, file)
}

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  return fail("TOKENIZER-CONFIG", `${what} is not a JSON object`, {
    hint: "the tokenizer folder looks damaged",
  })
}

function listedMerges(merges: unknown): string[] {
  if (!Array.isArray(merges)) return fail("TOKENIZER-MERGES", "tokenizer.json holds no merges")
  return merges.map((pair) => (Array.isArray(pair) ? pair.join(" ") : String(pair)))
}

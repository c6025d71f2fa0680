/**
 * Byte-level alphabet of GPT-2 and CLIP: byte -> one printable character. Printable Latin-1 bytes stand for
 * themselves, the other 68 take code points from 256 on, in byte order.
 */
export const byteAlphabet: readonly string[] = buildAlphabet()

function buildAlphabet(): string[] {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    return String.fromCharCode(printable ? byte : next++)
  })
}

const none = -1

/** How many left ids are searched one by one before all of them are sorted. */
const searches = 256

/**
 * Byte-pair merging (Sennrich et al. 2016, Alg. 1) over ids: the pair with the lowest rank goes first, the
 * leftmost of equals. The merges of a left id are searched when it first occurs, so that a short prompt costs a
 * few milliseconds, where sorting CLIP's 48,894 pairs costs 20 and a Map of them 40.
 */
export class MergeTable {
  private readonly left: Uint16Array | Int32Array
  private readonly right: Uint16Array | Int32Array
  private readonly result: Int32Array | number
  /** Left id -> right id -> rank, for the left ids met so far. */
  private readonly found = new Map<number, ReadonlyMap<number, number>>()
  private groups: Map<number, number[]> | undefined

  /**
   * Merge i, in order of rank, turns the ids `left[i] right[i]` into `result[i]`, or into `result + i` where that is
   * a number. Of equal pairs the last counts.
   */
  constructor(left: Uint16Array | Int32Array, right: Uint16Array | Int32Array, result: Int32Array | number) {
    this.left = left
    this.right = right
    this.result = result
  }

  /** Ids of one word after all merges. */
  merge(ids: readonly number[]): number[] {
    return ids.length < 48 ? this.mergeShort(ids) : this.mergeLong(ids)
  }

  private rank(left: number, right: number): number {
    let ranks = this.found.get(left)
    if (!ranks) this.found.set(left, (ranks = this.ranksOf(left)))
    return ranks.get(right) ?? Number.POSITIVE_INFINITY
  }

  private ranksOf(id: number): Map<number, number> {
    if (this.found.size >= searches) this.groups ??= this.grouped()
    const ranks: number[] = this.groups?.get(id) ?? []
    if (!this.groups)
      for (let at = this.left.indexOf(id); at >= 0; at = this.left.indexOf(id, at + 1)) ranks.push(at)
    return new Map(ranks.map((rank) => [this.right[rank]!, rank]))
  }

  /** Ranks by left id, ascending. */
  private grouped(): Map<number, number[]> {
    const groups = new Map<number, number[]>()
    this.left.forEach((id, rank) => {
      const group = groups.get(id)
      if (group) group.push(rank)
      else groups.set(id, [rank])
    })
    return groups
  }

  private merged(rank: number): number {
    return typeof this.result === "number" ? this.result + rank : this.result[rank]!
  }

  /** Quadratic scan: the fastest for words of ordinary length. */
  private mergeShort(ids: readonly number[]): number[] {
    const word = [...ids]
    const ranks = word.slice(1).map((right, i) => this.rank(word[i]!, right))
    for (;;) {
      let at = none
      let best = Number.POSITIVE_INFINITY
      for (let i = 0; i < ranks.length; i++) if (ranks[i]! < best) best = ranks[(at = i)]!
      if (at === none) return word
      word.splice(at, 2, this.merged(best))
      ranks.splice(at, 1)
      if (at > 0) ranks[at - 1] = this.rank(word[at - 1]!, word[at]!)
      if (at < ranks.length) ranks[at] = this.rank(word[at]!, word[at + 1]!)
    }
  }

  /** Linked list and heap: a word of a million letters stays n log n. */
  private mergeLong(ids: readonly number[]): number[] {
    const word = [...ids]
    const count = word.length
    const next = Int32Array.from(word, (_, i) => i + 1)
    const previous = Int32Array.from(word, (_, i) => i - 1)
    const heap = new PairHeap()
    const offer = (i: number) => {
      if (i < 0 || next[i]! >= count) return
      const rank = this.rank(word[i]!, word[next[i]!]!)
      if (rank < Number.POSITIVE_INFINITY) heap.push(rank, i)
    }
    for (let i = 0; i + 1 < count; i++) offer(i)
    for (let top = heap.pop(); top; top = heap.pop()) {
      const [rank, i] = top
      const j = next[i]!
      // an entry is stale once either side has merged elsewhere
      if (word[i] === none || j >= count || this.rank(word[i]!, word[j]!) !== rank) continue
      word[i] = this.merged(rank)
      word[j] = none
      next[i] = next[j]!
      if (next[i]! < count) previous[next[i]!] = i
      offer(previous[i]!)
      offer(i)
    }
    return word.filter((id) => id !== none)
  }
}

/** Binary min-heap of (rank, position), ordered by rank and then position. */
class PairHeap {
  private readonly items: [number, number][] = []

  push(rank: number, at: number): void {
    const items = this.items
    let i = items.push([rank, at]) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!before(items[i]!, items[parent]!)) break
      swap(items, i, parent)
      i = parent
    }
  }

  pop(): [number, number] | undefined {
    const items = this.items
    const top = items[0]
    const last = items.pop()
    if (last === undefined || items.length === 0) return top
    items[0] = last
    for (let i = 0; ; ) {
      let least = i
      for (const child of [2 * i + 1, 2 * i + 2])
        if (child < items.length && before(items[child]!, items[least]!)) least = child
      if (least === i) return top
      swap(items, i, least)
      i = least
    }
  }
}

const before = (a: [number, number], b: [number, number]) => a[0] < b[0] || (a[0] === b[0] && a[1] < b[1])

function swap<T>(items: T[], i: number, j: number): void {
  const held = items[i]!
  items[i] = items[j]!
  items[j] = held
}

/**
 * Small seeded generator of the corpus: xoshiro128** (Blackman and Vigna 2018) on 32-bit integers, seeded by
 * splitmix32, so the same seed gives the same scene in every JavaScript engine.
 */
export class Random {
  private readonly state: Uint32Array

  /** @param seed any integer; its low 32 bits count */
  constructor(seed: number) {
    let x = seed >>> 0
    this.state = Uint32Array.from({ length: 4 }, () => {
      x = (x + 0x9e3779b9) >>> 0
      return mixBits(x)
    })
  }

  /** Next 32 random bits as an unsigned integer. */
  next(): number {
    const s = this.state
    const result = Math.imul(rotate(Math.imul(s[1]!, 5), 7), 9) >>> 0
    const t = s[1]! << 9
    s[2]! ^= s[0]!
    s[3]! ^= s[1]!
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= t
    s[3] = rotate(s[3]!, 11)
    return result
  }

  /** A number in [0, 1), a multiple of 2^-32. */
  unit(): number {
    return this.next() / 4294967296
  }

  /** A number in [low, high). */
  range(low: number, high: number): number {
    return low + (high - low) * this.unit()
  }

  /** An integer in [0, n). */
  integer(n: number): number {
    return Math.floor(this.unit() * n)
  }

  chance(probability: number): boolean {
    return this.unit() < probability
  }

  pick<T>(list: readonly T[]): T {
    return list[this.integer(list.length)]!
  }

  /** One key of a table of weights, drawn in proportion to its weight. */
  weighted<K extends string>(weights: Partial<Record<K, number>>): K {
    const entries = Object.entries(weights) as [K, number][]
    let rest = this.unit() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [key, weight] of entries) if ((rest -= weight) < 0) return key
    return entries.at(-1)![0]
  }

  /** The list in random order (Fisher and Yates). */
  shuffled<T>(list: readonly T[]): T[] {
    const out = [...list]
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.integer(i + 1)
      ;[out[i], out[j]] = [out[j]!, out[i]!]
    }
    return out
  }
}

const rotate = (x: number, k: number) => ((x << k) | (x >>> (32 - k))) >>> 0

/** Bijective scramble of 32 bits (the finaliser of MurmurHash3). */
export function mixBits(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}

/** Stable 32-bit hash of a text (FNV-1a over its UTF-16 units, then scrambled). */
export function hashText(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return mixBits(h >>> 0)
}

const size = 624
const shift = 397

/**
 * Mersenne Twister, 32-bit words, as torch's CPU generator draws them (Matsumoto & Nishimura 1998).
 * Only the low 32 bits of the seed count, as in torch.
 */
export class Mt19937 {
  readonly #state = new Uint32Array(size)
  #next = size

  constructor(seed: number | bigint) {
    const state = this.#state
    state[0] = Number(BigInt.asUintN(32, BigInt(seed)))
    for (let i = 1; i < size; i++) {
      const before = state[i - 1]!
      state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i
    }
  }

  #twist(): void {
    const state = this.#state
    for (let i = 0; i < size; i++) {
      const y = (state[i]! & 0x80000000) | (state[i + 1 === size ? 0 : i + 1]! & 0x7fffffff)
      const far = state[i + shift < size ? i + shift : i + shift - size]!
      state[i] = far ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0)
    }
    this.#next = 0
  }

  /** Next word, 0 to 2^32 - 1. */
  word(): number {
    if (this.#next === size) this.#twist()
    let y = this.#state[this.#next++]!
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }
}

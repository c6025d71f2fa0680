import { mixBits } from "./corpus/random.ts"

/**
 * Place `i` of a shuffled row of `count` numbers, without holding the row: a Feistel network on as many bits as
 * needed, walked until it lands inside (Black & Rogaway 2002).
 */
export function shuffled(i: number, count: number, seed: number): number {
  let bits = 2
  while (2 ** bits < count) bits += 2
  const half = bits / 2
  const mask = 2 ** half - 1
  let n = i
  do {
    let left = Math.floor(n / 2 ** half)
    let right = n & mask
    for (let round = 0; round < 6; round++)
      [left, right] = [right, (left ^ mixBits(mixBits(seed + round) ^ right)) & mask]
    n = left * 2 ** half + right
  } while (n >= count)
  return n
}

/** Item of draw `n` when all `count` items are drawn once in every round, in another order each. */
export const itemOfDraw = (n: number, count: number, seed: number): number =>
  shuffled(n % count, count, mixBits(seed + Math.floor(n / count)))

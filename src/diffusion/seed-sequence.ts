// constants of numpy's SeedSequence (O'Neill's seed_seq_fe)
const initA = 0x43b0d7e5
const multA = 0x931e8875
const initB = 0x8b51f9dd
const multB = 0x58f38ded
const mixLeft = 0xca01f9dd
const mixRight = 0x4973f715

/** Little-endian 32-bit words of a whole number; at least one. */
function words(value: number | bigint): number[] {
  let rest = BigInt(value)
  const out: number[] = []
  do {
    out.push(Number(rest & 0xffffffffn))
    rest >>= 32n
  } while (rest > 0n)
  return out
}

/** One multiplicative hash after another; each call goes on with the next constant. */
function hasher(constant: number, multiplier: number): (value: number) => number {
  return (value) => {
    value ^= constant
    constant = Math.imul(constant, multiplier)
    value = Math.imul(value, constant)
    return value ^ (value >>> 16)
  }
}

function mix(x: number, y: number): number {
  const mixed = (Math.imul(mixLeft, x) - Math.imul(mixRight, y)) | 0
  return mixed ^ (mixed >>> 16)
}

/**
 * `numpy.random.SeedSequence(entropy, spawn_key=spawnKey, pool_size=poolSize).generate_state(n)`.
 * @param entropy whole number, not negative, of any size.
 */
export function seedSequence(
  entropy: number | bigint,
  spawnKey: readonly number[],
  poolSize: number,
  n: number,
): Uint32Array {
  const run = words(entropy)
  const padding = spawnKey.length > 0 ? Math.max(0, poolSize - run.length) : 0
  const assembled = [...run, ...new Array<number>(padding).fill(0), ...spawnKey.flatMap(words)]

  const hash = hasher(initA, multA)
  const pool = Array.from({ length: poolSize }, (_, i) => hash(assembled[i] ?? 0))
  for (let from = 0; from < poolSize; from++) {
    for (let to = 0; to < poolSize; to++) if (from !== to) pool[to] = mix(pool[to]!, hash(pool[from]!))
  }
  for (const extra of assembled.slice(poolSize)) {
    for (let to = 0; to < poolSize; to++) pool[to] = mix(pool[to]!, hash(extra))
  }
  const draw = hasher(initB, multB)
  return Uint32Array.from({ length: n }, (_, i) => draw(pool[i % poolSize]!))
}

const multiplier0 = 0xd2511f53
const multiplier1 = 0xcd9e8d57
const weyl0 = 0x9e3779b9
const weyl1 = 0xbb67ae85

/** High 32 bits of an unsigned 32 x 32 bit product, in 16-bit halves; as a signed word. */
function mulHigh(a: number, b: number): number {
  const a0 = a & 0xffff
  const a1 = a >>> 16
  const b0 = b & 0xffff
  const b1 = b >>> 16
  const cross = (Math.imul(a1, b0) + (Math.imul(a0, b0) >>> 16)) | 0
  const carry = (Math.imul(a0, b1) + (cross & 0xffff)) | 0
  return (Math.imul(a1, b1) + (cross >>> 16) + (carry >>> 16)) | 0
}

/** Philox4x32 with 10 rounds (Salmon et al. 2011): replaces the four counter words by the random ones. */
export function philox4x32(counter: Int32Array | Uint32Array, keyLow: number, keyHigh: number): void {
  let c0 = counter[0]! | 0
  let c1 = counter[1]! | 0
  let c2 = counter[2]! | 0
  let c3 = counter[3]! | 0
  let k0 = keyLow | 0
  let k1 = keyHigh | 0
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(multiplier0, c0)
    const high1 = mulHigh(multiplier1, c2)
    const low0 = Math.imul(multiplier0, c0)
    const low1 = Math.imul(multiplier1, c2)
    c0 = high1 ^ c1 ^ k0
    c1 = low1
    c2 = high0 ^ c3 ^ k1
    c3 = low0
    k0 = (k0 + weyl0) | 0
    k1 = (k1 + weyl1) | 0
  }
  counter[0] = c0
  counter[1] = c1
  counter[2] = c2
  counter[3] = c3
}

/** SHA-256 in pieces (FIPS 180-4), for browsers: theirs takes only whole arrays, and only on secure pages. */
export class Sha256 {
  private readonly state = Uint32Array.from(initial)
  private readonly words = new Uint32Array(64)
  private readonly rest = new Uint8Array(64)
  private held = 0
  private length = 0

  update(bytes: Uint8Array): this {
    this.length += bytes.length
    let at = 0
    if (this.held > 0) {
      at = Math.min(64 - this.held, bytes.length)
      this.rest.set(bytes.subarray(0, at), this.held)
      this.held += at
      if (this.held < 64) return this
      this.block(new DataView(this.rest.buffer), 0)
      this.held = 0
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (; at + 64 <= bytes.length; at += 64) this.block(view, at)
    this.rest.set(bytes.subarray(at))
    this.held = bytes.length - at
    return this
  }

  /** Ends the message: 64 lower-case hexadecimal digits. */
  hex(): string {
    const bits = this.length * 8
    const tail = new Uint8Array(((this.length + 8) >> 6 === this.length >> 6 ? 64 : 128) - (this.length % 64))
    tail[0] = 0x80
    const view = new DataView(tail.buffer)
    view.setUint32(tail.length - 8, Math.floor(bits / 2 ** 32))
    view.setUint32(tail.length - 4, bits >>> 0)
    this.update(tail)
    return Array.from(this.state, (w) => w.toString(16).padStart(8, "0")).join("")
  }

  private block(view: DataView, at: number): void {
    const w = this.words
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i)
    for (let i = 16; i < 64; i++) {
      const [p, q] = [w[i - 15]!, w[i - 2]!]
      const low = ((p >>> 7) | (p << 25)) ^ ((p >>> 18) | (p << 14)) ^ (p >>> 3)
      const high = ((q >>> 17) | (q << 15)) ^ ((q >>> 19) | (q << 13)) ^ (q >>> 10)
      w[i] = w[i - 16]! + low + w[i - 7]! + high
    }
    const s = this.state
    let [a, b, c, d] = [s[0]!, s[1]!, s[2]!, s[3]!]
    let [e, f, g, h] = [s[4]!, s[5]!, s[6]!, s[7]!]
    for (let i = 0; i < 64; i++) {
      const high = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))
      const one = (h + high + ((e & f) ^ (~e & g)) + rounds[i]! + w[i]!) | 0
      const low = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))
      const two = (low + ((a & b) ^ (a & c) ^ (b & c))) | 0
      h = g
      g = f
      f = e
      e = (d + one) | 0
      d = c
      c = b
      b = a
      a = (one + two) | 0
    }
    const add = [a, b, c, d, e, f, g, h]
    for (let i = 0; i < 8; i++) s[i] = s[i]! + add[i]!
  }
}

const primes = (() => {
  const found: number[] = []
  for (let n = 2; found.length < 64; n++) if (found.every((p) => n % p !== 0)) found.push(n)
  return found
})()
/** First 32 bits of the fractional part. */
const fraction = (x: number): number => Math.floor((x - Math.floor(x)) * 2 ** 32)
const initial = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)))
const rounds = Uint32Array.from(primes, (p) => fraction(Math.cbrt(p)))

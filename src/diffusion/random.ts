import { Mt19937 } from "./mt19937.ts"
import { philox4x32 } from "./philox.ts"
import type { DrawNoise } from "./types.ts"

/** A stream of standard normals; each call goes on where the last one ended. */
export interface Generator {
  normal(n: number): Float32Array
}

/** torch's CPU generator: `torch.Generator().manual_seed(seed)`. */
export interface TorchGenerator extends Generator {
  /** `torch.rand(n)`: uniform in [0, 1) with 24 bits. */
  uniform(n: number): Float32Array
  /** `torch.randint(low, high, (n,))`, for ranges below 2^28 (one word each). */
  integers(n: number, low: number, high: number): Float64Array
  /** Raw words of the Mersenne Twister. */
  words(n: number): Uint32Array
}

const f32 = Math.fround
const turn = 2 * Math.PI

const floats = new Float32Array(1)
const bits = new Int32Array(floats.buffer)

/** Natural logarithm of a float32, normal and positive, to 1e-13; the same in every engine, unlike Math.log. */
function log32(x: number): number {
  floats[0] = x
  const word = bits[0]!
  const above = (word & 0x7fffff) > 0x3504f3 // mantissas above sqrt(2) belong to the next power of two
  bits[0] = (word & 0x7fffff) | (above ? 0x3f000000 : 0x3f800000)
  const m = floats[0]
  const s = (m - 1) / (m + 1)
  const q = s * s
  const series = 1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q / 13)))))
  return ((word >> 23) - (above ? 126 : 127)) * Math.LN2 + 2 * s * series
}

const sinSeries = (r: number, q: number): number =>
  r * (1 - (q / 6) * (1 - (q / 20) * (1 - (q / 42) * (1 - (q / 72) * (1 - q / 110)))))
const cosSeries = (q: number): number =>
  1 - (q / 2) * (1 - (q / 12) * (1 - (q / 30) * (1 - (q / 56) * (1 - (q / 90) * (1 - q / 132)))))

/** Sine of `angle + quarters` right angles, to 1e-11, for angles up to a few turns. */
function sine(angle: number, quarters: number): number {
  const nearest = Math.round(angle * (2 / Math.PI))
  const r = angle - nearest * (Math.PI / 2)
  const q = r * r
  const value = (nearest + quarters) & 1 ? cosSeries(q) : sinSeries(r, q)
  return (nearest + quarters) & 2 ? -value : value
}

/** Box-Muller on 16 uniforms at `at`: the first eight give radii, the last eight angles. */
function boxMuller16(data: Float32Array, at: number): void {
  for (let j = at; j < at + 8; j++) {
    const radius = Math.sqrt(-2 * log32(1 - data[j]!))
    const angle = f32(f32(turn) * data[j + 8]!)
    data[j] = radius * sine(angle, 1)
    data[j + 8] = radius * sine(angle, 0)
  }
}

/**
 * The numbers `torch.randn(..., generator=torch.Generator().manual_seed(seed))` gives on a CPU, to float32 rounding of
 * log and cos. Sixteen numbers and more come from the vector path, whose last sixteen are drawn anew when the count is
 * no multiple of 16; fewer come from the scalar path, which keeps the second number of a pair for the next short call.
 * @param seed any integer; torch keeps its low 32 bits.
 */
export function torchGenerator(seed: number | bigint): TorchGenerator {
  const twister = new Mt19937(seed)
  let spare: number | undefined

  const uniform = (n: number): Float32Array => {
    const out = new Float32Array(n)
    for (let i = 0; i < n; i++) out[i] = (twister.word() & 0xffffff) * 2 ** -24
    return out
  }
  const uniform53 = (): number => {
    const high = twister.word() & 0x1fffff
    return (high * 2 ** 32 + twister.word()) * 2 ** -53
  }
  const scalar = (): number => {
    if (spare !== undefined) {
      const kept = spare
      spare = undefined
      return kept
    }
    const angle = turn * uniform53()
    const radius = Math.sqrt(-2 * Math.log1p(-uniform53()))
    spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }
  const vector = (n: number): Float32Array => {
    const out = uniform(n)
    for (let i = 0; i + 16 <= n; i += 16) boxMuller16(out, i)
    if (n % 16 !== 0) {
      out.set(uniform(16), n - 16)
      boxMuller16(out, n - 16)
    }
    return out
  }
  return {
    normal: (n) => (n >= 16 ? vector(n) : Float32Array.from({ length: n }, scalar)),
    uniform,
    integers: (n, low, high) => Float64Array.from({ length: n }, () => low + (twister.word() % (high - low))),
    words: (n) => Uint32Array.from({ length: n }, () => twister.word()),
  }
}

/** Words that element `index` of draw number `draw` sees under `seed`. */
export function philoxWords(seed: number | bigint, draw: number, index: number): Uint32Array {
  const key = BigInt.asUintN(64, BigInt(seed))
  const counter = Uint32Array.of(draw, 0, index, 0)
  philox4x32(counter, Number(key & 0xffffffffn), Number(key >> 32n))
  return counter
}

// cuRAND's float32 constants: 2^-32, and 2 pi 2^-32
const unit = f32(2.3283064e-10)
const unitTurn = f32(2.3283064e-10 * 6.2831855)

/**
 * The numbers `torch.randn(..., device="cuda")` gives, computed on the CPU as A1111's "NV" source does: one Philox
 * counter per element, the first of each Box-Muller pair, and an offset that every draw raises by one.
 */
export function cudaGenerator(seed: number | bigint): Generator {
  const key = BigInt.asUintN(64, BigInt(seed))
  const low = Number(key & 0xffffffffn)
  const high = Number(key >> 32n)
  const counter = new Uint32Array(4)
  let draw = 0
  return {
    normal(n) {
      const out = new Float32Array(n)
      for (let i = 0; i < n; i++) {
        counter[0] = draw
        counter[1] = 0
        counter[2] = i
        counter[3] = 0
        philox4x32(counter, low, high)
        const u = counter[0]! * unit + unit / 2
        const angle = counter[1]! * unitTurn + unitTurn / 2
        out[i] = Math.sqrt(-2 * Math.log(u)) * sine(angle, 0)
      }
      draw++
      return out
    },
  }
}

export type Rng = "cpu" | "cuda"

/** A generator of the source `--rng` names. */
export const generator = (seed: number | bigint, rng: Rng): Generator =>
  rng === "cuda" ? cudaGenerator(seed) : torchGenerator(seed)

/** All noise of one picture: every draw goes on with the generator that made the first. */
export function pictureNoise(seed: number | bigint, rng: Rng, size: number): DrawNoise {
  const stream = generator(seed, rng)
  return () => stream.normal(size)
}

/**
 * The few numpy functions that diffusers builds its schedules with, to the bit: a timestep that is truncated to an
 * integer must fall on the same side.
 */

const f32 = Math.fround

/** `np.linspace(start, stop, n)` in double. */
export function linspace(start: number, stop: number, n: number): number[] {
  if (n === 1) return [start]
  const step = (stop - start) / (n - 1)
  return Array.from({ length: n }, (_, i) => (i === n - 1 ? stop : i * step + start))
}

/** `np.arange(start, 0, -step)`: rounding may add an entry next to 0, as numpy's length rule does. */
export function countDown(start: number, step: number): number[] {
  const delta = start - step - start
  return Array.from({ length: Math.ceil(start / step) }, (_, i) => start + i * delta)
}

/** `np.round`: halves go to the even neighbour. */
export function roundEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}

/** `np.interp(x, np.arange(len(values)), values)`: linear between whole positions, constant beyond the ends. */
export function interpolate(x: number, values: ArrayLike<number>): number {
  const last = values.length - 1
  if (x >= last) return values[last]!
  if (x <= 0) return values[0]!
  const i = Math.floor(x)
  return (values[i + 1]! - values[i]!) * (x - i) + values[i]!
}

const numerator = [0.025899791179079226, 0.3808837741388408, 1.4800006335765066, 2.112677543073053, 1, 0].map(
  f32,
)
const denominator = [
  5.875095403124574e-3, 0.15464763749839067, 0.9864942958519419, 2.453006071784736, 2.6126775430731093, 1,
].map(f32)
const ln2 = f32(Math.LN2)

/** Horner's rule with fused multiply-add: a float32 product is exact in a double. */
const horner = (coefficients: readonly number[], x: number): number =>
  coefficients.reduce((sum, c) => f32(sum * x + c))

/** `np.log` of a positive float32 in float32: numpy's rational approximation, one rounding in eleven off the true one. */
export function log32(x: number): number {
  if (x === 0) return -Infinity
  let exponent = Math.floor(Math.log2(x)) + 1
  let mantissa = x / 2 ** exponent
  if (mantissa >= 1) [mantissa, exponent] = [mantissa / 2, exponent + 1]
  if (mantissa < 0.5) [mantissa, exponent] = [mantissa * 2, exponent - 1]
  if (mantissa <= f32(Math.SQRT1_2)) [mantissa, exponent] = [mantissa * 2, exponent - 1]
  const m = f32(mantissa - 1)
  return f32(exponent * ln2 + f32(horner(numerator, m) / horner(denominator, m)))
}

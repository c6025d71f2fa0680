/** Version of this package; a test holds it equal to package.json. */
export const version = "0.1.0"

/**
 * What the same request draws: raised by a change that alters pictures beyond rounding, and written into every picture.
 * `test/behaviour.test.ts` holds it with pictures that are never remade.
 */
export const behaviour = 1

import { InvalidArgumentError } from "commander"

/** Reads a number; anything else is a usage error. */
export function number(text: string): number {
  const value = Number(text)
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError(`${text} is not a number`)
  return value
}

/** Reads whole numbers within bounds; anything else is a usage error. */
export const wholeNumber =
  (low: number, high: number) =>
  (text: string): number => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < low || value > high)
      throw new InvalidArgumentError(`${text} is not a whole number from ${low} to ${high}`)
    return value
  }

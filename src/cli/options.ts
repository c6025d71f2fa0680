import { InvalidArgumentError } from "commander"

/** Reads a number; anything else is a usage error. */
export function number(text: string): number {
  const value = Number(text)
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError(`${text} is not a number`)
  return value
}

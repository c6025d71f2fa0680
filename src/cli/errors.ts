import { CommanderError } from "commander"
import { AquatintError } from "../index.ts"

/** Any thrown value as an error of ours: usage errors of the argument parser, aborted runs, and the unforeseen. */
export function asError(thrown: unknown): AquatintError {
  if (thrown instanceof AquatintError) return thrown
  if (thrown instanceof CommanderError) {
    return new AquatintError("USAGE", thrown.message.replace(/^error: /, ""), {
      hint: "aquatint --help lists commands, aquatint COMMAND --help options",
    })
  }
  const code = (thrown as NodeJS.ErrnoException)?.code
  return new AquatintError(
    typeof code === "string" && /^[A-Z0-9_-]+$/.test(code) ? code : "INTERNAL",
    thrown instanceof Error ? thrown.message : String(thrown),
    {
      blame: "here",
      cause: thrown,
      hint: "this should not happen; please report it with the command",
    },
  )
}

/** Prints an error as the contract says and returns the exit code. */
export function report(thrown: unknown, json: boolean): number {
  const error = asError(thrown)
  if (json) process.stdout.write(`${JSON.stringify({ error: error.toJSON() })}\n`)
  process.stderr.write(
    `error[${error.code}]: ${clean(error.message)}\n${error.hint ? `  hint: ${clean(error.hint)}\n` : ""}`,
  )
  return error.exitCode
}

const unseen = /(?![\n\t])[\p{Cc}\p{Cf}]/gu

/** Text from files and prompts without control characters that a terminal would obey. */
export const clean = (text: string): string => text.replace(unseen, "")

/** Facts of a log line; prompts are none of them. */
export type Facts = Record<string, string | number | boolean | null | undefined>

export interface Log {
  info(message: string, facts?: Facts): void
  warn(message: string, facts?: Facts): void
  error(message: string, facts?: Facts): void
}

/** Control and direction characters would forge lines or fool a terminal. */
const clean = (value: string) => value.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ").slice(0, 500)

/** One JSON object a line. */
export function jsonLog(write: (line: string) => void): Log {
  const line =
    (level: string) =>
    (message: string, facts: Facts = {}) => {
      const told = Object.entries(facts).map(([key, value]) => [
        key,
        typeof value === "string"
          ? clean(value)
          : typeof value === "number"
            ? Math.round(value * 1000) / 1000
            : value,
      ])
      write(
        `${JSON.stringify({ time: new Date().toISOString(), level, message, ...Object.fromEntries(told) })}\n`,
      )
    }
  return { info: line("info"), warn: line("warn"), error: line("error") }
}

/** Says nothing. */
export const silent: Log = { info() {}, warn() {}, error() {} }

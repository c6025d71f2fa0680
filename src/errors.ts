/** What every error of aquatint carries beside its message. */
export interface ErrorFields {
  /** What to try, one sentence. */
  hint?: string
  /** Who is at fault: the caller (exit 2, HTTP 4xx) or this machine and program (exit 1, HTTP 5xx). */
  blame?: "caller" | "here"
  /** File the error is about. */
  file?: string
  /** Further facts, kept as data for callers that react to them. */
  details?: Record<string, unknown>
  cause?: unknown
}

/** Letters of a message at most: what it quotes may come from a stranger's file. */
const longest = 4000

const clipped = (text: string): string =>
  text.length <= longest ? text : `${text.slice(0, longest)} ... (${text.length} letters)`

/**
 * An error as data: `code` is stable and matches `[A-Z0-9_-]+`, `message` says what and where,
 * `hint` says what to try. The command line prints it, the server maps it to a status.
 */
export class AquatintError extends Error {
  override readonly name = "AquatintError"
  readonly code: string
  readonly hint: string | undefined
  readonly blame: "caller" | "here"
  readonly file: string | undefined
  readonly details: Record<string, unknown>

  constructor(code: string, message: string, fields: ErrorFields = {}) {
    super(clipped(message), fields.cause === undefined ? undefined : { cause: fields.cause })
    this.code = code
    this.hint = fields.hint
    this.blame = fields.blame ?? "caller"
    this.file = fields.file
    this.details = fields.details ?? {}
  }

  /** 2 for what the caller got wrong, 1 for what failed here. */
  get exitCode(): 1 | 2 {
    return this.blame === "caller" ? 2 : 1
  }

  toJSON(): { code: string; message: string; hint?: string } {
    return { code: this.code, message: this.message, ...(this.hint === undefined ? {} : { hint: this.hint }) }
  }
}

/** A short name in place of `new AquatintError` where it is thrown. */
export function fail(code: string, message: string, fields?: ErrorFields): never {
  throw new AquatintError(code, message, fields)
}

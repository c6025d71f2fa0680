/** What is known of a model's weight files beyond their headers. */
export interface FileFacts {
  /** SHA-256 of the file that holds the denoiser, hexadecimal. */
  readonly sha256: string
}

/** What is found out about weight files beside the work on them. */
export interface Vouched {
  /** Ends when every weight was looked at. @throws WEIGHTS_NOT_FINITE */
  readonly sound: Promise<void>
  /** Hashes what is not known yet: seconds for a big file, so call it once nothing waits for the processor. */
  facts(): Promise<FileFacts>
}

/** Puts the two together: `hash` is begun when it is first asked for, after the look. */
export function vouched<T>(look: Promise<T>, hash: (found: T) => Promise<FileFacts>): Vouched {
  const sound = look.then(() => {})
  sound.catch(() => {}) // it is awaited by the first generation
  let facts: Promise<FileFacts> | undefined
  return { sound, facts: () => (facts ??= look.then(hash)) }
}

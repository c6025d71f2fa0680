import { fail } from "../errors.ts"

/** What is known of a model's weight files beyond their headers. */
export interface FileFacts {
  /** SHA-256 of the file that holds the denoiser, hexadecimal. */
  readonly sha256: string
  /** The file of an autoencoder that is not the model's own. */
  readonly vae?: { readonly name: string; readonly sha256: string }
}

/** What is found out about weight files beside the work on them. */
export interface Vouched {
  /** Ends when every weight was looked at. @throws WEIGHTS_NOT_FINITE */
  readonly sound: Promise<void>
  /** Begins to hash what is not known yet, seconds of work for a big file, with pauses that leave the processor to others. */
  begin(): void
  /** The same without pauses from here on. @throws WEIGHTS_NOT_FINITE, ENGINE_RELEASED */
  facts(): Promise<FileFacts>
  /** Gives up what is not finished: nobody will ask for it. */
  end(): void
}

/** Milliseconds of pause per millisecond of work while nobody waits for the hash. */
const gentleness = 4
/** Milliseconds of work that are paid back at most: nobody shall wait for a pause. */
const longest = 10

/**
 * Puts the two together; the hash follows the look.
 * @param hash calls `rest` after every piece of its work
 */
export function vouched<T>(
  look: Promise<T>,
  hash: (found: T, rest: () => Promise<void>) => Promise<FileFacts>,
): Vouched {
  const sound = look.then(() => {})
  sound.catch(() => {}) // it is awaited by the first generation
  let [hurried, ended] = [false, false]
  let worked = 0
  const rest = async () => {
    const spent = Math.min(longest, performance.now() - worked)
    if (!hurried) await new Promise((done) => setTimeout(done, gentleness * spent))
    if (ended) fail("ENGINE_RELEASED", "the model was released", { blame: "here" })
    worked = performance.now()
  }
  let facts: Promise<FileFacts> | undefined
  const begun = () =>
    (facts ??= look.then((found) => {
      worked = performance.now()
      return hash(found, rest)
    }))
  return {
    sound,
    begin: () => {
      begun().catch(() => {}) // whoever asks for the facts gets the error
    },
    facts: () => {
      hurried = true
      return begun()
    },
    end: () => {
      ended = true
    },
  }
}

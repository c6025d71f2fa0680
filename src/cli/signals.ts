/** Ctrl-C and a polite kill as an abort; a second one ends the program at once. */
export function stopOnSignals(): AbortSignal {
  const stop = new AbortController()
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.removeAllListeners(signal)
    process.once(signal, () => {
      stop.abort()
      process.once(signal, () => process.exit(130))
    })
  }
  return stop.signal
}

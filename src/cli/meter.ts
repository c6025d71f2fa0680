const width = 24

/** One terminal line with a bar, rewritten in place. */
export class Meter {
  private readonly out: NodeJS.WriteStream
  private readonly began = performance.now()
  private shown = false

  constructor(out: NodeJS.WriteStream) {
    this.out = out
  }

  /** A share done of a whole, with the time left at the pace so far. */
  show(label: string, done: number, total: number): void {
    const left = ((performance.now() - this.began) / 1000 / Math.max(done, 1)) * (total - done)
    this.line(label, done / total, `${done}/${total}  ${clock(left)} left`)
  }

  line(label: string, share: number, tail: string): void {
    const full = Math.round(share * width)
    const bar = "█".repeat(full) + "░".repeat(width - full)
    this.out.write(`\r\x1b[2K${label.padEnd(7)} ${bar} ${Math.round(share * 100)}%  ${tail}`)
    this.shown = true
  }

  done(): void {
    if (this.shown) this.out.write("\r\x1b[2K")
    this.shown = false
  }
}

export const clock = (seconds: number): string =>
  seconds < 60 ? `${Math.ceil(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`

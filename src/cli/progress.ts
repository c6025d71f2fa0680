import type { GenerateStep } from "../index.ts"

const width = 24

/** A bar on one terminal line: phase, share done, seconds per step, time left. */
export class Progress {
  private readonly out: NodeJS.WriteStream
  private readonly began = performance.now()
  private denoising = 0
  private shown = false

  constructor(out: NodeJS.WriteStream) {
    this.out = out
  }

  show(step: GenerateStep): void {
    const now = performance.now()
    if (step.phase === "denoise" && this.denoising === 0) this.denoising = now
    const full = Math.round(step.progress * width)
    const bar = "█".repeat(full) + "░".repeat(width - full)
    const count = step.steps > 0 ? ` ${step.step}/${step.steps}` : ""
    this.out.write(
      `\r\x1b[2K${step.phase.padEnd(7)} ${bar} ${Math.round(step.progress * 100)}%${count}${this.left(step, now)}`,
    )
    this.shown = true
  }

  /** Time left by the pace so far; unknown before the first step is done. */
  private left(step: GenerateStep, now: number): string {
    if (step.phase !== "denoise" || step.step < 2) return ""
    const pace = (now - this.denoising) / (step.step - 1)
    const seconds = (((1 - step.progress) / step.progress) * (now - this.began)) / 1000
    return `  ${pace >= 1000 ? `${(pace / 1000).toFixed(1)} s` : `${Math.round(pace)} ms`}/step  ${clock(seconds)} left`
  }

  done(): void {
    if (this.shown) this.out.write("\r\x1b[2K")
    this.shown = false
  }
}

const clock = (seconds: number): string =>
  seconds < 60 ? `${Math.ceil(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`

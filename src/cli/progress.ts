import type { GenerateStep } from "../index.ts"
import { clock, Meter } from "./meter.ts"

/** A generation on one terminal line: phase, share done, pace of steps, time left. */
export class Progress {
  private readonly meter: Meter
  private readonly began = performance.now()
  private first = 0

  constructor(out: NodeJS.WriteStream) {
    this.meter = new Meter(out)
  }

  show(step: GenerateStep): void {
    const count = step.steps > 0 ? `${step.step}/${step.steps}` : ""
    this.meter.line(step.phase, step.progress, `${count}${this.left(step)}`)
  }

  /** Time left by the pace so far; unknown before a second step is done. */
  private left(step: GenerateStep): string {
    const now = performance.now()
    if (step.phase !== "denoise") return ""
    if (step.step < 2) {
      this.first = now
      return ""
    }
    const pace = (now - this.first) / (step.step - 1)
    const seconds = (((1 - step.progress) / step.progress) * (now - this.began)) / 1000
    return `  ${pace >= 1000 ? `${(pace / 1000).toFixed(1)} s` : `${Math.round(pace)} ms`}/step  ${clock(seconds)} left`
  }

  done(): void {
    this.meter.done()
  }
}

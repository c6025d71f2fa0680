/** Who holds the weights of a model's networks, and what they are to be. */
export interface Claim {
  /** Claims of one key want the same weights and may hold them together. */
  readonly key: string
  /** Changes the weights while it holds them, or gives them back: nobody else may hold them then. */
  readonly alone: boolean
}

interface Waiting extends Claim {
  readonly go: () => void
}

/**
 * Lets generations share a model's networks as long as they want the same weights, and makes the others wait, first
 * come, first served: adapters change weights in place.
 */
export class Turns {
  private readonly waiting: Waiting[] = []
  private holders = 0
  private current: Claim = { key: "", alone: false }
  /** Weights that are in place, or are being put there, by key; null where nobody knows. */
  private inPlace: { readonly key: string; readonly ready: Promise<void> } | null = null

  /**
   * Waits until the weights are free, and puts them in place with `install` unless they are there.
   * @returns what gives the turn back; safe to call twice
   */
  async take(claim: Claim, install: () => Promise<void>, signal?: AbortSignal): Promise<() => void> {
    await this.turn(claim, signal)
    let held = true
    const leave = () => {
      if (!held) return
      held = false
      this.holders--
      if (claim.alone) this.inPlace = null
      this.admit()
    }
    try {
      if (claim.alone || this.inPlace?.key !== claim.key) this.inPlace = { key: claim.key, ready: install() }
      await this.inPlace.ready
      return leave
    } catch (error) {
      this.inPlace = null
      leave()
      throw error
    }
  }

  private turn(claim: Claim, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((done, refuse) => {
      if (signal?.aborted) return refuse(signal.reason)
      const cancel = () => {
        this.waiting.splice(this.waiting.indexOf(mine), 1)
        refuse(signal?.reason)
        // those behind it may have waited for it alone
        this.admit()
      }
      const go = () => {
        signal?.removeEventListener("abort", cancel)
        done()
      }
      const mine: Waiting = { ...claim, go }
      signal?.addEventListener("abort", cancel, { once: true })
      this.waiting.push(mine)
      this.admit()
    })
  }

  private admit(): void {
    for (let next = this.waiting[0]; next && this.fits(next); next = this.waiting[0]) {
      this.waiting.shift()
      this.holders++
      this.current = next
      next.go()
    }
  }

  private fits(next: Claim): boolean {
    return this.holders === 0 || !(next.alone || this.current.alone || next.key !== this.current.key)
  }
}

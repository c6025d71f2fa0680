import { type Feed, isRef, type Ref, type Value } from "../runtime/engine.ts"
import type { Program } from "../runtime/program.ts"
import type { GenerateRequest } from "./request.ts"

/** Work that is left out on the way, at a price in likeness. */
export interface Shortcuts {
  /** The network's deep part runs at every so many calls; 1: always. */
  readonly stepCache: number
  /** Share of the way from and to which guidance is applied. */
  readonly guidanceStart: number
  readonly guidanceEnd: number
  /** Share of the way from which guidance goes on by the last difference between the two rows, without the second. */
  readonly guidanceHold: number
  /** Share of the tokens that attention on the largest map does without. */
  readonly tokenMerge: number
}

export const speeds = ["exact", "fast"] as const
export type Speed = (typeof speeds)[number]

/** What each speed leaves out; docs/speed.md has its price. */
const bySpeed: Record<Speed, Shortcuts> = {
  exact: { stepCache: 1, guidanceStart: 0, guidanceEnd: 1, guidanceHold: 1, tokenMerge: 0 },
  fast: { stepCache: 2, guidanceStart: 0, guidanceEnd: 1, guidanceHold: 0.9, tokenMerge: 0 },
}

/** A speed's shortcuts, and over them what was asked for by itself. */
export function shortcutsOf(ask: GenerateRequest): Shortcuts {
  const usual = bySpeed[ask.speed ?? "exact"]
  return {
    stepCache: ask.stepCache ?? usual.stepCache,
    guidanceStart: ask.guidanceStart ?? usual.guidanceStart,
    guidanceEnd: ask.guidanceEnd ?? usual.guidanceEnd,
    guidanceHold: ask.guidanceHold ?? usual.guidanceHold,
    tokenMerge: ask.tokenMerge ?? usual.tokenMerge,
  }
}

/** Whether guidance is applied at call `index` of `calls` (Kynkaanniemi et al. 2024: it matters in the middle of the way). */
export const guidedAt = ({ guidanceStart, guidanceEnd }: Shortcuts, index: number, calls: number): boolean =>
  index >= Math.round(guidanceStart * calls) && index < Math.round(guidanceEnd * calls)

/**
 * Whether call `index` may go by the difference of an earlier one. Late differences are alike: the cosine between one
 * call and the next is .97 to .99 over the last half of the embedded model's way.
 */
export const heldAt = ({ guidanceHold }: Shortcuts, index: number, calls: number): boolean =>
  index >= Math.round(guidanceHold * calls)

/** A denoiser as one call sees it. */
export interface Denoise {
  run(inputs: Readonly<Record<string, Feed>>): Promise<Readonly<Record<string, Value>>>
  end(): Promise<void>
}

export const plainDenoise = (net: Program): Denoise => ({
  run: (inputs) => net.run(inputs),
  end: async () => {},
})

/**
 * A denoiser that runs its deep part at every `every`th call only and keeps what comes up from there for the calls
 * between, where the last layer runs alone (DeepCache, Ma et al. 2024).
 */
export class CachedDenoise implements Denoise {
  private deep: Ref | null = null
  private rows = 0
  private since = 0
  private readonly whole: Program
  private readonly last: Program
  private readonly every: number

  /** @param whole tells `deep` @param last is given `deep` */
  constructor(whole: Program, last: Program, every: number) {
    this.whole = whole
    this.last = last
    this.every = every
  }

  async run(inputs: Readonly<Record<string, Feed>>): Promise<Readonly<Record<string, Value>>> {
    const rows = inputs.latents!.shape[0]!
    if (this.deep && rows === this.rows && this.since < this.every) {
      this.since++
      return this.last.run({ ...inputs, deep: this.deep })
    }
    await this.end()
    const { deep, ...rest } = await this.whole.runKeeping(inputs, ["deep"])
    if (deep && isRef(deep)) this.deep = deep
    this.rows = rows
    this.since = 1
    return rest as Record<string, Value>
  }

  async end(): Promise<void> {
    if (this.deep) await this.whole.free([this.deep])
    this.deep = null
  }
}
export { mostMerged } from "../nn/index.ts"

import { AquatintError } from "../errors.ts"
import type { AdapterReport } from "./adapters.ts"
import type { AttentionMaps } from "./attention.ts"
import type { GenerateStep } from "./generate.ts"
import type { GeneratedImage } from "./image.ts"
import type { Settings } from "./settings.ts"
import type { Trace } from "./trace.ts"

/** Seconds per phase of a generation. */
export interface Timings {
  load: number
  text: number
  denoise: number
  decode: number
  total: number
}

export interface GenerateResult {
  images: GeneratedImage[]
  timings: Timings
  settings: Settings
  /** Adapters in force, with what of them this model could use. */
  adapters: AdapterReport[]
  trace: Trace | null
  /** Where the first picture's attention was, if it was asked for. */
  attention: AttentionMaps | null
}

export interface GenerateOptions {
  signal?: AbortSignal
  /** Keep the tensors of the trace contract. */
  trace?: boolean
  /** Tell where the first picture's network looked for each token of the prompt; a step takes a little longer. */
  attention?: boolean
}

/** A generation under way: iterate over its steps, or await its result; it starts with the first of either. */
export class Generation implements AsyncIterable<GenerateStep>, PromiseLike<GenerateResult> {
  private readonly start: () => AsyncGenerator<GenerateStep, GenerateResult>
  private result: Promise<GenerateResult> | undefined

  constructor(start: () => AsyncGenerator<GenerateStep, GenerateResult>) {
    this.start = start
  }

  /** Steps as they happen; `return` (or leaving the loop) cancels between two of them. */
  async *[Symbol.asyncIterator](): AsyncGenerator<GenerateStep, GenerateResult> {
    if (this.result) return await this.result
    let settle: (r: GenerateResult) => void = () => {}
    let refuse: (e: unknown) => void = () => {}
    this.result = new Promise<GenerateResult>((yes, no) => {
      settle = yes
      refuse = no
    })
    this.result.catch(() => {})
    try {
      const result = yield* this.start()
      settle(result)
      return result
    } catch (error) {
      refuse(error)
      throw error
    } finally {
      refuse(new AquatintError("CANCELLED", "the generation was left before its end", { blame: "here" }))
    }
  }

  // biome-ignore lint/suspicious/noThenProperty: a generation can be awaited as well as iterated
  then<A = GenerateResult, B = never>(
    yes?: ((r: GenerateResult) => A | PromiseLike<A>) | null,
    no?: ((e: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.finish().then(yes, no)
  }

  private async finish(): Promise<GenerateResult> {
    if (!this.result) for await (const _ of this);
    return await this.result!
  }
}

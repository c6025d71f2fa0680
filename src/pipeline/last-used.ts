import type { Value } from "../runtime/engine.ts"

/** A text encoder's result for the chunks of one text. */
export interface EncodedRows {
  readonly hidden: Float32Array
  readonly pooled: Value | null
}

/** Keeps the values that were asked for last. */
export class LastUsed<T> {
  private readonly values = new Map<string, T>()
  private readonly most: number

  constructor(most: number) {
    this.most = most
  }

  /** The value under a key, made where it is not known. */
  async take(key: string, make: () => Promise<T>): Promise<T> {
    const known = this.values.get(key)
    const value = known ?? (await make())
    this.values.delete(key)
    this.values.set(key, value)
    if (this.values.size > this.most) this.values.delete(this.values.keys().next().value!)
    return value
  }
}

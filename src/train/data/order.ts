import { mixBits } from "../corpus/random.ts"
import { itemOfDraw, shuffled } from "../shuffle.ts"

/** Which items a batch is made of: all of one bucket. */
export interface Batch {
  readonly bucket: string
  /** Indices of items, `size` of them. */
  readonly items: readonly number[]
  /** Rounds through the data that are done. */
  readonly epoch: number
}

/**
 * Batches of one size by their number alone. A round draws every item as often as it is repeated; a bucket's last
 * batch is filled up from the bucket's start. Order and grouping change from round to round.
 * @param groups items by bucket, in a fixed order
 */
export function batchOrder(
  groups: ReadonlyMap<string, readonly number[]>,
  size: number,
  seed: number,
): { batches: number; batch(index: number): Batch } {
  const buckets = [...groups].filter(([, items]) => items.length > 0)
  const starts: number[] = []
  let batches = 0
  for (const [, items] of buckets) {
    starts.push(batches)
    batches += Math.ceil(items.length / size)
  }
  return {
    batches,
    batch(index) {
      const epoch = Math.floor(index / batches)
      const place = itemOfDraw(index, batches, seed)
      const n = starts.findLastIndex((start) => start <= place)
      const [bucket, items] = buckets[n]!
      const own = mixBits(mixBits(seed + 7 + epoch) + n)
      const from = (place - starts[n]!) * size
      const chosen = Array.from(
        { length: size },
        (_, i) => items[shuffled((from + i) % items.length, items.length, own)]!,
      )
      return { bucket, items: chosen, epoch }
    },
  }
}

/** What a pickle's value machine can hold beside null, booleans, numbers, strings and bytes: no objects, no functions. */

/** A Python float; whole numbers are plain numbers, or bigints beyond 2^53. */
export class PickledFloat {
  readonly value: number
  constructor(value: number) {
    this.value = value
  }
}

export class PickledTuple {
  readonly items: readonly PickledValue[]
  constructor(items: readonly PickledValue[]) {
    this.items = items
  }
}

export class PickledList {
  readonly items: PickledValue[] = []
}

/** A dict or OrderedDict as the list of its entries, in order; keys may be any value. */
export class PickledDict {
  readonly entries: [PickledValue, PickledValue][] = []
}

/** A dotted name that the pickle mentions. It stays a name: nothing is looked up by it. */
export class PickledGlobal {
  readonly module: string
  readonly name: string
  constructor(module: string, name: string) {
    this.module = module
    this.name = name
  }
}

/** A value of the caller's own, such as a tensor: opaque to the machine. */
export abstract class PickledLeaf {
  abstract readonly kind: string
}

export type PickledValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickledFloat
  | PickledTuple
  | PickledList
  | PickledDict
  | PickledGlobal
  | PickledLeaf

/** A value in a few words, for messages; never its content. */
export function describeValue(value: PickledValue | undefined): string {
  if (value === undefined) return "nothing"
  if (value === null) return "None"
  if (typeof value !== "object") return typeof value === "bigint" ? "a number" : `a ${typeof value}`
  if (value instanceof PickledGlobal) return `the name ${value.module}.${value.name}`
  if (value instanceof PickledLeaf) return `a ${value.kind}`
  if (value instanceof Uint8Array) return "bytes"
  if (value instanceof PickledFloat) return "a float"
  if (value instanceof PickledTuple) return "a tuple"
  return value instanceof PickledList ? "a list" : "a dict"
}

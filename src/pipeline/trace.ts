import type { Value } from "../runtime/engine.ts"

/** The tensors of a generation by the names of the trace contract; pictures of a batch are joined along the first axis. */
export class Trace {
  private readonly rows = new Map<string, Value[]>()

  /** Adds one picture's part of a batched tensor (its first axis is joined), or a whole tensor once. */
  add(name: string, value: Value): void {
    const known = this.rows.get(name) ?? []
    this.rows.set(name, [...known, { data: value.data.slice(), shape: value.shape }])
  }

  set(name: string, value: Value): void {
    this.rows.set(name, [{ data: value.data.slice(), shape: value.shape }])
  }

  tensors(): Map<string, Value> {
    return new Map([...this.rows].map(([name, parts]) => [name, join(parts)]))
  }
}

function join(parts: readonly Value[]): Value {
  const first = parts[0]!
  if (parts.length === 1) return first
  const count = parts.reduce((n, p) => n + p.shape[0]!, 0)
  const data = new (first.data.constructor as Float32ArrayConstructor)(
    parts.reduce((n, p) => n + p.data.length, 0),
  )
  let at = 0
  for (const part of parts) {
    data.set(part.data as Float32Array, at)
    at += part.data.length
  }
  return { data, shape: [count, ...first.shape.slice(1)] }
}

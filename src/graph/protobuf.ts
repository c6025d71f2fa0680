/** The few lines of protocol buffers that an ONNX file needs: varints, length-delimited fields, packed numbers. */

const text = new TextEncoder()

function varint(out: number[], value: number | bigint): void {
  if (typeof value === "number" && value >= 0 && value === (value | 0)) {
    let small = value
    for (; small > 0x7f; small >>= 7) out.push((small & 0x7f) | 0x80)
    out.push(small)
    return
  }
  let v = BigInt.asUintN(64, BigInt(value))
  while (v > 0x7fn) {
    out.push(Number(v & 0x7fn) | 0x80)
    v >>= 7n
  }
  out.push(Number(v))
}

/** A message under construction; fields appear in the order in which they are added. */
export class Message {
  private parts: Uint8Array[] = []
  private size = 0

  private push(bytes: Uint8Array): void {
    this.parts.push(bytes)
    this.size += bytes.length
  }

  private head(field: number, wire: number, then: number[] = []): void {
    const out: number[] = []
    varint(out, (field << 3) | wire)
    this.push(Uint8Array.from([...out, ...then]))
  }

  /** int64, enum or bool field. */
  int(field: number, value: number | bigint): this {
    const out: number[] = []
    varint(out, value)
    this.head(field, 0, out)
    return this
  }

  float(field: number, value: number): this {
    this.head(field, 5)
    this.push(new Uint8Array(new Float32Array([value]).buffer))
    return this
  }

  bytes(field: number, value: Uint8Array | string): this {
    const data = typeof value === "string" ? text.encode(value) : value
    const out: number[] = []
    varint(out, data.length)
    this.head(field, 2, out)
    this.push(data)
    return this
  }

  message(field: number, value: Message): this {
    return this.bytes(field, value.finish())
  }

  ints(field: number, values: readonly (number | bigint)[]): this {
    for (const v of values) this.int(field, v)
    return this
  }

  finish(): Uint8Array {
    const out = new Uint8Array(this.size)
    let at = 0
    for (const part of this.parts) {
      out.set(part, at)
      at += part.length
    }
    return out
  }
}

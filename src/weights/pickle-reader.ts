import { fail } from "../errors.ts"

const LINE_LIMIT = 1 << 20
const DIGITS_LIMIT = 400
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The arguments of a pickle's opcodes, read from its bytes with every length checked against what is left. */
export class PickleReader {
  at: number
  readonly file: string
  private readonly data: Uint8Array
  private readonly view: DataView

  constructor(data: Uint8Array, file: string, start: number) {
    this.data = data
    this.file = file
    this.at = start
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  }

  refuse(code: string, what: string): never {
    fail(code, `${this.file}: its pickle has ${what}`, {
      file: this.file,
      hint: "the file is damaged or made to harm; find the model as .safetensors",
    })
  }

  /** Moves on by `length` and returns where that began. */
  private take(length: number): number {
    const from = this.at
    if (!(length <= this.data.length - from))
      this.refuse("PICKLE_TRUNCATED", `an end before its STOP, at byte ${from}`)
    this.at = from + length
    return from
  }

  byte(): number {
    return this.data[this.take(1)]!
  }
  uint16(): number {
    return this.view.getUint16(this.take(2), true)
  }
  int32(): number {
    return this.view.getInt32(this.take(4), true)
  }
  uint32(): number {
    return this.view.getUint32(this.take(4), true)
  }
  float64(): number {
    return this.view.getFloat64(this.take(8), false)
  }

  /** A 32-bit length of strings and bytes; Python reads BINSTRING's as signed, so the top bit is an error. */
  length32(): number {
    const length = this.uint32()
    return length < 2 ** 31 ? length : this.refuse("PICKLE_MALFORMED", `a length of ${length}`)
  }

  length64(): number {
    const length = this.view.getBigUint64(this.take(8), true)
    return length < 2n ** 31n ? Number(length) : this.refuse("PICKLE_MALFORMED", `a length of ${length}`)
  }

  /** FRAME only promises bytes; they must be there. */
  frame(): void {
    const length = this.length64()
    if (length > this.data.length - this.at)
      this.refuse("PICKLE_TRUNCATED", `a frame beyond its end, at byte ${this.at}`)
  }

  bytes(length: number): Uint8Array {
    const from = this.take(length)
    return this.data.subarray(from, from + length)
  }

  utf8(length: number): string {
    try {
      return strictUtf8.decode(this.bytes(length))
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      return this.refuse("PICKLE_MALFORMED", `a string that is no UTF-8, before byte ${this.at}`)
    }
  }

  latin1(length: number): string {
    return Buffer.from(this.bytes(length)).toString("latin1")
  }

  /** Text up to the next line feed, which is skipped. */
  line(): string {
    const end = this.data.indexOf(10, this.at)
    if (end < 0) this.refuse("PICKLE_TRUNCATED", `a line without an end, at byte ${this.at}`)
    if (end - this.at > LINE_LIMIT) this.refuse("PICKLE_LIMIT", `a line of ${end - this.at} bytes`)
    const text = this.latin1(end - this.at)
    this.at++
    return text
  }

  /** LONG1: a little-endian number in two's complement. */
  long1(): number | bigint {
    let value = 0n
    const bytes = this.bytes(this.byte())
    for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!)
    const negative = bytes.length > 0 && bytes[bytes.length - 1]! > 127
    return plain(negative ? value - (1n << BigInt(8 * bytes.length)) : value)
  }

  /** INT: a decimal line, where 00 and 01 are booleans. */
  decimal(): number | bigint | boolean {
    const text = this.line()
    return text === "00" ? false : text === "01" ? true : this.whole(text)
  }

  decimalLong(): number | bigint {
    return this.whole(this.line().replace(/L$/, ""))
  }

  private whole(text: string): number | bigint {
    const ok = text.length <= DIGITS_LIMIT && /^[+-]?\d+$/.test(text)
    return ok
      ? plain(BigInt(text.replace("+", "")))
      : this.refuse("PICKLE_MALFORMED", "a number that is none")
  }

  /** A memo index in decimal. */
  index(): number {
    const text = this.line()
    return /^\d{1,9}$/.test(text) ? Number(text) : this.refuse("PICKLE_MALFORMED", "an index that is none")
  }

  decimalFloat(): number {
    const text = this.line()
    const named: Record<string, number> = { inf: Infinity, "-inf": -Infinity, nan: Number.NaN }
    if (Object.hasOwn(named, text)) return named[text]!
    const ok = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)
    return ok ? Number(text) : this.refuse("PICKLE_MALFORMED", "a float that is none")
  }

  /** STRING: Python 2's repr of a byte string. */
  quotedString(): string {
    const text = this.line()
    const quote = text[0]
    if (text.length < 2 || (quote !== "'" && quote !== '"') || !text.endsWith(quote))
      this.refuse("PICKLE_MALFORMED", "a string without its quotes")
    const escapes: Record<string, string> = { n: "\n", r: "\r", t: "\t" }
    return text
      .slice(1, -1)
      .replace(/\\(?:x([0-9a-fA-F]{2})|([nrt\\'"])|[\s\S])/g, (_, hex?: string, known?: string) =>
        hex !== undefined
          ? String.fromCharCode(Number.parseInt(hex, 16))
          : known !== undefined
            ? (escapes[known] ?? known)
            : this.refuse("PICKLE_MALFORMED", "an escape that is not known"),
      )
  }

  /** UNICODE: Latin-1 with \u and \U escapes. */
  rawUnicode(): string {
    return this.line().replace(
      /\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/g,
      (_, four?: string, eight?: string) => {
        const code = Number.parseInt(four ?? eight ?? "", 16)
        return code <= 0x10ffff
          ? String.fromCodePoint(code)
          : this.refuse("PICKLE_MALFORMED", "a character beyond Unicode")
      },
    )
  }
}

/** A number where it is exact, else the bigint. */
const plain = (value: bigint): number | bigint => {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}

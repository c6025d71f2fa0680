import { fail } from "../errors.ts"
import { PickleReader } from "./pickle-reader.ts"
import {
  describeValue,
  PickledDict,
  PickledFloat,
  PickledGlobal,
  PickledLeaf,
  PickledList,
  PickledTuple,
  type PickledValue,
} from "./pickle-values.ts"

/** What a pickle's names, calls and persistent ids mean; each answers with data or refuses. */
export interface PickleMeaning {
  global(module: string, name: string): PickledGlobal
  reduce(callee: PickledGlobal, args: PickledTuple): PickledValue
  persistent(id: PickledValue): PickledValue
}

/** Far above any checkpoint: SDXL's pickle has 70,000 opcodes, one with an optimiser's state 500,000. */
export const PICKLE_LIMITS = {
  opcodes: 4_000_000,
  values: 1_000_000,
  stack: 100_000,
  depth: 100,
  bytes: 64 * 1024 * 1024,
}

/**
 * Reads one pickle of protocols 0 to 5 as data, from `start`. The machine has no calls: a name stays a string that `meaning`
 * allows or refuses, a call is a table of known constructors, state given to objects is dropped. Values are shared
 * by reference, so that a pickle's memory is bounded by its own length and the limits above.
 * Errors: PICKLE_OPCODE, PICKLE_MALFORMED, PICKLE_TRUNCATED, PICKLE_LIMIT, and those of `meaning`.
 */
export function readPickle(
  bytes: Uint8Array,
  meaning: PickleMeaning,
  options: { file: string; start?: number },
): { value: PickledValue; end: number } {
  const machine = new Machine(new PickleReader(bytes, options.file, options.start ?? 0), meaning)
  const value = machine.run()
  return { value, end: machine.input.at }
}

class Machine {
  readonly input: PickleReader
  readonly meaning: PickleMeaning
  readonly memo = new Map<number, PickledValue>()
  private readonly stack: PickledValue[] = []
  /** Heights of the stack at each MARK. */
  private readonly marks: number[] = []
  private values = 0

  constructor(input: PickleReader, meaning: PickleMeaning) {
    this.input = input
    this.meaning = meaning
  }

  run(): PickledValue {
    for (let n = 0; n < PICKLE_LIMITS.opcodes; n++) {
      const at = this.input.at
      const code = this.input.byte()
      if (code === STOP) return this.finish()
      if (code === PROTO && n > 0) this.malformed("a second protocol line", at)
      const step = STEPS[code]
      if (step === undefined) this.unknown(code, at)
      step(this)
    }
    return this.limit(`more than ${PICKLE_LIMITS.opcodes} opcodes`)
  }

  private finish(): PickledValue {
    const value = this.pop()
    if (this.stack.length > 0 || this.marks.length > 0) this.malformed("values left over at its end")
    return value
  }

  private unknown(code: number, at: number): never {
    const shown = code > 32 && code < 127 ? `"${String.fromCharCode(code)}"` : `0x${code.toString(16)}`
    fail("PICKLE_OPCODE", `${this.input.file}: opcode ${shown} at byte ${at} is none that weights need`, {
      file: this.input.file,
      hint: "the file is damaged, or holds more than weights; find the model as .safetensors",
    })
  }

  malformed(what: string, at = this.input.at): never {
    return this.input.refuse("PICKLE_MALFORMED", `${what} at byte ${at}`)
  }

  limit(what: string): never {
    return this.input.refuse("PICKLE_LIMIT", what)
  }

  /** Counts what stays in memory. */
  charge(count = 1): void {
    this.values += count
    if (this.values > PICKLE_LIMITS.values) this.limit(`more than ${PICKLE_LIMITS.values} values`)
  }

  push(value: PickledValue): void {
    if (this.stack.length >= PICKLE_LIMITS.stack) this.limit("a stack that is too deep")
    this.stack.push(value)
  }

  /** A new container or string: counted, then pushed. */
  make(value: PickledValue): void {
    this.charge()
    this.push(value)
  }

  /** Values above the last mark, or all. */
  private floor(): number {
    return this.marks[this.marks.length - 1] ?? 0
  }

  top(): PickledValue {
    if (this.stack.length <= this.floor()) this.malformed("a value is missing")
    return this.stack[this.stack.length - 1] as PickledValue
  }

  pop(): PickledValue {
    const value = this.top()
    this.stack.pop()
    return value
  }

  mark(): void {
    if (this.marks.length >= PICKLE_LIMITS.depth) this.limit("marks nested too deep")
    this.marks.push(this.stack.length)
  }

  /** Everything above the last mark, which is taken away. */
  popMark(): PickledValue[] {
    const from = this.marks.pop()
    return from === undefined ? this.malformed("a mark is missing") : this.stack.splice(from)
  }

  /** POP: the top value, or the mark where nothing lies above it. */
  drop(): void {
    if (this.marks.length > 0 && this.stack.length === this.floor()) this.marks.pop()
    else this.pop()
  }

  tuple(items: PickledValue[]): void {
    this.charge(items.length)
    this.make(new PickledTuple(items))
  }

  append(items: readonly PickledValue[]): void {
    const list = this.top()
    if (!(list instanceof PickledList)) this.malformed(`append to ${describeValue(list)}`)
    this.charge(items.length)
    for (const item of items) list.items.push(item)
  }

  setItems(items: readonly PickledValue[]): void {
    const dict = this.top()
    if (!(dict instanceof PickledDict)) this.malformed(`a key set on ${describeValue(dict)}`)
    if (items.length % 2 !== 0) this.malformed("a key without a value")
    this.charge(items.length)
    for (let i = 0; i < items.length; i += 2) dict.entries.push([items[i]!, items[i + 1]!])
  }

  /** BUILD: what would be an object's state is dropped unread. */
  build(): void {
    this.pop()
    const target = this.top()
    const known = target instanceof PickledDict || target instanceof PickledLeaf
    if (!known) this.malformed(`state for ${describeValue(target)}`)
  }

  put(index: number): void {
    if (!this.memo.has(index)) this.charge()
    this.memo.set(index, this.top())
  }

  get(index: number): void {
    const value = this.memo.get(index)
    this.push(value === undefined ? this.malformed(`no value was kept as ${index}`) : value)
  }

  global(module: PickledValue, name: PickledValue): void {
    if (typeof module !== "string" || typeof name !== "string") this.malformed("a name that is no string")
    this.make(this.meaning.global(module, name))
  }

  reduce(): void {
    const args = this.pop()
    const callee = this.pop()
    if (!(callee instanceof PickledGlobal)) this.malformed(`a call of ${describeValue(callee)}`)
    if (!(args instanceof PickledTuple)) this.malformed(`a call with ${describeValue(args)}`)
    const made = this.meaning.reduce(callee, args)
    if (made instanceof PickledDict) this.charge(made.entries.length)
    this.make(made)
  }
}

const STOP = 0x2e
const PROTO = 0x80

/** Every opcode that weights are made of, by its byte; a byte without a row is an error. */
const OPCODES: Record<number, (m: Machine) => void> = {
  [PROTO]: (m) => void (m.input.byte() > 5 && m.malformed("a protocol beyond 5")),
  149: (m) => m.input.frame(),
  // stack: MARK POP POP_MARK DUP
  40: (m) => m.mark(),
  48: (m) => m.drop(),
  49: (m) => void m.popMark(),
  50: (m) => m.push(m.top()),
  // EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
  41: (m) => m.tuple([]),
  116: (m) => m.tuple(m.popMark()),
  133: (m) => m.tuple([m.pop()]),
  134: (m) => m.tuple([m.pop(), m.pop()].reverse()),
  135: (m) => m.tuple([m.pop(), m.pop(), m.pop()].reverse()),
  // EMPTY_LIST LIST APPEND APPENDS
  93: (m) => m.make(new PickledList()),
  108: (m) => collect(m, new PickledList(), (items) => m.append(items)),
  97: (m) => m.append([m.pop()]),
  101: (m) => m.append(m.popMark()),
  // EMPTY_DICT DICT SETITEM SETITEMS
  125: (m) => m.make(new PickledDict()),
  100: (m) => collect(m, new PickledDict(), (items) => m.setItems(items)),
  115: (m) => m.setItems([m.pop(), m.pop()].reverse()),
  117: (m) => m.setItems(m.popMark()),
  // NONE NEWTRUE NEWFALSE
  78: (m) => m.push(null),
  136: (m) => m.push(true),
  137: (m) => m.push(false),
  // BININT BININT1 BININT2 INT LONG LONG1 FLOAT BINFLOAT
  74: (m) => m.push(m.input.int32()),
  75: (m) => m.push(m.input.byte()),
  77: (m) => m.push(m.input.uint16()),
  73: (m) => m.push(m.input.decimal()),
  76: (m) => m.push(m.input.decimalLong()),
  138: (m) => m.push(m.input.long1()),
  70: (m) => m.make(new PickledFloat(m.input.decimalFloat())),
  71: (m) => m.make(new PickledFloat(m.input.float64())),
  // STRING UNICODE BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8
  83: (m) => m.make(m.input.quotedString()),
  86: (m) => m.make(m.input.rawUnicode()),
  84: (m) => m.make(m.input.latin1(m.input.length32())),
  85: (m) => m.make(m.input.latin1(m.input.byte())),
  88: (m) => m.make(m.input.utf8(m.input.length32())),
  140: (m) => m.make(m.input.utf8(m.input.byte())),
  141: (m) => m.make(m.input.utf8(m.input.length64())),
  // BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
  66: (m) => m.make(m.input.bytes(m.input.length32())),
  67: (m) => m.make(m.input.bytes(m.input.byte())),
  142: (m) => m.make(m.input.bytes(m.input.length64())),
  150: (m) => m.make(m.input.bytes(m.input.length64())),
  // PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
  112: (m) => m.put(m.input.index()),
  113: (m) => m.put(m.input.byte()),
  114: (m) => m.put(m.input.uint32()),
  148: (m) => m.put(m.memo.size),
  103: (m) => m.get(m.input.index()),
  104: (m) => m.get(m.input.byte()),
  106: (m) => m.get(m.input.uint32()),
  // GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
  99: (m) => m.global(m.input.line(), m.input.line()),
  147: (m) => ((name) => m.global(m.pop(), name))(m.pop()),
  82: (m) => m.reduce(),
  98: (m) => m.build(),
  81: (m) => m.make(m.meaning.persistent(m.pop())),
}

/** The rows by their byte, without holes: this is the loop that a checkpoint's reading time is spent in. */
const STEPS = Array.from({ length: 256 }, (_, code) => OPCODES[code])

/** LIST and DICT of protocol 0: a container of everything above the mark. */
function collect(m: Machine, container: PickledValue, fill: (items: PickledValue[]) => void): void {
  const items = m.popMark()
  m.make(container)
  fill(items)
}

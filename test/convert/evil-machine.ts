import type { Evil } from "./evil.ts"
import {
  type Bytes,
  floats,
  join,
  legacyHeads,
  little,
  Opcodes,
  torchLegacy,
  torchZip,
  zip,
} from "./pickler.ts"

const p = new Opcodes(2)
const good = p.dict([p.string("weight"), p.tensor()])
const many = (count: number, part: Bytes) => Buffer.alloc(count * part.length, part)

/** Pickles whose opcodes do not add up. */
const MALFORMED: [string, Bytes, RegExp][] = [
  ["nothing", join([]), /^PICKLE_TRUNCATED$/],
  ["only STOP", join("."), /^PICKLE_MALFORMED$/],
  ["no STOP", join([0x80, 2], good), /^PICKLE_TRUNCATED$/],
  ["bytes after STOP", p.whole(good, ".cos\nsystem\n."), /^TORCH_ARCHIVE$/],
  ["two values at STOP", p.whole("N", good), /^PICKLE_MALFORMED$/],
  ["a mark at STOP", p.whole("(", good), /^PICKLE_MALFORMED$/],
  ["protocol 6", join([0x80, 6], good, "."), /^PICKLE_MALFORMED$/],
  ["two protocols", p.whole([0x80, 2], good), /^PICKLE_MALFORMED$/],
  ["pop of nothing", p.whole("00", good), /^PICKLE_MALFORMED$/],
  ["tuple without mark", p.whole("t"), /^PICKLE_MALFORMED$/],
  ["pop beyond a mark", p.whole(p.int(1), "(", [0x85]), /^PICKLE_MALFORMED$/],
  ["append to a number", p.whole(p.int(1), p.int(2), "a"), /^PICKLE_MALFORMED$/],
  ["keys set on a list", p.whole("](", p.int(1), p.int(2), "u"), /^PICKLE_MALFORMED$/],
  ["a key without a value", p.whole("}(", p.int(1), "u"), /^PICKLE_MALFORMED$/],
  ["GET of nothing", p.whole("h\x07"), /^PICKLE_MALFORMED$/],
  ["PUT of no number", p.whole("Np-1\n"), /^PICKLE_MALFORMED$/],
  ["INT of no number", p.whole("I1e5\n"), /^PICKLE_MALFORMED$/],
  ["LONG of a million digits", p.whole("L", many(1_000_000, join("9")), "L\n"), /^PICKLE_MALFORMED$/],
  ["FLOAT of words", p.whole("Ftrue\n"), /^PICKLE_MALFORMED$/],
  ["STRING without quotes", p.whole("Sabc\n"), /^PICKLE_MALFORMED$/],
  ["STRING with an odd escape", p.whole("S'\\q'\n"), /^PICKLE_MALFORMED$/],
  ["UNICODE beyond Unicode", p.whole("V\\Uffffffff\n"), /^PICKLE_MALFORMED$/],
  ["a line without an end", join([0x80, 2], "c", many(100_000, join("a"))), /^PICKLE_TRUNCATED$/],
  ["a string that is no UTF-8", p.whole("X", little.u32(2), [0xff, 0xfe]), /^PICKLE_MALFORMED$/],
  ["a string beyond the end", p.whole("X", little.u32(1_000_000)), /^PICKLE_TRUNCATED$/],
  ["a string of negative length", p.whole("X", little.u32(0xffffffff)), /^PICKLE_MALFORMED$/],
  ["bytes of 2^63", p.whole([0x8e], little.u64(2n ** 63n)), /^PICKLE_MALFORMED$/],
  ["a byte array of 2^40", p.whole([0x96], little.u64(2 ** 40)), /^PICKLE_MALFORMED$/],
  ["a frame beyond the end", join([0x80, 4, 0x95], little.u64(1e9), good, "."), /^PICKLE_TRUNCATED$/],
  ["a frame of 2^64", join([0x80, 4, 0x95], little.u64(-1), good, "."), /^PICKLE_MALFORMED$/],
  ["an unknown opcode", p.whole([0xff]), /^PICKLE_OPCODE$/],
]

/** Pickles that are small and mean much: time and memory must stay small. */
const BOMBS: [string, () => Bytes, RegExp][] = [
  ["a million marks", () => p.whole(many(1_000_000, join("("))), /^PICKLE_LIMIT$/],
  ["a million values on the stack", () => p.whole(many(1_000_000, join("N"))), /^PICKLE_LIMIT$/],
  ["a million nested tuples", () => p.whole("N", many(1_000_000, join([0x85]))), /^PICKLE_LIMIT$/],
  ["four million opcodes", () => p.whole(many(2_100_000, join("N0")), good), /^PICKLE_LIMIT$/],
  ["a million memo entries", () => p.whole("N", memoised(1_100_000)), /^PICKLE_LIMIT$/],
  ["a million empty dicts", () => p.whole(many(1_100_000, join("}0")), good), /^PICKLE_LIMIT$/],
  [
    "laughs: lists of lists",
    () => p.whole(p.dict([p.string("w"), p.tensor()], [p.string("x"), laughs()])),
    /^PICKLE_LIMIT$/,
  ],
  ["a list in itself", () => p.state(["evil", join("]q\x01h\x01a")]), /^PICKLE_LIMIT$/],
  ["a dict in itself", () => p.state(["evil", join("}q\x01", p.string("k"), "h\x01s")]), /^PICKLE_LIMIT$/],
  ["lists nested 200 deep", () => p.state(["evil", nested(200)]), /^PICKLE_LIMIT$/],
  ["an OrderedDict copied again and again", () => p.state(["evil", copied()]), /^PICKLE_LIMIT$/],
  [
    "a tensor of stride 0",
    () => p.state(["evil", p.tensor(p.storage(), [100_000, 100_000], [0, 0])]),
    /^TORCH_TOO_LARGE$/,
  ],
  ["a storage used by 40,000 tensors", () => p.whole(shared(40_000)), /^TORCH_TOO_LARGE$/],
  [
    "a name of 5,000 characters",
    () => p.whole(p.dict([p.string("n".repeat(5000)), p.tensor()])),
    /^TORCH_STATE$/,
  ],
]

function memoised(count: number): Bytes {
  const out = Buffer.alloc(5 * count, "r")
  for (let i = 0; i < count; i++) out.writeUInt32LE(i, 5 * i + 1)
  return out
}

/** Ten levels of lists, each with ten times the level below: ten billion paths in a few hundred bytes. */
function laughs(): Bytes {
  const levels = Array.from({ length: 10 }, (_, i) =>
    join("](", many(10, join("h", [i])), "eq", [i + 1], "0"),
  )
  return join("]q\x00", p.tensor(), "a0", ...levels, "h\x0a")
}

function nested(depth: number): Bytes {
  return join(many(depth, join("]")), many(depth - 1, join("a")))
}

/** One list of 1,000 pairs in the memo, made into an OrderedDict 2,000 times. */
function copied(): Bytes {
  const pair = join("N", "N", [0x86])
  const list = join("](", many(1000, pair), "eq\x05", "0")
  const call = join(p.global("collections", "OrderedDict"), "h\x05", [0x85], "R0")
  return join(list, many(2000, call), "N")
}

/** 4 MB of numbers that many tensors share; nothing is stored twice, but each would be written. */
function shared(count: number): Bytes {
  const pairs = Array.from({ length: count }, (_, i) => join(p.string(`t${i}`), "h\x05"))
  return join(p.tensor(p.storage("0", 4), [4000], [0]), "q\x05", "0", "}(", ...pairs, "u")
}

/** Tensors and storages that are not what they say. */
const TENSORS: [string, Bytes, RegExp][] = [
  ["a tensor beyond its storage", p.tensor(p.storage(), [5], [1]), /^TORCH_TENSOR$/],
  ["a stride beyond its storage", p.tensor(p.storage(), [2, 2], [100, 1]), /^TORCH_TENSOR$/],
  ["an offset beyond its storage", p.tensor(p.storage(), [1], [1], 4), /^TORCH_TENSOR$/],
  ["a negative offset", p.tensor(p.storage(), [1], [1], -1), /^TORCH_TENSOR$/],
  ["a negative size", p.tensor(p.storage(), [-2, -2], [2, 1]), /^TORCH_TENSOR$/],
  ["a negative stride", p.tensor(p.storage(), [2], [-1], 1), /^TORCH_TENSOR$/],
  ["a product beyond 2^53", p.tensor(p.storage(), [2 ** 40, 2 ** 40], [0, 0]), /^TORCH_TENSOR$/],
  ["sizes without strides", p.tensor(p.storage(), [2, 2], [1]), /^TORCH_TENSOR$/],
  ["seventy axes", p.tensor(p.storage(), Array(70).fill(1), Array(70).fill(1)), /^TORCH_TENSOR$/],
  ["a tensor over a string", p.tensor(p.string("0")), /^TORCH_TENSOR$/],
  ["a storage id of words", p.tensor(p.persistent(p.string("os.system"))), /^TORCH_STORAGE$/],
  [
    "a storage of no type",
    p.tensor(
      p.persistent(
        p.tuple(p.string("storage"), p.string("FloatStorage"), p.string("0"), p.string("cpu"), p.int(4)),
      ),
    ),
    /^TORCH_STORAGE$/,
  ],
  [
    "a storage typed by a function",
    p.tensor(
      p.persistent(
        p.tuple(
          p.string("storage"),
          p.global("collections", "OrderedDict"),
          p.string("0"),
          p.string("cpu"),
          p.int(4),
        ),
      ),
    ),
    /^TORCH_STORAGE$/,
  ],
  [
    "a module for a storage",
    p.tensor(
      p.persistent(p.tuple(p.string("module"), p.string("a"), p.string("b"), p.string("c"), p.int(4))),
    ),
    /^TORCH_STORAGE$/,
  ],
  ["a storage of -1", p.tensor(p.storage("0", -1)), /^TORCH_STORAGE$/],
  ["a storage of 2^60", p.tensor(p.storage("0", 2 ** 60)), /^TORCH_STORAGE$/],
  [
    "one storage under two types",
    join(p.tensor(), "0", p.tensor(p.storage("0", 4, "IntStorage"))),
    /^TORCH_STORAGE$/,
  ],
  ["a storage that is a path", p.tensor(p.storage("../../etc/passwd")), /^TORCH_(ARCHIVE|LEGACY)$/],
  ["a storage that is not there", p.tensor(p.storage("7")), /^TORCH_(ARCHIVE|LEGACY)$/],
  [
    "a parameter over a number",
    p.call("torch._utils", "_rebuild_parameter", p.int(1), p.bool(true), join("}")),
    /^TORCH_TENSOR$/,
  ],
]

const STATES: [string, Bytes, RegExp][] = [
  ["a list for a checkpoint", p.whole(p.list(p.tensor())), /^TORCH_STATE$/],
  ["no tensors", p.whole(p.dict([p.string("a"), p.int(1)])), /^TORCH_STATE$/],
  ["a key twice", p.state(["weight", p.tensor()]), /^TORCH_STATE$/],
  ["a name that is the header's", p.whole(p.dict([p.string("__metadata__"), p.tensor()])), /^TORCH_STATE$/],
  ["an empty name", p.whole(p.dict([p.string(""), p.tensor()])), /^TORCH_STATE$/],
]

const legacy = (heads: Bytes[]) => torchLegacy(p.state(), { 0: floats }, heads)
const call = join(p.global("os", "system"), p.tuple(p.string("id")), "R")

/** Files of torch before 1.6 that are broken outside their object. */
const LEGACY: [string, Bytes, RegExp][] = [
  ["another magic number", legacy(legacyHeads({ magic: p.int(1) })), /^TORCH_LEGACY$/],
  ["another protocol", legacy(legacyHeads({ protocol: 1002 })), /^TORCH_LEGACY$/],
  ["big-endian", legacy(legacyHeads({ little: false })), /^TORCH_LEGACY$/],
  ["a call as magic number", legacy([p.whole(call), ...legacyHeads().slice(1)]), /^PICKLE_GLOBAL$/],
  ["a call as machine", legacy([...legacyHeads().slice(0, 2), p.whole(call)]), /^PICKLE_GLOBAL$/],
  ["a tensor as machine", legacy([...legacyHeads().slice(0, 2), p.whole(p.tensor())]), /^PICKLE_GLOBAL$/],
  ["a call as list of storages", join(...legacyHeads(), p.state(), p.whole(call)), /^PICKLE_GLOBAL$/],
  ["no list of storages", join(...legacyHeads(), p.state()), /^PICKLE_TRUNCATED$/],
  [
    "numbers as list of storages",
    join(...legacyHeads(), p.state(), p.whole(p.list(p.int(0)))),
    /^TORCH_LEGACY$/,
  ],
  ["a storage of another size", torchLegacy(p.state(), { 0: floats.subarray(0, 8) }), /^TORCH_LEGACY$/],
  ["a storage cut short", torchLegacy(p.state()).subarray(0, -1), /^TORCH_LEGACY$/],
  ["bytes after the storages", join(torchLegacy(p.state()), "x"), /^TORCH_LEGACY$/],
  ["a storage too many", torchLegacy(p.state(), { 0: floats, 1: floats }), /^TORCH_LEGACY$/],
  ["no storages", torchLegacy(p.state(), {}), /^TORCH_LEGACY$/],
  ["a plain pickle", p.state(), /^PICKLE_GLOBAL$/],
  ["a pickle of protocol 0", new Opcodes(0).state(), /^TORCH_FORMAT$/],
  ["a tar archive", Buffer.concat([Buffer.from("storages\0"), Buffer.alloc(1015)]), /^TORCH_FORMAT$/],
  ["a web page", Buffer.from("<!doctype html><html></html>"), /^TORCH_FORMAT$/],
  ["an empty file", Buffer.alloc(0), /^TORCH_FORMAT$/],
]

/** Everything in this file, pickles in turn in both containers. */
export function* evilMachine(): Generator<Evil> {
  const tensors = TENSORS.map(([name, body, code]): [string, Bytes, RegExp] => [
    name,
    p.state(["evil", body]),
    code,
  ])
  for (const [name, pickle, code] of [...MALFORMED, ...STATES])
    yield { name: `${name}, zip`, bytes: zip(torchZip(pickle)), code }
  for (const [name, pickle, code] of tensors) {
    yield { name: `${name}, zip`, bytes: zip(torchZip(pickle)), code }
    yield { name: `${name}, legacy`, bytes: torchLegacy(pickle), code }
  }
  for (const [name, make, code] of BOMBS) yield { name: `${name}, zip`, bytes: zip(torchZip(make())), code }
  for (const [name, bytes, code] of LEGACY) yield { name, bytes, code }
}

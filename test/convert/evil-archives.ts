import type { Evil } from "./evil.ts"
import {
  type Archive,
  type Bytes,
  type Entry,
  floats,
  join,
  little,
  Opcodes,
  torchZip,
  zip,
} from "./pickler.ts"

const p = new Opcodes(2)
const pickle = p.state()
const honest = () => torchZip(pickle)
const evil = join(p.global("os", "system"), p.tuple(p.string("id")), "R")
const entry = (name: string, bytes: Bytes = floats, lies: Partial<Entry> = {}): Entry => ({
  name,
  bytes,
  ...lies,
})
/** The honest archive with one entry changed: 0 is data.pkl, 1 the storage, 2 the version. */
const changed = (index: number, lies: Partial<Entry>) =>
  zip(honest().map((e, i) => (i === index ? { ...e, ...lies } : e)))
const lying = (lies: Archive) => zip(honest(), lies)
const added = (...more: Entry[]) => zip([...honest(), ...more])

/** Names that are no part of what torch.save writes; extracting some of them would leave the folder. */
const NAMES = [
  "../data.pkl",
  "archive/../../etc/passwd",
  "/etc/passwd",
  "C:/windows/evil",
  "archive\\data.pkl",
  "..\\..\\evil",
  "archive/data/0/1",
  "archive/data/-1",
  "archive/data/0x1",
  "archive/data/",
  "archive/data.pkl/",
  "archive/DATA.PKL",
  "archive/data.pkl.bak",
  "archive/code/__torch__.py",
  "archive/constants.pkl",
  "archive/data.pkl\u202e",
  "archive/data\u0000.pkl",
  "archive//data/1",
  "./archive/data/1",
  "archive/.data/../x",
  "other/data.pkl",
  "data.pkl",
  "con",
  "",
]

const FIELDS: [string, Bytes, RegExp][] = [
  ["data.pkl twice", added(entry("archive/data.pkl", p.whole(evil))), /^ZIP_DUPLICATE$/],
  ["a storage twice", added(entry("archive/data/0")), /^ZIP_DUPLICATE$/],
  ["two folders", added(entry("other/data/1")), /^TORCH_ARCHIVE$/],
  [
    "a folder named ..",
    zip(honest().map((e) => ({ ...e, name: e.name.replace("archive", "..") }))),
    /^TORCH_ARCHIVE$/,
  ],
  ["data.pkl compressed", changed(0, { method: 8 }), /^ZIP_COMPRESSED$/],
  ["a storage compressed", changed(1, { method: 12 }), /^ZIP_COMPRESSED$/],
  ["an encrypted entry", changed(0, { flags: 1 }), /^ZIP_FLAGS$/],
  ["a patched entry", changed(0, { flags: 0x20 }), /^ZIP_FLAGS$/],
  ["a link", changed(1, { attributes: 0xa1ff0000 }), /^ZIP_LINK$/],
  ["another local name", changed(0, { localName: "archive/evil.pk" }), /^ZIP_LOCAL$/],
  ["a longer local name", changed(0, { localName: "archive/data.pkl.real" }), /^ZIP_LOCAL$/],
  ["another local size", changed(0, { localSize: 10 }), /^ZIP_LOCAL$/],
  ["another local checksum", changed(0, { localCrc: 1 }), /^ZIP_LOCAL$/],
  ["a wrong checksum of data.pkl", changed(0, { crc: 1 }), /^ZIP_CRC$/],
  ["a wrong checksum of a storage", changed(1, { crc: 1 }), /^ZIP_CRC$/],
  ["a wrong checksum of the version", changed(2, { crc: 1 }), /^ZIP_CRC$/],
  ["no checksum of data.pkl alone", changed(0, { crc: 0 }), /^ZIP_CRC$/],
  ["a descriptor that is not there", changed(0, { flags: 8 }), /^ZIP_LOCAL$/],
  ["a size beyond the file", changed(1, { size: 1_000_000 }), /^ZIP_(SIZE|LOCAL)$/],
  ["a size of 4 GB", changed(1, { size: 0xfffffffe }), /^ZIP_(SIZE|LOCAL)$/],
  ["two sizes", changed(1, { packed: 8 }), /^ZIP_SIZE$/],
  ["a storage cut short", changed(1, { size: 8 }), /^ZIP_(HOLE|LOCAL)$/],
  ["overlapping entries", changed(2, { header: 0 }), /^ZIP_(OVERLAP|LOCAL|HOLE)$/],
  ["an entry inside another", changed(1, { header: 10 }), /^ZIP_OVERLAP$/],
  ["an entry past the directory", changed(2, { header: 1_000_000 }), /^ZIP_(HOLE|LOCAL)$/],
  ["an entry with a comment", changed(0, { comment: "x" }), /^ZIP_DIRECTORY$/],
  ["a torn extra field", changed(0, { extra: join([1, 0, 99]) }), /^ZIP_EXTRA$/],
  ["an extra field too long", changed(0, { extra: join(little.u16(1), little.u16(99)) }), /^ZIP_EXTRA$/],
  [
    "a wide size of 2^63",
    changed(1, {
      size: 0xffffffff,
      extra: join(little.u16(1), little.u16(16), little.u64(2n ** 63n), little.u64(2n ** 63n)),
    }),
    /^ZIP_SIZE$/,
  ],
  [
    "a wide size that is missing",
    changed(1, { size: 0xffffffff, extra: join(little.u16(1), little.u16(0)) }),
    /^ZIP_EXTRA$/,
  ],
  ["bytes before the archive", lying({ before: Buffer.from("PK\x03\x04junk") }), /^ZIP_/],
  [
    "a program before the archive",
    lying({ before: join("\x80\x02cos\nsystem\n") }),
    /^TORCH_LEGACY$|^PICKLE_/,
  ],
  ["bytes between entries", lying({ between: Buffer.alloc(7) }), /^ZIP_HOLE$/],
  ["bytes after the archive", lying({ after: Buffer.from("x") }), /^ZIP_END$/],
  ["a second archive after it", join(lying({}), zip(torchZip(p.whole(evil)))), /^ZIP_HOLE$|^ZIP_/],
  ["a comment", lying({ comment: "hello" }), /^ZIP_END$/],
  ["an end record in the comment", lying({ comment: Buffer.from(zip([])).toString("latin1") }), /^ZIP_/],
  ["entries too many", lying({ count: 4 }), /^ZIP_DIRECTORY$/],
  ["entries too few", lying({ count: 2 }), /^ZIP_DIRECTORY$/],
  ["65,535 entries", lying({ count: 0xffff }), /^ZIP_(LIMIT|DIRECTORY)$/],
  ["a directory elsewhere", lying({ directoryStart: 0 }), /^ZIP_DIRECTORY$/],
  ["a directory beyond the file", lying({ directoryStart: 0x7fffffff }), /^ZIP_DIRECTORY$/],
  ["a directory of another size", lying({ directorySize: 46 }), /^ZIP_DIRECTORY$/],
  ["another disk", lying({ disk: 1 }), /^ZIP_END$/],
  ["a wide count that differs", lying({ zip64: { count: 2 } }), /^ZIP_END$/],
  ["a wide directory that differs", lying({ zip64: { start: 0 } }), /^ZIP_END$/],
  ["a wide directory of 2^64", lying({ zip64: { size: -1 } }), /^ZIP_END$/],
  ["a wide end record elsewhere", lying({ zip64: { at: 0 } }), /^ZIP_END$/],
  ["no entries", zip([]), /^TORCH_FORMAT$|^ZIP_/],
  ["no data.pkl", zip(honest().slice(1)), /^TORCH_ARCHIVE$/],
  ["no storage", zip(torchZip(pickle, {})), /^TORCH_ARCHIVE$/],
  ["a storage of another size", zip(torchZip(pickle, { 0: floats.subarray(0, 12) })), /^TORCH_ARCHIVE$/],
  [
    "a big-endian archive",
    zip(torchZip(pickle, undefined, [entry("archive/byteorder", Buffer.from("big"))])),
    /^TORCH_ARCHIVE$/,
  ],
  ["a version of words", changed(2, { bytes: Buffer.from("os.system") }), /^TORCH_ARCHIVE$/],
  ["a version of a megabyte", changed(2, { bytes: Buffer.alloc(1 << 20, "3") }), /^TORCH_ARCHIVE$/],
  ["an archive as data.pkl", zip(torchZip(zip(honest()))), /^PICKLE_/],
  [
    "an archive in an archive",
    zip([entry("archive/data.pkl", pickle), entry("archive/inner.zip", zip(honest()))]),
    /^TORCH_ARCHIVE$/,
  ],
  ["an end record alone", join("PK\x03\x04", zip([])), /^ZIP_/],
  ["four bytes", Buffer.from("PK\x03\x04"), /^ZIP_END$/],
  ["cut in the middle", lying({}).subarray(0, 200), /^ZIP_END$/],
]

export function* evilArchives(): Generator<Evil> {
  for (const name of NAMES)
    yield {
      name: `an entry named ${JSON.stringify(name)}`,
      bytes: added(entry(name)),
      code: /^(ZIP_NAME|ZIP_DUPLICATE|TORCH_ARCHIVE)$/,
    }
  for (const [name, bytes, code] of FIELDS) yield { name, bytes, code }
}

import * as zlib from "node:zlib"

let table: Uint32Array | undefined

/** CRC-32 (IEEE 802.3, as zip has it) of `bytes` appended to what gave `before`; Node's own where it has one. */
export const crc32: (bytes: Uint8Array, before?: number) => number =
  typeof zlib.crc32 === "function" ? zlib.crc32 : tableCrc32

/** The same without Node's help. */
export function tableCrc32(bytes: Uint8Array, before = 0): number {
  table ??= Uint32Array.from({ length: 256 }, (_, n) => {
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1
    return n
  })
  let crc = ~before
  for (let i = 0; i < bytes.length; i++) crc = table[(crc ^ bytes[i]!) & 255]! ^ (crc >>> 8)
  return ~crc >>> 0
}

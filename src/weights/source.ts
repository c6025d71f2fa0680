import { fail } from "../errors.ts"

/** Bytes that can be read piecewise: a file, a Blob, or an array in memory. */
export interface ByteSource {
  /** What errors call it. */
  name: string
  /** Real path where it is a file. */
  path?: string
  /** Bytes in all. */
  size: number
  /** Exactly `length` bytes from `offset`; SOURCE_RANGE outside, SOURCE_SHORT when the file shrank. */
  read(offset: number, length: number): Promise<Uint8Array>
  close?(): Promise<void>
}

/** Throws unless offset and length are whole numbers inside the source. */
export function checkRange(source: { name: string; size: number }, offset: number, length: number): void {
  const ok = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0
  if (!ok || offset + length > source.size)
    fail(
      "SOURCE_RANGE",
      `${source.name}: bytes ${offset} to ${offset + length} are outside its ${source.size} bytes`,
      {
        file: source.name,
      },
    )
}

/** A source over bytes in memory; reads are views, not copies. */
export function bufferSource(bytes: Uint8Array, name = "bytes"): ByteSource {
  const source = { name, size: bytes.byteLength }
  return {
    ...source,
    async read(offset, length) {
      checkRange(source, offset, length)
      return bytes.subarray(offset, offset + length)
    },
  }
}

/** A source over a Blob or a browser's File. */
export function blobSource(blob: Blob, name = "blob"): ByteSource {
  const source = { name, size: blob.size }
  return {
    ...source,
    async read(offset, length) {
      checkRange(source, offset, length)
      const bytes = new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer())
      if (bytes.length !== length)
        fail("SOURCE_SHORT", `${name}: ${bytes.length} of ${length} bytes came`, { file: name })
      return bytes
    },
  }
}

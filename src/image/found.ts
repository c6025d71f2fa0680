import { fail } from "../errors.ts"

/** What a container holds, before it is interpreted. */
export interface Found {
  /** PNG keyword, or the key of a "key:value" EXIF field, to text; the first of a name wins. */
  texts: Map<string, string>
  xmp?: string
  /** TIFF structure, with or without the "Exif\0\0" in front. */
  exif?: Uint8Array
}

/** Counts what a reader takes from one file; beyond the limits it throws IMAGE_METADATA_LIMIT. */
export class Limits {
  private entries = 0
  private bytes = 0
  /** Bytes that may still come out of compressed text. */
  inflated = 1024 * 1024

  entry(size: number): void {
    this.entries += 1
    this.bytes += size
    if (this.entries > 1024) over("more than 1024 entries")
    if (this.bytes > 16 * 1024 * 1024) over("more than 16 MiB")
  }

  inflate(size: number): void {
    this.inflated -= size
    if (this.inflated < 0) over("more than 1 MiB of compressed text")
  }
}

function over(what: string): never {
  return fail("IMAGE_METADATA_LIMIT", `the image's metadata has ${what}`, {
    hint: "strip the metadata first",
  })
}

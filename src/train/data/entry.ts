/** Bytes of one file, wherever it lies: on the disk, in an archive, in a table. */
export interface Source {
  /** Where it lies, for people: a path inside the data set, or `archive:member`. */
  readonly where: string
  read(): Promise<Uint8Array>
}

/** A picture and its text, as a data set lists them; nothing is read yet. */
export interface Entry extends Source {
  readonly caption: string
  /** White where the loss counts. */
  readonly mask?: Source
  /** What a ControlNet is told beside the caption. */
  readonly condition?: Source
}

/** Something wrong with one entry. */
export interface Problem {
  readonly code: string
  readonly what: string
  readonly where: string
}

/** What a reader of one format gives: the entries it could list, and what was wrong with the others. */
export interface Listing {
  readonly entries: readonly Entry[]
  readonly problems: readonly Problem[]
}

/** Names of columns in tables; the first that a table has is taken. */
export interface Columns {
  readonly image: readonly string[]
  readonly text: readonly string[]
  readonly mask: readonly string[]
  readonly condition: readonly string[]
}

export const columns: Columns = {
  image: ["file_name", "image", "image_path", "path", "file", "filename"],
  text: ["text", "caption", "prompt", "caption_text", "TEXT"],
  mask: ["mask_file_name", "mask", "mask_path"],
  condition: ["conditioning_file_name", "conditioning_image_file_name", "conditioning_image"],
}

/** The table's columns with the caller's names before the usual ones. */
export const columnsWith = (own: { image?: string; text?: string }): Columns => ({
  ...columns,
  image: own.image === undefined ? columns.image : [own.image],
  text: own.text === undefined ? columns.text : [own.text],
})

export const pick = (row: Readonly<Record<string, unknown>>, names: readonly string[]): unknown => {
  const name = names.find((n) => row[n] !== undefined && row[n] !== null)
  return name === undefined ? undefined : row[name]
}

/** Endings of pictures: those that are read, and those that are known not to be. */
export const pictureEnding = /\.(png|jpe?g|webp|gif|bmp|tiff?|avif|heic|heif|jxl)$/i

/** Text as a caption: without byte order mark, white space joined. */
export const captionOf = (text: string): string =>
  text
    .replace(/^\uFEFF/, "")
    .replace(/\s+/g, " ")
    .trim()

export const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

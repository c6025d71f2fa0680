import { blank, type Picture, toRgb } from "./pixels.ts"
import { place } from "./region.ts"

/** On Node alone: texts are SVG, drawn by sharp, which is loaded when the first one is. */

/** Pictures in rows, with a text over each column and beside each row. */
export interface LabelledGrid {
  readonly columns: readonly string[]
  readonly rows: readonly string[]
  /** Row by row; smaller ones stand in the middle of their cell. */
  readonly pictures: readonly Picture[]
}

const escaped = (text: string): string =>
  text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu, " ")

/** Text broken into lines of so many characters, at most four of them. */
function lines(text: string, most: number): string[] {
  const out = [""]
  for (const word of text.split(/\s+/)) {
    const joined = `${out.at(-1)} ${word}`.trim()
    if (joined.length <= most || out.at(-1) === "") out[out.length - 1] = joined
    else out.push(word)
  }
  const kept = out.slice(0, 4).map((line) => (line.length > most ? `${line.slice(0, most - 1)}…` : line))
  if (out.length > 4) kept[3] = `${kept[3]!.slice(0, most - 1)}…`
  return kept
}

/** A text in the middle of a white rectangle. */
async function label(text: string, width: number, height: number, size: number): Promise<Picture> {
  const shown = lines(text, Math.max(2, Math.floor((width * 1.7) / size)))
  const top = height / 2 - ((shown.length - 1) * size * 1.2) / 2
  const spans = shown.map(
    (line, i) => `<text x="${width / 2}" y="${top + i * size * 1.2}" dy=".35em">${escaped(line)}</text>`,
  )
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="100%" height="100%" fill="#fff"/><g font-family="sans-serif" font-size="${size}" text-anchor="middle">${spans.join("")}</g></svg>`
  const { default: sharp } = await import("sharp")
  const { data, info } = await sharp(Buffer.from(svg))
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
  return toRgb({
    width: info.width,
    height: info.height,
    channels: info.channels as 3,
    data: new Uint8ClampedArray(data),
  })
}

/** Draws the grid on white; margins for texts that are all empty are left out. */
export async function labelledGrid({ columns, rows, pictures }: LabelledGrid): Promise<Picture> {
  const width = Math.max(...pictures.map((p) => p.width))
  const height = Math.max(...pictures.map((p) => p.height))
  const size = Math.max(10, Math.min(48, Math.round((width + height) / 25)))
  const left = rows.some((text) => text !== "") ? Math.round(width * 0.75) : 0
  const top = columns.some((text) => text !== "") ? Math.round(size * 5.5) : 0
  const empty = blank(left + width * columns.length, top + height * rows.length, 3)
  let made: Picture = { ...empty, data: empty.data.fill(255) }
  for (const [i, text] of columns.entries())
    if (top > 0) made = place(made, await label(text, width, top, size), left + i * width, 0)
  for (const [i, text] of rows.entries())
    if (left > 0) made = place(made, await label(text, left, height, size), 0, top + i * height)
  for (const [i, picture] of pictures.entries()) {
    const x = left + (i % columns.length) * width + Math.floor((width - picture.width) / 2)
    const y = top + Math.floor(i / columns.length) * height + Math.floor((height - picture.height) / 2)
    made = place(made, toRgb(picture), x, y)
  }
  return made
}

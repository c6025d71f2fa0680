import { concat, crc32, deflate, inflate, view } from "./bytes.ts"
import { broken } from "./header.ts"
import { blank, type Picture } from "./pixels.ts"
import { type Chunk, pngChunk, pngChunks } from "./png.ts"

/** Lossless PNG in and out: the same bytes on every platform's canvas, and nothing native to attack. */

const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10)

/** Samples per pixel of each colour type: grey, RGB, palette, grey + alpha, RGBA. */
const samplesOf: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }
const depthsOf: Record<number, number[]> = {
  0: [1, 2, 4, 8, 16],
  2: [8, 16],
  3: [1, 2, 4, 8],
  4: [8, 16],
  6: [8, 16],
}

interface Layout {
  width: number
  height: number
  depth: number
  colour: number
  samples: number
  palette: Uint8Array
  transparency: Uint8Array
}

/** Adam7: first column, first row, column step, row step of each pass. */
const passes = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const

/**
 * Decodes a PNG whose size has been checked. Palette and grey become RGB, tRNS becomes alpha,
 * 16-bit samples keep their high byte, gamma and ICC are ignored.
 * Throws IMAGE_BROKEN on wrong checksums, missing or corrupt data.
 */
export async function decodePng(bytes: Uint8Array, file?: string): Promise<Picture> {
  const { layout, interlaced, data } = parts(bytes, file)
  const { width, height } = layout
  const steps = interlaced ? passes : ([[0, 0, 1, 1]] as const)
  const sizes = steps.map(
    ([x, y, dx, dy]) => [Math.ceil((width - x) / dx), Math.ceil((height - y) / dy)] as const,
  )
  const total = sizes.reduce((sum, [w, h]) => sum + (w > 0 && h > 0 ? (lineBytes(layout, w) + 1) * h : 0), 0)
  const raw = await inflate(data, total).catch((cause) =>
    broken("png", "its pixel data is corrupt", file, cause),
  )
  if (raw.length < total) broken("png", "its pixel data ends early", file)
  const alpha = layout.colour >= 4 || layout.transparency.length > 0
  const picture = blank(width, height, alpha ? 4 : 3)
  let at = 0
  for (const [i, [w, h]] of sizes.entries()) {
    if (w <= 0 || h <= 0) continue
    const size = (lineBytes(layout, w) + 1) * h
    const lines = raw.subarray(at, at + size)
    if (!unfilter(lines, lineBytes(layout, w), bytesPerPixel(layout)))
      broken("png", "a line has an unknown filter", file)
    place(picture, lines, layout, w, h, steps[i]!)
    at += size
  }
  return picture
}

function parts(
  bytes: Uint8Array,
  file?: string,
): { layout: Layout; interlaced: boolean; data: Uint8Array[] } {
  const chunks = new Map<string, Chunk>()
  const data: Uint8Array[] = []
  for (const chunk of pngChunks(bytes)) {
    const critical = (chunk.type.charCodeAt(0) & 32) === 0
    if (
      critical &&
      crc32(bytes.subarray(chunk.start + 4, chunk.end - 4)) !== view(bytes).getUint32(chunk.end - 4)
    ) {
      broken("png", `its ${chunk.type} chunk has a wrong checksum`, file)
    }
    if (chunk.type === "IDAT") data.push(chunk.data)
    else if (!chunks.has(chunk.type)) chunks.set(chunk.type, chunk)
  }
  if (!chunks.has("IEND")) broken("png", "it ends before its IEND chunk", file)
  const header = chunks.get("IHDR")
  if (header?.data.length !== 13) return broken("png", "it has no IHDR chunk", file)
  const ihdr = view(header.data)
  const [depth, colour, compression, filter, interlace] = Array.from(header.data.subarray(8)) as [
    number,
    number,
    number,
    number,
    number,
  ]
  if (!depthsOf[colour]?.includes(depth))
    broken("png", `colour type ${colour} with ${depth} bits does not exist`, file)
  if (compression !== 0 || filter !== 0 || interlace > 1)
    broken("png", "it names an unknown compression, filter or interlace", file)
  const none = new Uint8Array(0)
  const palette = chunks.get("PLTE")?.data ?? none
  if (colour === 3 && palette.length < 3) broken("png", "it has no palette", file)
  const transparency = colour < 4 ? (chunks.get("tRNS")?.data ?? none) : none
  const size = { width: ihdr.getUint32(0), height: ihdr.getUint32(4) }
  return {
    layout: { ...size, depth, colour, samples: samplesOf[colour]!, palette, transparency },
    interlaced: interlace === 1,
    data,
  }
}

const lineBytes = (l: Layout, width: number) => Math.ceil((width * l.samples * l.depth) / 8)
const bytesPerPixel = (l: Layout) => Math.max(1, (l.samples * l.depth) / 8)

/** Undoes the line filters in place (PNG specification, clause 9); false on an unknown filter. */
function unfilter(lines: Uint8Array, length: number, bpp: number): boolean {
  let above: Uint8Array = new Uint8Array(length)
  for (let at = 0; at < lines.length; at += length + 1) {
    const line = lines.subarray(at + 1, at + 1 + length)
    const undo = undoers[lines[at]!]
    if (!undo) return false
    undo(line, above, bpp)
    above = line
  }
  return true
}

/** None, Sub, Up, Average, Paeth. */
const undoers: ((line: Uint8Array, above: Uint8Array, bpp: number) => void)[] = [
  () => undefined,
  (line, _, bpp) => {
    for (let i = bpp; i < line.length; i++) line[i] = line[i]! + line[i - bpp]!
  },
  (line, above) => {
    for (let i = 0; i < line.length; i++) line[i] = line[i]! + above[i]!
  },
  (line, above, bpp) => {
    for (let i = 0; i < Math.min(bpp, line.length); i++) line[i] = line[i]! + (above[i]! >> 1)
    for (let i = bpp; i < line.length; i++) line[i] = line[i]! + ((line[i - bpp]! + above[i]!) >> 1)
  },
  (line, above, bpp) => {
    for (let i = 0; i < Math.min(bpp, line.length); i++) line[i] = line[i]! + above[i]!
    for (let i = bpp; i < line.length; i++)
      line[i] = line[i]! + paeth(line[i - bpp]!, above[i]!, above[i - bpp]!)
  },
]

/** Of left, above and upper left the one nearest to a + b - c. */
function paeth(a: number, b: number, c: number): number {
  const pa = b > c ? b - c : c - b
  const pb = a > c ? a - c : c - a
  const p = a + b - 2 * c
  const pc = p < 0 ? -p : p
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c
}

/** Writes the unfiltered lines of one pass to their pixels. */
function place(
  picture: Picture,
  lines: Uint8Array,
  layout: Layout,
  width: number,
  height: number,
  [x0, y0, dx, dy]: readonly [number, number, number, number],
): void {
  const length = lineBytes(layout, width)
  const { channels, data } = picture
  const whole =
    dx === 1 && dy === 1 && layout.depth === 8 && layout.colour !== 3 && layout.samples === channels
  if (whole) {
    for (let y = 0; y < height; y++)
      data.set(lines.subarray(y * (length + 1) + 1, (y + 1) * (length + 1)), y * length)
    return
  }
  const put = painter(layout, data, channels)
  for (let y = 0; y < height; y++) {
    const line = lines.subarray(y * (length + 1) + 1, (y + 1) * (length + 1))
    let to = ((y0 + y * dy) * picture.width + x0) * channels
    for (let x = 0; x < width; x++, to += dx * channels) put(line, x, to)
  }
}

type Paint = (line: Uint8Array, x: number, to: number) => void

/** How a pixel of this layout is written as RGB or RGBA. */
function painter(layout: Layout, out: Uint8ClampedArray, channels: number): Paint {
  const { samples, depth, colour } = layout
  if (depth < 8 || colour === 3) return indexed(layout, out, channels)
  const wide = depth / 8
  const key = transparentColour(layout)
  const green = samples >= 3 ? wide : 0
  return (line, x, to) => {
    const from = x * samples * wide
    out[to] = line[from]!
    out[to + 1] = line[from + green]!
    out[to + 2] = line[from + 2 * green]!
    if (channels === 3) return
    if (colour >= 4) out[to + 3] = line[from + (samples - 1) * wide]!
    else out[to + 3] = key?.every((v, i) => v === line[from + i]) ? 0 : 255
  }
}

/** The bytes that tRNS makes transparent in grey and RGB pictures. */
function transparentColour({ transparency, samples, depth }: Layout): number[] | undefined {
  if (transparency.length < 2 * samples) return undefined
  const wide = Array.from(transparency.subarray(0, 2 * samples))
  return depth === 16 ? wide : wide.filter((_, i) => i % 2 === 1)
}

/** Palettes, and grey of fewer than 8 bits, which is a palette of even steps. */
function indexed(
  { depth, colour, palette, transparency }: Layout,
  out: Uint8ClampedArray,
  channels: number,
): Paint {
  const most = (1 << depth) - 1
  const table = new Uint8Array((most + 1) * 4)
  const key = transparency.length >= 2 ? view(transparency).getUint16(0) : -1
  for (let v = 0; v <= most; v++) {
    for (let c = 0; c < 3; c++) table[v * 4 + c] = colour === 3 ? (palette[v * 3 + c] ?? 0) : (v * 255) / most
    table[v * 4 + 3] = colour === 3 ? (transparency[v] ?? 255) : v === key ? 0 : 255
  }
  return (line, x, to) => {
    const bit = x * depth
    const v = (line[bit >> 3]! >> (8 - depth - (bit & 7))) & most
    for (let c = 0; c < channels; c++) out[to + c] = table[v * 4 + c]!
  }
}

/** Encodes losslessly: 8 bits, per line the filter of least absolute sum, no interlace. The same input gives the same bytes. */
export async function encodePng(picture: Picture): Promise<Uint8Array> {
  const { width, height, channels } = picture
  const header = new Uint8Array(13)
  view(header).setUint32(0, width)
  view(header).setUint32(4, height)
  header.set([8, channels === 1 ? 0 : channels === 3 ? 2 : 6], 8)
  const body = pngChunk("IDAT", await deflate(filtered(picture)))
  return concat([signature, pngChunk("IHDR", header), body, pngChunk("IEND", new Uint8Array(0))])
}

/** Filter byte and filtered line, for every line. */
function filtered({ width, height, channels, data }: Picture): Uint8Array {
  const length = width * channels
  const out = new Uint8Array((length + 1) * height)
  // a pixel of zeros in front spares the loops a test
  let line = new Uint8Array(length + channels)
  let above = new Uint8Array(length + channels)
  const trials = [0, 1, 2, 3, 4].map(() => new Uint8Array(length))
  const sums = new Float64Array(5)
  for (let y = 0; y < height; y++) {
    line.set(data.subarray(y * length, (y + 1) * length), channels)
    filterLine(line, above, channels, trials as Trials, sums)
    const best = sums.indexOf(Math.min(...sums))
    out[y * (length + 1)] = best
    out.set(trials[best]!, y * (length + 1) + 1)
    const spare = above
    above = line
    line = spare
  }
  return out
}

type Trials = [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array]

/** All five filters of one line, and the sum of the absolute (signed) values of each. */
function filterLine(
  line: Uint8Array,
  above: Uint8Array,
  bpp: number,
  trials: Trials,
  sums: Float64Array,
): void {
  const [none, sub, up, average, pred] = trials
  let [s0, s1, s2, s3, s4] = [0, 0, 0, 0, 0]
  for (let i = 0; i < none.length; i++) {
    const x = line[i + bpp]!
    const a = line[i]!
    const b = above[i + bpp]!
    const c = above[i]!
    none[i] = x
    s0 += x < 128 ? x : 256 - x
    let d = (sub[i] = (x - a) & 255)
    s1 += d < 128 ? d : 256 - d
    d = up[i] = (x - b) & 255
    s2 += d < 128 ? d : 256 - d
    d = average[i] = (x - ((a + b) >> 1)) & 255
    s3 += d < 128 ? d : 256 - d
    d = pred[i] = (x - paeth(a, b, c)) & 255
    s4 += d < 128 ? d : 256 - d
  }
  sums.set([s0, s1, s2, s3, s4])
}

import { blank, type Picture, toRgb } from "./pixels.ts"
import { cut } from "./region.ts"
import type { Box } from "./resize.ts"

/** Tiles over a picture: rows from top to bottom, in each boxes from left to right, all of one size. */
export interface TileGrid {
  readonly width: number
  readonly height: number
  readonly overlap: number
  readonly rows: readonly (readonly Box[])[]
}

/** Starts of tiles along one axis, as A1111's split_grid spreads them: evenly, none beyond the end. */
function starts(length: number, tile: number, overlap: number): number[] {
  const count = Math.ceil((length - overlap) / (tile - overlap))
  const step = count > 1 ? (length - tile) / (count - 1) : 0
  return Array.from({ length: Math.max(1, count) }, (_, i) => {
    const at = Math.trunc(i * step)
    return at + tile >= length ? length - tile : at
  })
}

/** Tiles of one size over a picture that is at least as large. */
export function tileGrid(
  { width, height }: { width: number; height: number },
  tile: { width: number; height: number },
  overlap: number,
): TileGrid {
  const rows = starts(height, tile.height, overlap).map((y) =>
    starts(width, tile.width, overlap).map((x): Box => [x, y, x + tile.width, y + tile.height]),
  )
  return { width, height, overlap, rows }
}

/** Writes `part` at (x, y), fading it in over its first `overlap` columns or rows. */
function lay(frame: Picture, part: Picture, x: number, y: number, overlap: number, along: "x" | "y"): void {
  for (let row = 0; row < part.height; row++)
    for (let column = 0; column < part.width; column++) {
      const at = along === "x" ? column : row
      const share = at < overlap ? Math.trunc(Math.fround(at * 255) / overlap) : 255
      for (let c = 0; c < 3; c++) {
        const to = ((y + row) * frame.width + x + column) * 3 + c
        const sum =
          frame.data[to]! * (255 - share) + part.data[(row * part.width + column) * 3 + c]! * share + 128
        frame.data[to] = ((sum >> 8) + sum) >> 8
      }
    }
}

/**
 * Tiles put together again, each faded in over the overlap with the one before it, first along rows, then rows among
 * each other: A1111's combine_grid, bit for bit. @param tiles RGB, in the grid's order
 */
export function combineTiles(grid: TileGrid, tiles: readonly Picture[]): Picture {
  const whole = blank(grid.width, grid.height, 3)
  let at = 0
  for (const row of grid.rows) {
    const [, top, , bottom] = row[0]!
    const line = blank(grid.width, bottom - top, 3)
    for (const [x] of row) lay(line, toRgb(tiles[at++]!), x, 0, x === 0 ? 0 : grid.overlap, "x")
    lay(whole, line, 0, top, top === 0 ? 0 : grid.overlap, "y")
  }
  return whole
}

/** The parts of a picture under a grid's tiles. */
export const cutTiles = (picture: Picture, { rows }: TileGrid): Picture[] =>
  rows.flat().map((box) => cut(picture, box))

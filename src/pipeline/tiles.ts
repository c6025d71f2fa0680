import { fail } from "../errors.ts"
import { type Picture, toRgb } from "../image/pixels.ts"
import { combineTiles, cutTiles, tileGrid } from "../image/tiles.ts"
import { enlarge } from "./enlarge.ts"
import { type GenerateStep, generate, type Job } from "./generate.ts"

const mostPixels = 64 * 1024 * 1024

/**
 * The start picture enlarged, redrawn in overlapping tiles, and put together (A1111's SD upscale): tile k is the image to
 * image of that part alone with seed + k; the next picture of a batch begins at seed + 1.
 */
export async function* redrawTiles(job: Job): AsyncGenerator<GenerateStep, Picture[]> {
  const { settings } = job
  const { scale, overlap } = settings.sdUpscale!
  const init = toRgb(settings.init!)
  const to = (n: number, least: number) => Math.max(least, Math.floor((n * scale) / 8) * 8)
  const [width, height] = [to(init.width, settings.width), to(init.height, settings.height)]
  if (width * height > mostPixels)
    fail("REQUEST_SIZE", `${width}x${height} is more than 64 megapixels`, { hint: "use a smaller factor" })
  const large = await enlarge(init, width, height, await job.upscaler?.(settings.upscaler))
  const grid = tileGrid(large, settings, overlap)
  const tiles = cutTiles(large, grid)
  const all = tiles.length * settings.count
  const pictures: Picture[] = []
  for (let i = 0; i < settings.count; i++) {
    const drawn: Picture[] = []
    for (const [k, tile] of tiles.entries()) {
      const seed = (settings.seed + i + k) % 2 ** 32
      const part = { ...settings, init: tile, seed, count: 1, upscale: 1, sdUpscale: undefined }
      const before = (i * tiles.length + k) / all
      const run = generate({ ...job, settings: part, frugal: false })
      for (let step = await run.next(); ; step = await run.next()) {
        if (step.done) {
          drawn.push(step.value[0]!)
          break
        }
        yield { ...step.value, picture: i, progress: before + step.value.progress / all }
      }
    }
    pictures.push(combineTiles(grid, drawn))
  }
  return pictures
}

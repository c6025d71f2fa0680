import { mkdir, readdir } from "node:fs/promises"
import { join } from "node:path"
import { writeAtomic } from "./pipeline/files.ts"
import { StableDiffusion } from "./pipeline/stable-diffusion.ts"
import type { Engine } from "./runtime/engine.ts"
import type { ClassPictures } from "./train/finetune/run.ts"

const fileName = (n: number): string => `class-${String(n).padStart(4, "0")}.png`

/**
 * Draws what a model makes of a class, for a training that shall not forget it (Ruiz et al. 2023): picture n has seed + n,
 * and those that are there already stay. Yields how many there are.
 */
export async function* drawClass(
  engine: Engine,
  { model, prompt, folder, count, seed, size, steps, cfg }: ClassPictures,
  signal?: AbortSignal,
): AsyncGenerator<number> {
  await mkdir(folder, { recursive: true })
  const there = new Set(await readdir(folder))
  const missing = Array.from({ length: count }, (_, n) => n).filter((n) => !there.has(fileName(n)))
  if (missing.length === 0) return
  const sd = await StableDiffusion.load(model, { device: "cpu", engine })
  try {
    for (const [done, n] of missing.entries()) {
      yield count - missing.length + done
      const ask = { prompt, seed: seed + n, width: size, height: size, steps, cfg }
      const { images } = await sd.generate(ask, { signal })
      await writeAtomic(join(folder, fileName(n)), await images[0]!.encode("png"))
    }
    yield count
  } finally {
    await sd.release()
  }
}

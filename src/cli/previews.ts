import { rm } from "node:fs/promises"
import { encodeImage, type GenerateStep, writeAtomic, xmpMark } from "../index.ts"
import { version } from "../version.ts"

/** Milliseconds between two previews. */
const pace = 1000

/** Writes the current estimate of the picture to a file while it is drawn, at most once a second; gone at the end. */
export class Previews {
  private readonly path: string
  private last = Number.NEGATIVE_INFINITY

  constructor(path: string) {
    this.path = path
  }

  async show(step: GenerateStep): Promise<void> {
    const now = performance.now()
    if (step.phase !== "denoise" || now - this.last < pace) return
    const picture = (await step.look?.()) ?? step.preview()
    if (!picture) return
    const xmp = xmpMark({ composite: false, system: "aquatint, unfinished", version })
    await writeAtomic(this.path, await encodeImage(picture, { format: "png", metadata: { xmp } }))
    this.last = performance.now()
  }

  async done(): Promise<void> {
    if (this.last > 0) await rm(this.path, { force: true })
  }
}

import { z } from "zod"
import { type AttentionMaps, encodeImage, type GenerateStep, wordMaps } from "../index.ts"
import type { Job } from "../store/index.ts"

/** How a picture came about, for people who want to see it. */
export const studyBody = z
  .object({
    width: z.int(),
    height: z.int(),
    words: z.array(
      z.object({
        text: z.string(),
        peak: z.number().meta({ description: "largest share of the attention at a place" }),
        values: z.string().meta({ description: "base64: a byte a place, row by row, 255 is the peak" }),
      }),
    ),
    steps: z.array(
      z.object({
        step: z.int(),
        image: z
          .string()
          .meta({ description: "data: URL, one pixel per latent: what the picture would become" }),
      }),
    ),
  })
  .meta({ id: "Study" })
export type Study = z.infer<typeof studyBody>

/** Where a job's study is kept: without a record, so that tidying takes it away after an hour. */
export const studyFile = (job: string): string => `${job}-study.json`

/** Whether a job draws a picture again to be looked at. */
export const isStudy = (job: Job): boolean => job.request.kind === "study"

/** Collects the steps of a picture. */
export class StudySteps {
  readonly steps: { step: number; image: string }[] = []

  async add(step: GenerateStep): Promise<void> {
    const seen = step.phase === "denoise" ? step.preview() : null
    if (!seen) return
    const png = Buffer.from(await encodeImage(seen, { format: "png" })).toString("base64")
    this.steps.push({ step: step.step, image: `data:image/png;base64,${png}` })
  }
}

/** A study as it is kept: maps as bytes, 255 is each one's peak. */
export function studyOf(maps: AttentionMaps, steps: Study["steps"]): Study {
  const words = wordMaps(maps).map(({ text, values }) => {
    const peak = values.reduce((most, v) => Math.max(most, v), 0)
    const bytes = Uint8Array.from(values, (v) => Math.round((255 * v) / Math.max(peak, 1e-12)))
    return { text, peak, values: Buffer.from(bytes).toString("base64") }
  })
  return { width: maps.width, height: maps.height, words, steps }
}

import { decodeImage, encodeImage, readMetadata } from "../index.ts"
import type { Database, Files, Job, NewImage } from "../store/index.ts"
import { bytesOfRef, keep } from "./draw.ts"
import type { PictureRef } from "./schemas.ts"
import { type Enlargers, type Enlarging, enlarge } from "./upscale.ts"

/** Stands for a model in jobs that need none; any worker takes them. */
export const noModel = "-"

/** The request of a job that enlarges a picture. */
export interface EnlargeRequest extends Enlarging {
  kind: "enlarge"
  /** The picture's own, where it was drawn here. */
  prompt: string
  negative?: string
  seed: number
  init: PictureRef
}

/** Enlarges a job's picture; what its file says of its making goes on with it. */
export async function enlargeJob(
  { db, files }: { db: Database; files: Files },
  job: Job,
  networks: Enlargers,
  signal: AbortSignal,
): Promise<NewImage[]> {
  const asked = job.request as unknown as EnlargeRequest
  const bytes = await bytesOfRef(db, files, job.owner, asked.init)
  const { parameters, xmp } = await readMetadata(bytes)
  const picture = await enlarge(await decodeImage(bytes), asked, networks, signal)
  const metadata = { ...(parameters ? { parameters } : {}), ...(xmp ? { xmp } : {}) }
  const encoded = await encodeImage(picture, { format: "png", metadata })
  const about = { seed: asked.seed ?? 0, infotext: parameters ?? "" }
  return [await keep(files, job, 0, "png", picture, encoded, about)]
}

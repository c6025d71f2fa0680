import { decodeImage, encodeImage, readMetadata } from "../index.ts"
import type { Database, Files, Job, NewImage } from "../store/index.ts"
import { bytesOfRef, keep } from "./draw.ts"
import type { PictureRef } from "./schemas.ts"
import { type Enlarging, enlarge } from "./upscale.ts"

/** Stands for a model in jobs that need none; any worker takes them. */
export const noModel = "-"

/** The request of a job that enlarges a picture. */
export interface EnlargeRequest extends Enlarging {
  kind: "enlarge"
  prompt: ""
  init: PictureRef
}

/** Enlarges a job's picture; what its file says of its making goes on with it. */
export async function enlargeJob(db: Database, files: Files, job: Job): Promise<NewImage[]> {
  const asked = job.request as unknown as EnlargeRequest
  const bytes = await bytesOfRef(db, files, job.owner, asked.init)
  const { parameters, xmp } = await readMetadata(bytes)
  const picture = enlarge(await decodeImage(bytes), asked)
  const metadata = { ...(parameters ? { parameters } : {}), ...(xmp ? { xmp } : {}) }
  const encoded = await encodeImage(picture, { format: "png", metadata })
  return [await keep(files, job, 0, "png", picture, encoded, { seed: 0, infotext: parameters ?? "" })]
}

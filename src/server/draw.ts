import { createHash } from "node:crypto"
import { fail } from "../errors.ts"
import {
  checkAsk,
  decodeImage,
  encodeImage,
  fit as fitTo,
  type GenerateRequest,
  type GenerateResult,
  type ImageFormat,
  invert,
  type Picture,
  resize,
} from "../index.ts"
import {
  type Database,
  type Files,
  findImage,
  findUpload,
  type Job,
  type NewImage,
  pass,
} from "../store/index.ts"
import type { KnownModel, Models } from "./models.ts"
import { type Drawing, hiresUpscalers, type PictureRef } from "./schemas.ts"

const longestThumbnail = 320

/** The pictures that a request names, and what becomes of them. */
interface Inputs {
  init?: Picture
  mask?: Picture
}

/** What a job calls as the library does. */
const alike = [
  ...(["prompt", "negative", "steps", "cfg", "sampler", "schedule", "eta", "clipSkip", "seed"] as const),
  ...(["width", "height", "count", "rng", "imageCfg", "guidanceRescale", "strength"] as const),
  ...(["speed", "stepCache", "guidanceStart", "guidanceEnd", "guidanceHold", "tokenMerge"] as const),
  ...(["variationSeed", "variationStrength", "seedFrom"] as const),
] satisfies readonly (keyof Drawing & keyof GenerateRequest)[]

/** A job's request as the library takes it. @throws INPUT_GONE, IMAGE_*, REQUEST_* */
export async function askOf(
  db: Database,
  files: Files,
  job: Job,
  model: KnownModel,
  models: Models,
): Promise<GenerateRequest> {
  const drawing = job.request as unknown as Drawing
  const inputs = await inputsOf(db, files, job.owner, drawing)
  const ask = {
    ...Object.fromEntries(alike.map((key) => [key, drawing[key]])),
    promptSyntax: drawing.syntax,
    hires: secondPass(drawing.hires, models),
    ...(inputs.mask
      ? {
          inpaintArea: drawing.inpaintArea,
          maskPadding: drawing.maskPadding,
          maskBlur: drawing.maskBlur || undefined,
          fill: drawing.fill,
        }
      : {}),
    ...beside(drawing, model, models),
    ...inputs,
  }
  const given = Object.fromEntries(Object.entries(ask).filter(([, value]) => value !== undefined))
  checkAsk(given as unknown as GenerateRequest, model.card)
  return given as unknown as GenerateRequest
}

/** Networks that enlarge between two passes, by their ids. @throws REQUEST_UPSCALER */
function secondPass(hires: Drawing["hires"], models: Models): Drawing["hires"] {
  const { upscaler } = hires ?? {}
  if (upscaler === undefined || hiresUpscalers.includes(upscaler)) return hires
  return { ...hires, upscaler: models.upscalers.get(upscaler).path }
}

/** Files beside the model, by their ids: LoRAs asked for, and embeddings whose names the prompts hold. */
function beside(
  { prompt, negative = "", loras = [] }: Drawing,
  { card }: KnownModel,
  models: Models,
): Partial<GenerateRequest> {
  const words = models.embeddings.wordsIn(`${prompt}\n${negative}`, card.family)
  return {
    ...(loras.length > 0
      ? { loras: loras.map(({ id, weight }) => ({ file: models.loras.get(id).path, weight: weight ?? 1 })) }
      : {}),
    ...(words.length > 0 ? { embeddings: words.map(({ path }) => path) } : {}),
  }
}

async function inputsOf(db: Database, files: Files, owner: string, drawing: Drawing): Promise<Inputs> {
  if (!drawing.init) return {}
  const { width, height, inpaintArea } = drawing
  // only a part is drawn at that size
  const fit = inpaintArea === "masked" || drawing.fit === "stretch" ? undefined : drawing.fit
  const start = await pictureOf(db, files, owner, drawing.init)
  const fitted = (picture: Picture) => (fit && width && height ? fitTo(picture, width, height, fit) : picture)
  const init = fitted(start)
  if (!drawing.mask) return { init }
  const given = await pictureOf(db, files, owner, drawing.mask)
  const grey = drawing.maskFrom === "transparent" ? holes(given) : given
  const mask = drawing.invertMask ? invert(grey) : grey
  return { init, mask: fitted(mask) }
}

/** White where a picture lets through what is behind it. */
function holes(picture: Picture): Picture {
  const { width, height, channels, data } = picture
  const grey = new Uint8ClampedArray(width * height)
  if (channels === 4) for (let i = 0; i < grey.length; i++) grey[i] = 255 - data[4 * i + 3]!
  return { width, height, channels: 1, data: grey }
}

/** The bytes of a picture that a request names. @throws INPUT_GONE */
export async function bytesOfRef(
  db: Database,
  files: Files,
  owner: string,
  ref: PictureRef,
): Promise<Uint8Array> {
  const file =
    "upload" in ref
      ? (await findUpload(db, ref.upload, owner))?.file
      : (await findImage(db, ref.image, owner))?.file
  const bytes = file === undefined ? null : await files.get(file)
  return (
    bytes ??
    fail("INPUT_GONE", "a picture that the request names is no longer there", { hint: "send it again" })
  )
}

const pictureOf = async (db: Database, files: Files, owner: string, ref: PictureRef): Promise<Picture> =>
  decodeImage(await bytesOfRef(db, files, owner, ref))

/**
 * Encodes and stores the pictures of a job. Their names follow from the job, so that a second attempt writes the same
 * bytes to the same files.
 */
export async function store(files: Files, job: Job, { images }: GenerateResult): Promise<NewImage[]> {
  const drawing = job.request as unknown as Drawing
  const format = drawing.format ?? "png"
  const made: NewImage[] = []
  for (const [number, image] of images.entries()) {
    const bytes = await image.encode(format, drawing.quality)
    const { seed, infotext } = image
    made.push(await keep(files, job, number, format, image.picture, bytes, { seed, infotext }))
  }
  return made
}

/** Stores picture `number` of a job and its thumbnail, under names that follow from the job. */
export async function keep(
  files: Files,
  job: Job,
  number: number,
  format: ImageFormat,
  picture: Picture,
  bytes: Uint8Array,
  about: { seed: number; infotext: string },
): Promise<NewImage> {
  const file = `${job.id}-${number}.${format === "jpeg" ? "jpg" : format}`
  const thumbnail = `${job.id}-${number}.thumb.webp`
  await files.put(file, bytes)
  pass("picture-written")
  await files.put(thumbnail, await encodeImage(small(picture), { format: "webp", quality: 80 }))
  pass("thumbnail-written")
  return {
    number,
    file,
    thumbnail,
    format,
    width: picture.width,
    height: picture.height,
    bytes: bytes.length,
    sha256: createHash("sha256").update(bytes).digest("hex"),
    ...about,
  }
}

function small(picture: Picture): Picture {
  const scale = Math.min(1, longestThumbnail / Math.max(picture.width, picture.height))
  const side = (pixels: number) => Math.max(1, Math.round(pixels * scale))
  return scale === 1 ? picture : resize(picture, side(picture.width), side(picture.height), "box")
}

/** Takes away what an attempt may have stored before its job was cancelled or failed. */
export async function discard(files: Files, job: Job): Promise<void> {
  const drawing = job.request as unknown as Drawing
  const ending = drawing.format === "jpeg" ? "jpg" : (drawing.format ?? "png")
  for (let number = 0; number < (drawing.count ?? 1); number++) {
    await files.remove(`${job.id}-${number}.${ending}`)
    await files.remove(`${job.id}-${number}.thumb.webp`)
  }
}

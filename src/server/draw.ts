import { createHash } from "node:crypto"
import { fail } from "../errors.ts"
import {
  checkAsk,
  composite,
  decodeImage,
  encodeImage,
  fit as fitTo,
  type GenerateRequest,
  type GenerateResult,
  gaussianBlur,
  invert,
  type Picture,
  resize,
  toRgb,
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
import type { KnownModel } from "./models.ts"
import type { Drawing, PictureRef } from "./schemas.ts"

const longestThumbnail = 320

/** The pictures that a request names, and what becomes of them. */
interface Inputs {
  init?: Picture
  mask?: Picture
}

/** A job's request as the library takes it. @throws INPUT_GONE, IMAGE_*, REQUEST_* */
export async function askOf(
  db: Database,
  files: Files,
  job: Job,
  model: KnownModel,
): Promise<GenerateRequest> {
  const drawing = job.request as unknown as Drawing
  const inputs = await inputsOf(db, files, job.owner, drawing)
  const ask: GenerateRequest = {
    prompt: drawing.prompt,
    negative: drawing.negative,
    steps: drawing.steps,
    cfg: drawing.cfg,
    sampler: drawing.sampler,
    schedule: drawing.schedule,
    eta: drawing.eta,
    clipSkip: drawing.clipSkip,
    seed: drawing.seed,
    width: drawing.width,
    height: drawing.height,
    count: drawing.count,
    rng: drawing.rng,
    promptSyntax: drawing.syntax,
    imageCfg: drawing.imageCfg,
    guidanceRescale: drawing.guidanceRescale,
    strength: drawing.strength,
    ...inputs,
  }
  const given = Object.fromEntries(Object.entries(ask).filter(([, value]) => value !== undefined))
  checkAsk(given as unknown as GenerateRequest, model.card)
  return given as unknown as GenerateRequest
}

async function inputsOf(db: Database, files: Files, owner: string, drawing: Drawing): Promise<Inputs> {
  if (!drawing.init) return {}
  const { width, height } = drawing
  const start = await pictureOf(db, files, owner, drawing.init)
  const init =
    drawing.fit && drawing.fit !== "stretch" && width && height
      ? fitTo(start, width, height, drawing.fit)
      : start
  if (!drawing.mask) return { init }
  const given = await pictureOf(db, files, owner, drawing.mask)
  const grey = drawing.maskFrom === "transparent" ? holes(given) : given
  const mask = drawing.invertMask ? invert(grey) : grey
  return {
    init,
    mask:
      drawing.fit && drawing.fit !== "stretch" && width && height
        ? fitTo(mask, width, height, drawing.fit)
        : mask,
  }
}

/** White where a picture lets through what is behind it. */
function holes(picture: Picture): Picture {
  const { width, height, channels, data } = picture
  const grey = new Uint8ClampedArray(width * height)
  if (channels === 4) for (let i = 0; i < grey.length; i++) grey[i] = 255 - data[4 * i + 3]!
  return { width, height, channels: 1, data: grey }
}

async function pictureOf(db: Database, files: Files, owner: string, ref: PictureRef): Promise<Picture> {
  const file =
    "upload" in ref
      ? (await findUpload(db, ref.upload, owner))?.file
      : (await findImage(db, ref.image, owner))?.file
  const bytes = file === undefined ? null : await files.get(file)
  if (!bytes)
    return fail("INPUT_GONE", "a picture that the request names is no longer there", {
      hint: "send it again",
    })
  return decodeImage(bytes)
}

/**
 * Encodes and stores the pictures of a job. Their names follow from the job, so that a second attempt writes the same
 * bytes to the same files.
 */
export async function store(
  files: Files,
  job: Job,
  ask: GenerateRequest,
  { images }: GenerateResult,
): Promise<NewImage[]> {
  const drawing = job.request as unknown as Drawing
  const format = drawing.format ?? "png"
  const made: NewImage[] = []
  for (const [number, image] of images.entries()) {
    if (ask.init && ask.mask && drawing.maskBlur) feather(image.picture, ask.init, ask.mask, drawing.maskBlur)
    const bytes = await image.encode(format, drawing.quality)
    const file = `${job.id}-${number}.${format === "jpeg" ? "jpg" : format}`
    const thumbnail = `${job.id}-${number}.thumb.webp`
    await files.put(file, bytes)
    pass("picture-written")
    await files.put(thumbnail, await encodeImage(small(image.picture), { format: "webp", quality: 80 }))
    pass("thumbnail-written")
    made.push({
      number,
      file,
      thumbnail,
      format,
      width: image.width,
      height: image.height,
      bytes: bytes.length,
      sha256: createHash("sha256").update(bytes).digest("hex"),
      seed: image.seed,
      infotext: image.infotext,
    })
  }
  return made
}

/** Lays the new picture over the old one through a soft mask, in place. */
function feather(picture: Picture, init: Picture, mask: Picture, radius: number): void {
  const { width, height } = picture
  const soft = gaussianBlur(resize(mask, width, height), radius)
  picture.data.set(composite(picture, resize(toRgb(init), width, height), soft).data)
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

import { buildExif, comfyTexts, readExif } from "./exif.ts"
import type { Found } from "./found.ts"
import { type ImageFormat, readHeader, sniff } from "./header.ts"
import { readJpeg, writeJpeg } from "./jpeg.ts"
import { readPng, writePngTexts } from "./png.ts"
import { readWebp, writeWebp } from "./webp.ts"

/** What a picture file says of its making, the same for PNG, JPEG and WebP. */
export interface ImageMetadata {
  /** A1111's infotext: PNG text `parameters`, EXIF UserComment. */
  parameters?: string
  /** ComfyUI's API graph as JSON: PNG text, EXIF Model "prompt:...". */
  prompt?: string
  /** ComfyUI's editor graph as JSON: PNG text, EXIF Make "workflow:...". */
  workflow?: string
  /** XMP packet. */
  xmp?: string
  /** Everything else by its keyword (`invokeai_metadata`, `Software`, `Comment`, ...). */
  texts?: Record<string, string>
}

const xmpKey = "XML:com.adobe.xmp"

/**
 * Puts metadata into an encoded picture without touching its pixels; fields of the same name are
 * replaced, others kept. Strings come back equal from `readMetadata`, but for lone surrogates
 * outside `parameters` of JPEG and WebP.
 * Throws IMAGE_METADATA_SIZE when JPEG's 64 KiB segments or EXIF's fields are too few.
 */
export function writeMetadata(bytes: Uint8Array, metadata: ImageMetadata): Uint8Array {
  const { parameters, prompt, workflow, xmp } = metadata
  const texts = new Map<string, string>()
  if (prompt !== undefined) texts.set("prompt", prompt)
  if (workflow !== undefined) texts.set("workflow", workflow)
  for (const [key, text] of Object.entries(metadata.texts ?? {})) texts.set(key, text)
  const format = formatOf(bytes)
  if (format === "png") {
    const all = new Map<string, string>()
    if (parameters !== undefined) all.set("parameters", parameters)
    for (const [key, text] of texts) all.set(key, text)
    if (xmp !== undefined) all.set(xmpKey, xmp)
    return writePngTexts(bytes, all)
  }
  const exif = buildExif(parameters, texts)
  return format === "jpeg" ? writeJpeg(bytes, exif, xmp) : writeWebp(bytes, exif, xmp)
}

/**
 * Reads what A1111 and its forks, ComfyUI, InvokeAI, Fooocus, NovelAI and stable-diffusion.cpp write.
 * Total and bounded: damaged parts are passed over; throws IMAGE_EMPTY or IMAGE_FORMAT when the
 * bytes are no PNG, JPEG or WebP, IMAGE_METADATA_LIMIT when there is more than a reader should take.
 */
export async function readMetadata(bytes: Uint8Array): Promise<ImageMetadata> {
  const found = await find(bytes)
  const exif = found.exif && readExif(found.exif)
  const texts = new Map(found.texts)
  if (exif) {
    const comfy = comfyTexts(exif)
    for (const [key, text] of comfy) if (!texts.has(key)) texts.set(key, text)
    for (const [tag, text] of exif.texts) {
      const key = exifNames[tag]
      const isComfy = [...comfy].some(([name, value]) => text === `${name}:${value}`)
      if (key && !isComfy && !texts.has(key)) texts.set(key, text)
    }
  }
  const metadata: ImageMetadata = {}
  const parameters = texts.get("parameters") ?? exif?.userComment
  if (parameters !== undefined) metadata.parameters = parameters
  if (texts.has("prompt")) metadata.prompt = texts.get("prompt")
  if (texts.has("workflow")) metadata.workflow = texts.get("workflow")
  if (found.xmp !== undefined) metadata.xmp = found.xmp
  for (const key of ["parameters", "prompt", "workflow"]) texts.delete(key)
  if (texts.size > 0) metadata.texts = Object.fromEntries(texts)
  return metadata
}

/** EXIF fields worth showing, under the names PNG uses where it has one. */
const exifNames: Record<number, string> = {
  270: "Description",
  271: "Make",
  272: "Model",
  305: "Software",
  306: "DateTime",
  315: "Author",
  33432: "Copyright",
  37500: "MakerNote",
}

/**
 * Orientation 1 to 8 where Pillow's getexif finds it: EXIF first, then tiff:Orientation in XMP.
 * 1 when there is none or it makes no sense.
 */
export async function readOrientation(bytes: Uint8Array): Promise<number> {
  const found = await find(bytes)
  const own = found.exif && readExif(found.exif).orientation
  const value = own ?? Number(/tiff:Orientation(?:="|>)([0-9])/.exec(found.xmp ?? "")?.[1] ?? 1)
  return value >= 1 && value <= 8 ? value : 1
}

async function find(bytes: Uint8Array): Promise<Found> {
  const read = { png: readPng, jpeg: readJpeg, webp: readWebp }[formatOf(bytes)]
  return read(bytes)
}

function formatOf(bytes: Uint8Array): ImageFormat {
  return sniff(bytes) ?? readHeader(bytes).format
}

import { createHash } from "node:crypto"
import { mkdir, stat } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import {
  AquatintError,
  formatOf,
  type GeneratedImage,
  type GenerateResult,
  type StableDiffusion,
  writeAtomic,
  writeSafetensors,
} from "../index.ts"
import { adapterLines, presetLine } from "./adapters.ts"
import { isMany, type ManyOptions } from "./many.ts"

/** The options of `generate` that say where results go. */
export interface OutputOptions extends ManyOptions {
  count?: number
  out?: string
  json?: boolean
  trace?: string
  quality?: number
}

/** Where pictures go. */
export interface Target {
  kind: "stdout" | "file" | "folder"
  path: string
}

const severalPictures = (options: OutputOptions) => (options.count ?? 1) > 1 || isMany(options)

/** Finds out where pictures go before anything is computed. @throws OUTPUT_* */
export async function checkTarget(options: OutputOptions): Promise<Target> {
  if (options.trace !== undefined) {
    if (!options.trace.endsWith(".safetensors"))
      throw new AquatintError("OUTPUT_FORMAT", `${options.trace} does not end in .safetensors`, {
        hint: "traces are safetensors files",
      })
    await folderOf(dirname(resolve(options.trace)))
  }
  const out = options.out
  if (out === "-") {
    if (severalPictures(options) || options.json)
      throw new AquatintError("OUTPUT_STDOUT", `stdout holds one picture${options.json ? ", or JSON" : ""}`, {
        hint: "name a folder with --out",
      })
    return { kind: "stdout", path: "-" }
  }
  if (out === undefined) return { kind: "folder", path: process.cwd() }
  const path = resolve(out)
  const found = await stat(path).catch(() => null)
  if (found?.isDirectory()) return { kind: "folder", path }
  if (severalPictures(options) || /[\\/]$/.test(out)) {
    if (found)
      throw new AquatintError("OUTPUT_FOLDER", `${out} is a file`, {
        hint: "with --count above 1, --out is a folder",
      })
    await folderOf(path)
    return { kind: "folder", path }
  }
  formatOf(path)
  await folderOf(dirname(path))
  return { kind: "file", path }
}

async function folderOf(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true })
  } catch (cause) {
    throw new AquatintError("OUTPUT_FOLDER", `the folder ${path} cannot be made`, {
      cause,
      hint: "choose a folder that you may write to",
    })
  }
}

const slug = (prompt: string): string =>
  prompt
    .toLowerCase()
    .normalize("NFKD")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 40) || "picture"

/** A name in the folder that nothing has yet. */
async function freeName(folder: string, stem: string): Promise<string> {
  for (let n = 0; ; n++) {
    const path = join(folder, `${stem}${n === 0 ? "" : `-${n}`}.png`)
    if (!(await stat(path).catch(() => null))) return path
  }
}

/** Writes pictures, each whole or not at all. */
export async function save(
  images: GeneratedImage[],
  target: Target,
  prompt: string,
  options: OutputOptions,
): Promise<{ path: string; sha256: string }[]> {
  const saved: { path: string; sha256: string }[] = []
  for (const image of images) {
    const path =
      target.kind === "folder"
        ? await freeName(target.path, `${slug(image.prompt || prompt)}-${image.seed}`)
        : target.path
    const bytes = await image.encode(target.kind === "stdout" ? "png" : formatOf(path), options.quality)
    if (target.kind === "stdout") await new Promise((done) => process.stdout.write(bytes, done))
    else await writeAtomic(path, bytes)
    saved.push({ path, sha256: createHash("sha256").update(bytes).digest("hex") })
  }
  return saved
}

/** The tensors of a run as a safetensors file. */
export async function writeTrace(path: string, { trace }: GenerateResult): Promise<void> {
  const tensors = [...trace!.tensors()].map(([name, v]) => ({
    name,
    dtype: v.data instanceof BigInt64Array ? ("I64" as const) : ("F32" as const),
    shape: [...v.shape],
    bytes: new Uint8Array(v.data.buffer, v.data.byteOffset, v.data.byteLength),
  }))
  await writeSafetensors(path, tensors)
}

/** Says what was made: a line for each picture, or one JSON object. */
export async function tell(
  sd: StableDiffusion,
  result: GenerateResult,
  paths: { path: string; sha256: string }[],
  options: OutputOptions,
): Promise<void> {
  const { images, timings, adapters, settings } = result
  const { preset } = settings
  if (!options.json && preset) process.stderr.write(`${presetLine(preset)}\n`)
  if (!options.json) for (const line of adapterLines(adapters)) process.stderr.write(`${line}\n`)
  if (!options.json) {
    if (options.out === "-") return
    for (const [i, image] of images.entries())
      process.stdout.write(
        `${paths[i]!.path}  ${image.width}x${image.height}  seed ${image.seed}  ${timings.total.toFixed(1)} s\n`,
      )
    return
  }
  const { sha256 } = await sd.facts
  const json = {
    images: images.map((image, i) => ({
      path: paths[i]!.path,
      seed: image.seed,
      width: image.width,
      height: image.height,
      sha256: paths[i]!.sha256,
    })),
    timings,
    model: { name: sd.name, family: sd.files.family, hash: sha256 },
    device: sd.device,
    dtype: sd.dtype,
    ...(adapters.length > 0 ? { adapters } : {}),
    ...(preset ? { preset } : {}),
  }
  process.stdout.write(`${JSON.stringify(json)}\n`)
}

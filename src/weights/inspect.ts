import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { readdir } from "node:fs/promises"
import { fail } from "../errors.ts"
import { splitCheckpoint } from "./checkpoint.ts"
import { readFloats } from "./decode.ts"
import { describe, type PartSummary, summarise, summariseComponents } from "./describe.ts"
import { isFolder } from "./file-source.ts"
import { openComponentFolder, openFolder } from "./folder.ts"
import { hashFile } from "./hash.ts"
import type { ModelFiles } from "./model-files.ts"
import { withFile } from "./open-file.ts"
import { readSafetensorsHeader } from "./safetensors.ts"
import { ldmBeside } from "./single-file.ts"
import type { TensorView } from "./view.ts"

/** What `aquatint inspect --json` prints; absent facts are null, so that every key is always there. */
export interface Inspection {
  path: string
  format: string
  family: string
  variant: string
  prediction: string | null
  components: Record<string, PartSummary>
  hashes: { sha256: string | null; autov1: string | null; autov2: string | null; autov3: string | null }
  metadata: Record<string, unknown>
}

export interface InspectOptions {
  signal?: AbortSignal
  /** Leave the hashes null: then nothing but headers is read. */
  hashes?: boolean
}

const NO_HASHES: Inspection["hashes"] = { sha256: null, autov1: null, autov2: null, autov3: null }

/**
 * Tells what a model file or folder is from its headers, and hashes it. A file's hashes are its own; a folder's
 * are those of its denoiser's file (or, of one component's folder, that component's). Of sharded weights sha256
 * is taken over the shards one after the other, and autov1 and autov3 are null.
 * Errors: INSPECT_UNKNOWN, SAFETENSORS_*, FOLDER_*, FILE_*.
 */
export async function inspect(path: string, options: InspectOptions = {}): Promise<Inspection> {
  return (await isFolder(path)) ? inspectFolder(path, options) : inspectFile(path, options)
}

async function inspectFolder(path: string, options: InspectOptions): Promise<Inspection> {
  const here = await readdir(path)
  if (!here.includes("model_index.json") && here.includes("config.json")) return inspectPart(path, options)
  const model = await openFolder(path)
  const metadata = pick(model.index, ["_class_name", "_diffusers_version", "_name_or_path"])
  return {
    ...ofModel(model),
    hashes: await hashesOf(model.components.get("unet")?.files ?? [], options),
    metadata,
  }
}

const PART_FORMATS: [RegExp, string, string][] = [
  [/^ControlNet/, "controlnet", "controlnet"],
  [/^Autoencoder/, "vae", "vae"],
  [/Adapter$/, "t2i-adapter", "adapter"],
  [/^UNet/, "unet", "unet"],
  [/^CLIPText/, "text-encoder", "text_encoder"],
]

async function inspectPart(path: string, options: InspectOptions): Promise<Inspection> {
  const component = await openComponentFolder(path)
  const { className, config, files, weights } = component
  const [, format, name] = PART_FORMATS.find(([pattern]) => pattern.test(className)) ?? [
    null,
    "component",
    "component",
  ]
  return {
    path,
    format,
    family: describe(weights)?.family ?? "unknown",
    variant: describe(weights)?.variant ?? "base",
    prediction: null,
    components: { [name]: summarise(className, weights.values()) },
    hashes: await hashesOf(files, options),
    metadata: pick(config, ["_class_name", "_diffusers_version", "_name_or_path"]),
  }
}

function pick(from: Record<string, unknown>, keys: string[]): Record<string, unknown> {
  return Object.fromEntries(keys.flatMap((key) => (key in from ? [[key, from[key]]] : [])))
}

function ofModel(model: ModelFiles): Omit<Inspection, "hashes" | "metadata"> {
  const { path, format, family, variant, prediction } = model
  return { path, format, family, variant, prediction, components: summariseComponents(model.components) }
}

function inspectFile(path: string, options: InspectOptions): Promise<Inspection> {
  return withFile(path, async (source) => {
    const { tensors, metadata, dataStart } = await readSafetensorsHeader(source)
    const ldm = await ldmBeside(path)
    const told = await inspectTensors(tensors, {
      path,
      metadata,
      ldm,
      readSmall: (view) => readFloats(source, view),
    })
    return {
      ...told,
      hashes:
        options.hashes === false
          ? NO_HASHES
          : await hashFile(path, { ...options, dataStart }).then((h) => ({ ...NO_HASHES, ...h })),
    }
  })
}

/** The same for tensors that came from elsewhere (a pickled checkpoint read as data); hashes are left null. */
export async function inspectTensors(
  tensors: ReadonlyMap<string, TensorView>,
  context: Parameters<typeof splitCheckpoint>[1],
): Promise<Inspection> {
  const { path } = context
  const metadata = Object.fromEntries(context.metadata ?? [])
  const told = describe(tensors, context.metadata)
  // a U-Net alone under LDM keys is read as a checkpoint without the rest
  if (told && !(told.kind === "unet" && tensors.has("input_blocks.0.0.weight"))) {
    const { kind, family, variant, components } = told
    return { path, format: kind, family, variant, prediction: null, components, hashes: NO_HASHES, metadata }
  }
  if (told === undefined && ![...tensors.keys()].some((key) => key.startsWith("model.diffusion_model.")))
    unknown(path, tensors)
  return { ...ofModel(await splitCheckpoint(tensors, context)), hashes: NO_HASHES, metadata }
}

function unknown(path: string, tensors: ReadonlyMap<string, TensorView>): never {
  const first = [...tensors.keys()].slice(0, 3)
  fail(
    "INSPECT_UNKNOWN",
    `${path}: ${tensors.size} tensors of no kind that aquatint knows, such as ${first.join(", ") || "none"}`,
    {
      file: path,
      hint: "checkpoints, LoRAs, embeddings, ControlNets, VAEs, T2I adapters and ESRGAN upscalers are known",
    },
  )
}

async function hashesOf(files: readonly string[], options: InspectOptions): Promise<Inspection["hashes"]> {
  if (options.hashes === false || files.length === 0) return NO_HASHES
  const [only, ...more] = files
  if (more.length === 0) {
    const dataStart = await withFile(only!, async (source) => (await readSafetensorsHeader(source)).dataStart)
    return { ...NO_HASHES, ...(await hashFile(only!, { ...options, dataStart })) }
  }
  const sum = createHash("sha256")
  for (const file of [...files].sort())
    for await (const bytes of createReadStream(file, options.signal ? { signal: options.signal } : {}))
      sum.update(bytes)
  const sha256 = sum.digest("hex")
  return { ...NO_HASHES, sha256, autov2: sha256.slice(0, 10) }
}

/** An inspection for people: a few lines, counts with thousands, hashes last. */
export function textReport(inspection: Inspection): string {
  const { path, format, family, variant, prediction, components, hashes, metadata } = inspection
  const kind = [family === "unknown" ? "" : family, variant === "base" ? "" : variant, format]
    .filter(Boolean)
    .join(" ")
  const rows = Object.entries(components).map(([name, part]) => [
    `  ${name}`,
    part.class,
    `${part.tensors} tensors`,
    `${millions(part.parameters)} parameters`,
    part.dtypes.join(" "),
  ])
  const widths = [0, 1, 2, 3].map((i) => Math.max(0, ...rows.map((row) => row[i]!.length)))
  const lines = [
    path,
    `  ${kind}${prediction === null ? "" : `, predicts ${prediction}`}`,
    ...rows.map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    ),
    ...Object.entries(hashes).flatMap(([name, hash]) => (hash === null ? [] : [`  ${name} ${hash}`])),
    ...Object.entries(metadata).map(([key, value]) => `  ${oneLine(key)}: ${oneLine(String(value))}`),
  ]
  return lines.join("\n")
}

const millions = (n: number) => (n < 100_000 ? String(n) : `${(n / 1e6).toFixed(n < 10e6 ? 2 : 1)} M`)

/** Metadata comes from strangers: control and direction characters do not reach the terminal, long values are cut. */
function oneLine(text: string): string {
  const clean = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ")
  return clean.length > 160 ? `${clean.slice(0, 160)}...` : clean
}

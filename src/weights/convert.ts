import { stat } from "node:fs/promises"
import { basename, join } from "node:path"
import { fail } from "../errors.ts"
import { type AdapterDialect, adapterDialects, planDialect } from "./adapters/dialects.ts"
import { FilePool } from "./convert-bytes.ts"
import { TARGETS } from "./convert-cast.ts"
import { componentFiles, planFolder, planFolderCopy, type TokenizerFiles } from "./convert-folder.ts"
import { withCodes } from "./convert-int8.ts"
import { type Plan, plannedBytes } from "./convert-plan.ts"
import { planSingleFile } from "./convert-single.ts"
import { type ConvertSource, checkApart, isPickled, SourceOpener } from "./convert-source.ts"
import { planComponentFile, planFolderOf, planTensors } from "./convert-tensors.ts"
import { checkBeside, checkDestination, execute, Workspace } from "./convert-write.ts"
import type { Workbench } from "./edit/edits.ts"
import { type EditNeeds, type EditOptions, editedModel, edits, extracted, wholeModel } from "./edit/plan.ts"

export interface ConvertOptions extends EditOptions {
  /**
   * Float tensors become this; default: each keeps its own type. `int8`: the wide layers of a U-Net become eight-bit codes
   * with a scale for each output, all else half precision.
   */
  dtype?: keyof typeof TARGETS | "int8" | undefined
  /** A LoRA's keys become this dialect's. */
  keys?: AdapterDialect | undefined
  /** Replace what stands at the destination. */
  force?: boolean | undefined
  signal?: AbortSignal | undefined
}

/** How far a conversion is. */
export interface ConvertStep {
  /** Checksums of a pickled archive come first. */
  phase: "check" | "write"
  /** File being written, inside the destination. */
  file: string
  /** Bytes read so far and in all, both phases together. */
  done: number
  total: number
  /** 0 to 1. */
  progress: number
}

export interface ConvertResult {
  path: string
  /** "single-file" (LDM keys), "diffusers" (a folder), "component" (one network's folder) or "tensors" (any other file). */
  format: Plan["format"]
  family: string
  tensors: number
  /** Bytes of tensors read. */
  bytes: number
  notes: string[]
}

/** What other rooms know: the tokenizer of single files, models and adapters by name, and how tensors are computed. */
export interface ConvertNeeds extends EditNeeds {
  tokenizerFiles: TokenizerFiles
}

/**
 * Converts a model file or folder. A destination ending in `.safetensors` is one file (LDM keys for whole
 * models), any other a diffusers folder. Pickled files are read as data. Values and types are kept unless
 * `dtype` asks; leaving the loop stops and leaves nothing behind. Memory does not grow with the model.
 * Errors: CONVERT_*, FILE_*, FOLDER_*, SAFETENSORS_*, TORCH_*, PICKLE_*, ZIP_*.
 */
export async function* convertSteps(
  source: string,
  destination: string,
  options: ConvertOptions,
  needs: ConvertNeeds,
): AsyncGenerator<ConvertStep, ConvertResult> {
  const asFile = /\.safetensors$/i.test(destination)
  await checkRequest(source, destination, asFile, options)
  const work = new Workspace(destination)
  const opener = new SourceOpener(work)
  const opened = await openSource(source, opener, needs)
  const pool = new FilePool(work.computed)
  try {
    const bench = { computed: work.computed, pool, cast: options.dtype !== undefined, notes: opener.notes }
    const edited = await editedPlan(opened, destination, { opener, needs, options, bench })
    const plan = withCodes(edited, options.dtype, bench)
    return yield* carriedOut(plan, source, destination, { opener, work, options })
  } finally {
    await pool.close()
  }
}

interface Under {
  opener: SourceOpener
  needs: ConvertNeeds
  options: ConvertOptions
  bench: Workbench
}

/** The plan of what is asked for, edits included. */
async function editedPlan(
  source: ConvertSource,
  destination: string,
  { opener, needs, options, bench }: Under,
): Promise<Plan> {
  if (options.keys) return renamed(source, options.keys, bench)
  if (!edits(options)) return planOf(source, destination, opener, needs)
  if (options.extract) return extracted(source, options.extract, needs, bench)
  const whole = await wholeModel(source)
  return planOf(await editedModel(whole, options, needs, bench), destination, opener, needs)
}

/** A LoRA under other keys. @throws CONVERT_KEYS */
function renamed(source: ConvertSource, keys: AdapterDialect, { computed }: Workbench): Promise<Plan> {
  if (source.kind === "tensors") return planDialect(source, keys, computed)
  return fail("CONVERT_KEYS", "only LoRAs have keys of several dialects", {
    hint: "name a LoRA's .safetensors file",
  })
}

/** Checks, writes and reports. */
async function* carriedOut(
  plan: Plan,
  source: string,
  destination: string,
  { opener, work, options }: { opener: SourceOpener; work: Workspace; options: ConvertOptions },
): AsyncGenerator<ConvertStep, ConvertResult> {
  if (options.force !== true) await checkBeside(plan, destination)
  const meter = new Meter(opener.checkedBytes + work.bytes(plan))
  for await (const read of opener.verify()) {
    options.signal?.throwIfAborted()
    yield meter.add(read, "check", basename(source))
  }
  const lost = yield* writing(plan, work, options, meter)
  const tensors = plan.files.flatMap((file) => ("tensors" in file ? file.tensors : []))
  const notes = [...opener.notes, ...plan.notes]
  if (lost > 0) notes.push(`${lost} numbers are too large for ${options.dtype} and became infinite`)
  const { format, family } = plan
  return { path: destination, format, family, tensors: tensors.length, bytes: plannedBytes(tensors), notes }
}

async function checkRequest(
  source: string,
  destination: string,
  asFile: boolean,
  { dtype, force, signal, extract, merge, loras, keys }: ConvertOptions,
): Promise<void> {
  signal?.throwIfAborted()
  if (keys !== undefined && (!adapterDialects.includes(keys) || !asFile || extract || merge || loras?.length))
    fail("CONVERT_KEYS", `keys ${String(keys)} with what has none, or with other edits`, {
      hint: `one of ${adapterDialects.join(", ")}, from a LoRA to a name that ends in .safetensors`,
    })
  if (extract && (merge || loras?.length))
    fail("CONVERT_EDIT", "a LoRA is either extracted or added", { hint: "do one after the other" })
  if (extract && !asFile)
    fail("CONVERT_EXTRACT", `${destination} is no name for a LoRA`, { hint: "end it in .safetensors" })
  if (dtype !== undefined && dtype !== "int8" && !Object.hasOwn(TARGETS, dtype))
    fail("CONVERT_DTYPE", `${String(dtype)} is no type to convert to`, {
      hint: `one of ${[...Object.keys(TARGETS), "int8"].join(", ")}`,
    })
  if (isPickled(destination))
    fail("CONVERT_TO_PICKLE", `${destination} would be a pickled file, which aquatint does not write`, {
      file: destination,
      hint: "end the name in .safetensors",
    })
  await checkDestination(destination, asFile, force === true)
  if (!asFile && (await present(source))) await checkApart(source, destination)
}

const present = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  )

/** A path is opened as what it is; any other word is a model's name. */
async function openSource(source: string, opener: SourceOpener, needs: ConvertNeeds): Promise<ConvertSource> {
  if (await present(source)) return opener.open(source)
  return { kind: "model", model: await needs.open(source) }
}

function planOf(
  source: ConvertSource,
  destination: string,
  opener: SourceOpener,
  { tokenizerFiles }: ConvertNeeds,
): Plan | Promise<Plan> {
  const yaml = basename(destination).replace(/\.safetensors$/i, ".yaml")
  if (yaml !== basename(destination)) {
    if (source.kind === "tensors") return planTensors(source, yaml)
    if (source.kind === "component") return planComponentFile(source.component)
    return planSingleFile(source.model, yaml, source.kept)
  }
  if (source.kind === "tensors") return planFolderOf(source, tokenizerFiles)
  if (source.kind === "component")
    return {
      format: "component",
      family: "unknown",
      files: componentFiles("", source.component, join(source.path, "config.json")),
      notes: [],
    }
  return source.model.format === "diffusers"
    ? planFolderCopy(source.model, opener.tree)
    : planFolder(source.model, tokenizerFiles)
}

/** Writes while telling how far it is; the caller's pace does not slow the writing. */
async function* writing(
  plan: Plan,
  work: Workspace,
  options: ConvertOptions,
  meter: Meter,
): AsyncGenerator<ConvertStep, number> {
  const stop = new AbortController()
  const signal = options.signal ? AbortSignal.any([stop.signal, options.signal]) : stop.signal
  let lost = 0
  let file = ""
  let wake = () => {}
  let running: Promise<"done"> | undefined
  try {
    await work.open()
    running = execute(plan, work, {
      dtype: options.dtype && TARGETS[options.dtype === "int8" ? "fp16" : options.dtype],
      signal,
      onFile: (path) => void (file = path),
      onPiece: (read, more) => {
        lost += more
        meter.add(read, "write", file)
        wake()
      },
    }).then(() => "done" as const)
    for (;;) {
      const told = new Promise<"told">((resolve) => (wake = () => resolve("told")))
      if ((await Promise.race([running, told])) === "done") return lost
      yield meter.add(0, "write", file)
    }
  } finally {
    stop.abort()
    await running?.catch(() => undefined)
    await work.close()
  }
}

class Meter {
  private done = 0
  private readonly total: number

  constructor(total: number) {
    this.total = total
  }

  add(read: number, phase: ConvertStep["phase"], file: string): ConvertStep {
    this.done += read
    const { done, total } = this
    return { phase, file, done, total, progress: total === 0 ? 1 : Math.min(1, done / total) }
  }
}

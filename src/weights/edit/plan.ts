import { AquatintError, fail } from "../../errors.ts"
import { splitCheckpoint } from "../checkpoint.ts"
import type { Plan } from "../convert-plan.ts"
import type { Leftovers } from "../convert-single.ts"
import { type ConvertSource, isPickled } from "../convert-source.ts"
import type { ModelFiles } from "../model-files.ts"
import { openSafetensors } from "../open-file.ts"
import { ldmBeside } from "../single-file.ts"
import { type BakeOptions, bakeAdapters, type Evaluate } from "./bake.ts"
import type { Workbench } from "./edits.ts"
import { type ExtractOptions, planExtract } from "./extract.ts"
import { type MergeOptions, mergeModels } from "./merge.ts"

/** What a conversion does to the weights on their way. */
export interface EditOptions {
  /** Another model mixed into the source; it comes before adapters. */
  merge?: MergeOptions | undefined
  /** Adapters that become part of the weights. */
  loras?: readonly BakeOptions[] | undefined
  /** Instead of a model, a LoRA of what the source has beyond another model. */
  extract?: ExtractOptions | undefined
}

export interface EditNeeds {
  /** Opens a model by path or name. */
  open: (name: string) => Promise<ModelFiles>
  /** Finds an adapter by path, or by name beside the model. */
  findAdapter: (name: string, model: string) => Promise<string>
  evaluate: Evaluate
}

/** A model, with what only its single file has. */
export type Whole = { kind: "model"; model: ModelFiles; kept?: Leftovers | undefined }

export const edits = ({ merge, loras = [], extract }: EditOptions): boolean =>
  merge !== undefined || loras.length > 0 || extract !== undefined

/** The source as a model: its networks under the names that edits know. @throws CONVERT_EDIT */
export async function wholeModel(source: ConvertSource): Promise<Whole> {
  if (source.kind === "model") return source
  if (source.kind === "component") notWhole(source.path)
  const { path, tensors, metadata, readSmall } = source
  const ldm = await ldmBeside(path)
  const model = await splitCheckpoint(tensors, {
    path,
    metadata,
    ldm,
    ...(readSmall ? { readSmall } : {}),
  }).catch((error: unknown) =>
    error instanceof AquatintError && error.code.startsWith("CHECKPOINT")
      ? notWhole(path)
      : Promise.reject(error),
  )
  const told = new Map([...metadata].filter(([key]) => !/hash/i.test(key)))
  const plain = { ...model, metadata: told }
  return { kind: "model", model: plain, kept: { tensors: new Map(), metadata: told } }
}

function notWhole(path: string): never {
  fail("CONVERT_EDIT", `${path} is no whole model`, {
    file: path,
    hint: "weights are mixed, and adapters added, in a checkpoint or a diffusers folder",
  })
}

/** The source with other models mixed in and adapters added. */
export async function editedModel(
  { model, kept }: Whole,
  { merge, loras = [] }: EditOptions,
  needs: EditNeeds,
  bench: Workbench,
): Promise<Whole> {
  let made = model
  if (merge) {
    const other = await needs.open(merge.with)
    const third = merge.difference === undefined ? undefined : await needs.open(merge.difference)
    made = mergeModels(made, other, third, merge, bench)
  }
  if (loras.length > 0) {
    const adapters = []
    for (const options of loras) {
      const path = await needs.findAdapter(options.file, model.path)
      if (isPickled(path)) refusePickle(path)
      adapters.push({ file: await openSafetensors(path), options })
    }
    made = bakeAdapters(made, adapters, needs.evaluate, bench)
  }
  const beside = kept?.tensors.size ? [...kept.tensors.values()] : made.ignored
  // averages of the unedited weights would be another model's
  const tensors = new Map(
    beside.flatMap((view) => (view.name.startsWith("model_ema.") ? [] : [[view.name, view] as const])),
  )
  const metadata = kept?.metadata ?? model.metadata
  return {
    kind: "model",
    model: made,
    kept: { tensors: kept?.tensors.size ? kept.tensors : tensors, metadata },
  }
}

function refusePickle(path: string): never {
  fail("CONVERT_PICKLE", `${path} is a pickled file`, {
    file: path,
    hint: "turn it into .safetensors with aquatint convert first",
  })
}

/** A LoRA of the difference between the source and the model named. */
export async function extracted(
  source: ConvertSource,
  options: ExtractOptions,
  needs: EditNeeds,
  bench: Workbench,
): Promise<Plan> {
  if (source.kind !== "model" && isPickled(source.path)) refusePickle(source.path)
  const { model } = await wholeModel(source)
  return planExtract(model, await needs.open(options.from), options, bench)
}

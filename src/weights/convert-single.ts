import { fail } from "../errors.ts"
import { splitCheckpoint } from "./checkpoint.ts"
import { CONFIGS_KEY, keptConfigs } from "./convert-configs.ts"
import { configNotes, ldmFactsOf, yamlOf } from "./convert-facts.ts"
import { textToOpenClip, unetToLdm, unusedLayer, vaeToLdm } from "./convert-ldm.ts"
import { inOrder, type Plan, type PlannedFile, type PlannedTensor, planned } from "./convert-plan.ts"
import type { LdmFacts } from "./ldm-yaml.ts"
import { type Component, type Family, isLeftover, type ModelFiles } from "./model-files.ts"
import { byteLength, type TensorView } from "./view.ts"

/** What a folder kept of the single file it came from: tensors that no network needs, and the file's metadata. */
export interface Leftovers {
  tensors: ReadonlyMap<string, TensorView>
  metadata: ReadonlyMap<string, string>
}

type Turn = (component: Component) => PlannedTensor[]
const asStored: Turn = ({ weights }) => [...weights.values()].map((view) => planned(view))
const openClip: Turn = ({ weights }) => textToOpenClip(weights)
const openClipSd2: Turn = (component) => {
  const tensors = openClip(component)
  return [...tensors, ...unusedLayer(tensors)]
}

/** Where each family's text encoders stand in a single file. */
const TEXT: Record<Family, Record<string, [prefix: string, turn: Turn]>> = {
  sd1: { text_encoder: ["cond_stage_model.transformer.", asStored] },
  sd2: { text_encoder: ["cond_stage_model.model.", openClipSd2] },
  sdxl: {
    text_encoder: ["conditioner.embedders.0.transformer.", asStored],
    text_encoder_2: ["conditioner.embedders.1.model.", openClip],
  },
  "sdxl-refiner": { text_encoder_2: ["conditioner.embedders.0.model.", openClip] },
  unknown: {},
}

/**
 * Plans a single file in LDM keys from a diffusers folder. The plan is read back as a checkpoint: every tensor must
 * return under its name and shape, and what a single file cannot say goes to a `.yaml` beside it or to the notes.
 * Errors: CONVERT_LAYOUT.
 */
export async function planSingleFile(model: ModelFiles, yamlPath: string, kept?: Leftovers): Promise<Plan> {
  const tensors = new Map<string, PlannedTensor>()
  for (const [name, component] of model.components)
    for (const tensor of turned(model, name, component)) tensors.set(tensor.name, tensor)
  for (const [name, view] of kept?.tensors ?? []) {
    const present = tensors.get(name)
    if (present === undefined || present.parts.length === 0) tensors.set(name, planned(view))
  }
  addMarkers(model, tensors)
  const list = inOrder(tensors.values())
  const metadata = metadataOf(model, kept)
  const plain = await readBack(model, list, metadata, undefined)
  const facts = ldmFactsOf(model, plain)
  const said = facts ? await readBack(model, list, metadata, facts) : plain
  checkNames(model, said)
  const files: PlannedFile[] = [{ path: "", tensors: list, metadata }]
  const notes = configNotes(model, said)
  if (facts) {
    files.unshift({ path: yamlPath, text: yamlOf(facts) })
    notes.push(`${yamlPath} says what the tensors do not; keep it beside the file`)
  }
  return { format: "single-file", family: model.family, files, notes }
}

function turned(model: ModelFiles, name: string, component: Component): PlannedTensor[] {
  const text = TEXT[model.family][name]
  const [prefix, turn]: [string, Turn] =
    name === "unet"
      ? ["model.diffusion_model.", (c) => unetToLdm(c.weights)]
      : name === "vae" && component.className === "AutoencoderKL"
        ? ["first_stage_model.", (c) => vaeToLdm(c.weights)]
        : (text ?? noPlace(model, name, component))
  return turn(component).map((tensor) => ({ ...tensor, name: prefix + tensor.name }))
}

function noPlace(model: ModelFiles, name: string, { className }: Component): never {
  fail("CONVERT_LAYOUT", `${model.path}: a single file has no place for ${name}, a ${className}`, {
    file: model.path,
    hint: "convert it to a folder: leave .safetensors off the destination",
  })
}

/** Empty tensors by which SDXL files tell other programs of v prediction and zero terminal SNR. */
function addMarkers(model: ModelFiles, tensors: Map<string, PlannedTensor>): void {
  if (model.family !== "sdxl" || model.prediction !== "v_prediction") return
  const names = ["v_pred", ...(model.scheduler.rescale_betas_zero_snr === true ? ["ztsnr"] : [])]
  for (const name of names)
    if (!tensors.has(name)) tensors.set(name, { name, dtype: "F32", shape: [0], parts: [] })
}

const ARCHITECTURE: Record<Family, string> = {
  sd1: "stable-diffusion-v1",
  sd2: "stable-diffusion-v2",
  sdxl: "stable-diffusion-xl-v1-base",
  "sdxl-refiner": "stable-diffusion-xl-v1-refiner",
  unknown: "unknown",
}

/** The original file's metadata where the folder came from one; else the modelspec of what it is. */
function metadataOf(model: ModelFiles, kept?: Leftovers): Map<string, string> {
  if (kept && !kept.metadata.has(CONFIGS_KEY)) return new Map(kept.metadata)
  return new Map([
    ...(kept?.metadata ?? []),
    ["format", "pt"],
    ["modelspec.sai_model_spec", "1.0.0"],
    ["modelspec.architecture", ARCHITECTURE[model.family]],
    ["modelspec.implementation", "sgm"],
    ["modelspec.prediction_type", model.prediction === "v_prediction" ? "v" : model.prediction],
    [CONFIGS_KEY, keptConfigs(model)],
  ])
}

/** The plan as a reader would find it; every tensor's place stands for its number in the list. */
function readBack(
  model: ModelFiles,
  list: readonly PlannedTensor[],
  metadata: Map<string, string>,
  ldm: LdmFacts | undefined,
): Promise<ModelFiles> {
  const views = new Map<string, TensorView>()
  for (const { name, dtype, shape } of list)
    views.set(name, { name, dtype, shape: [...shape], file: "", offset: 0, length: byteLength(dtype, shape) })
  return splitCheckpoint(views, { path: model.path, metadata, ldm })
}

/** Every tensor of the folder must come back under its own name and shape, and no other. */
function checkNames(model: ModelFiles, said: ModelFiles): void {
  for (const [name, { weights }] of model.components) {
    const found = said.components.get(name)?.weights
    const wrong = [...weights].filter(
      ([key, view]) => !isLeftover(key) && found?.get(key)?.shape.join() !== view.shape.join(),
    )
    const more = [...(found?.keys() ?? [])].filter((key) => !weights.has(key))
    if (wrong.length + more.length > 0)
      fail(
        "CONVERT_LAYOUT",
        `${model.path}: single files have no form for this ${name}: ${[...wrong.map(([key]) => key), ...more].slice(0, 3).join(", ")}`,
        {
          file: model.path,
          hint: "keep the folder; its block structure is beyond LDM's",
          details: { component: name },
        },
      )
  }
}

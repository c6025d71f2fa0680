import { readdir } from "node:fs/promises"
import { basename, dirname } from "node:path"
import { AquatintError, fail } from "../errors.ts"
import { splitCheckpoint, vaeComponent } from "./checkpoint.ts"
import { controlNetComponent } from "./controlnet.ts"
import { componentFiles, planFolder, type TokenizerFiles } from "./convert-folder.ts"
import { unetToLdm, vaeToLdm } from "./convert-ldm.ts"
import { inOrder, type Plan, type PlannedTensor, planned } from "./convert-plan.ts"
import type { ConvertSource } from "./convert-source.ts"
import { describe } from "./describe.ts"
import { kindName, kindOf } from "./kinds.ts"
import type { Component } from "./model-files.ts"
import { modernVaeKeys } from "./old-keys.ts"
import { ldmBeside } from "./single-file.ts"
import { Weights } from "./view.ts"

type Tensors = Extract<ConvertSource, { kind: "tensors" }>
const FORMAT = new Map([["format", "pt"]])

/** Plans a safetensors file of the same tensors under the same names, with the `.yaml` that belongs to it. */
export async function planTensors(source: Tensors, yamlPath: string): Promise<Plan> {
  const { path, tensors, metadata } = source
  const checkpoint = isCheckpoint(tensors)
  const files: Plan["files"] = [
    { path: "", tensors: inOrder([...tensors.values()].map((view) => planned(view))), metadata },
  ]
  const stem = basename(path).replace(/\.[^.]+$/, "")
  const beside = checkpoint ? await readdir(dirname(path)) : []
  const yaml = [".yaml", ".yml"].map((extension) => stem + extension).find((name) => beside.includes(name))
  if (yaml !== undefined)
    files.unshift({ path: yamlPath, copyOf: `${path.slice(0, path.length - basename(path).length)}${yaml}` })
  return { format: checkpoint ? "single-file" : "tensors", family: await familyOf(source), files, notes: [] }
}

const isCheckpoint = (tensors: Weights) =>
  tensors.has("input_blocks.0.0.weight") ||
  [...tensors.keys()].some((key) => key.startsWith("model.diffusion_model."))

async function familyOf({ tensors, metadata, path }: Tensors): Promise<string> {
  if (!isCheckpoint(tensors)) return describe(tensors, metadata)?.family ?? "unknown"
  try {
    return (await splitCheckpoint(tensors, { path, metadata })).family
  } catch (error) {
    if (error instanceof AquatintError) return "unknown"
    throw error
  }
}

/**
 * Plans a folder from a file: a whole model's, or the one component that a VAE, ControlNet or U-Net file holds.
 * Errors: CONVERT_NO_FOLDER and those of the readers.
 */
export async function planFolderOf(source: Tensors, tokenizerFiles: TokenizerFiles): Promise<Plan> {
  const { path, tensors, metadata, readSmall } = source
  if (!isCheckpoint(tensors)) return planPart(source)
  const ldm = await ldmBeside(path)
  const model = await splitCheckpoint(tensors, { path, metadata, ldm, ...(readSmall ? { readSmall } : {}) })
  if (model.components.size > 1) return planFolder(model, tokenizerFiles)
  return component(model.components.get("unet")!, model.family)
}

function component(part: Component, family: string): Plan {
  return { format: "component", family, files: componentFiles("", part), notes: [] }
}

function planPart({ path, tensors, metadata }: Tensors): Plan {
  const kind = kindOf(tensors)
  const family = describe(tensors, metadata)?.family ?? "unknown"
  if (kind === "controlnet") return component(controlNetComponent(cut(tensors, "control_model.")), family)
  if (kind === "vae" && ![...tensors.keys()].some((key) => /coder\.(layers\.)?\d+\./.test(key))) {
    const bare = cut(cut(tensors, "first_stage_model."), "vae.")
    return component(vaeComponent(modernVaeKeys(bare), "sd1", 512), family)
  }
  return fail("CONVERT_NO_FOLDER", `${path} has no form as a folder`, {
    file: path,
    hint: `${kind === undefined ? "" : `it looks like ${kindName(kind)}; `}name a destination that ends in .safetensors`,
  })
}

function cut(tensors: Weights, prefix: string): Weights {
  if (![...tensors.keys()].some((key) => key.startsWith(prefix))) return tensors
  const out = new Weights()
  for (const [key, view] of tensors) if (key.startsWith(prefix)) out.set(key.slice(prefix.length), view)
  return out
}

/** Plans one file of a component's folder: LDM keys for networks that have them. */
export function planComponentFile({ className, weights }: Component): Plan {
  const stored = (): PlannedTensor[] => [...weights.values()].map((view) => planned(view))
  const list: Record<string, () => PlannedTensor[]> = {
    UNet2DConditionModel: () => unetToLdm(weights),
    ControlNetModel: () => unetToLdm(weights).map((t) => ({ ...t, name: `control_model.${t.name}` })),
    AutoencoderKL: () => vaeToLdm(weights),
  }
  const tensors = inOrder((Object.hasOwn(list, className) ? list[className]! : stored)())
  const family = describe(weights)?.family ?? "unknown"
  return { format: "tensors", family, files: [{ path: "", tensors, metadata: FORMAT }], notes: [] }
}

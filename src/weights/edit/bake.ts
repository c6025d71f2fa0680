import { parameter, type Tensor } from "../../graph/index.ts"
import { type AdapterModule, matchAdapter } from "../adapters/adapter.ts"
import { delta } from "../adapters/delta.ts"
import { adapterTarget } from "../adapters/targets.ts"
import type { ModelFiles } from "../model-files.ts"
import type { SafetensorsHeader } from "../safetensors.ts"
import type { TensorView } from "../view.ts"
import { edited, floatsOf, inPlaceOf, type Workbench } from "./edits.ts"

/** An adapter that becomes part of a model's weights. */
export interface BakeOptions {
  /** Its file. */
  file: string
  /** Default 1. */
  weight?: number | undefined
  /** Of the text encoders and of the U-Net; default: `weight`. */
  text?: number | undefined
  unet?: number | undefined
}

/** Computes a tensor from the numbers of its parameters. */
export type Evaluate = (
  result: Tensor,
  numbers: ReadonlyMap<string, { data: Float32Array; shape: readonly number[] }>,
) => Promise<Float32Array>

const SCOPES = ["unet", "text_encoder", "text_encoder_2"] as const

/**
 * Adds adapters to a model's weights for good. Weights are computed in single precision and rounded once to the type they
 * are stored in. Adapters of every kind and dialect that `generate` reads. @throws ADAPTER_*
 */
export function bakeAdapters(
  model: ModelFiles,
  adapters: readonly { file: SafetensorsHeader; options: BakeOptions }[],
  evaluate: Evaluate,
  bench: Workbench,
): ModelFiles {
  const targets = SCOPES.flatMap((scope) => {
    const weights = model.components.get(scope)?.weights
    return weights
      ? [adapterTarget(scope, new Map([...weights].map(([key, { shape }]) => [key, shape])))]
      : []
  })
  const changes = new Map<string, { module: AdapterModule; strength: number }[]>()
  adapters.forEach(({ file, options }, i) => {
    const { file: path, weight = 1, text = weight, unet = weight } = options
    const { modules, unmatched } = matchAdapter(file, targets, { name: path, path, id: `adapter${i}` })
    for (const module of modules) {
      const strength = module.scope === "unet" ? unet : text
      const key = `${module.scope} ${module.weight}`
      if (strength !== 0) changes.set(key, [...(changes.get(key) ?? []), { module, strength }])
    }
    const left = unmatched.length === 0 ? "" : `, ${unmatched.length} keys without a place`
    bench.notes.push(`${path}: ${modules.length} weights changed${left}`)
  })
  return edited(model, bench, (view, key, component) => {
    const list = changes.get(`${component} ${key}`)
    return list ? inPlaceOf(bench, view, () => baked(view, list, evaluate, bench)) : view
  })
}

async function baked(
  view: TensorView,
  list: readonly { module: AdapterModule; strength: number }[],
  evaluate: Evaluate,
  { pool }: Workbench,
): Promise<Float32Array> {
  const { shape } = view
  const weight = parameter("weight", shape)
  const result = list.reduce((sum, { module, strength }) => sum.add(delta(module, weight, strength)), weight)
  const numbers = new Map([["weight", { data: await floatsOf(view, pool), shape }]])
  for (const { module } of list)
    for (const [part, stored] of module.parts)
      numbers.set(module.nameOf(part), { data: await floatsOf(stored, pool), shape: stored.shape })
  return evaluate(result, numbers)
}

import { AquatintError } from "../errors.ts"
import { kindName, kindOf } from "./kinds.ts"
import { isLeftover } from "./model-files.ts"
import { showShape, showView, type TensorView, type WeightMap } from "./view.ts"

/** What a strict fit is told besides the two sides. */
export interface FitOptions {
  /** The model's part, for the message: `sd15.unet`. */
  model: string
  /** What the weights come from, for the message; the first view's file otherwise. */
  file?: string
  /** Keys that may be left over; training leftovers always may. */
  allow?: (name: string) => boolean
}

/** Every way in which weights do not fit, as data. */
export interface Misfit {
  missing: string[]
  unexpected: string[]
  misshapen: { name: string; file: string; found: number[]; expected: number[] }[]
}

const SHOWN = 8

/**
 * Strict fit from headers alone: every expected parameter is there with its shape, and nothing else is.
 * Returns the views in the order of `expected`. All misfits come in one WEIGHTS_DO_NOT_FIT with a hint
 * at what the file may be; its details hold the complete lists.
 */
export function fitWeights(
  expected: ReadonlyMap<string, readonly number[]>,
  weights: WeightMap,
  options: FitOptions,
): Map<string, TensorView> {
  const out = new Map<string, TensorView>()
  const misfit: Misfit = { missing: [], unexpected: [], misshapen: [] }
  for (const [name, shape] of expected) {
    const view = weights.get(name)
    if (view === undefined) misfit.missing.push(name)
    else if (!equal(view.shape, shape))
      misfit.misshapen.push({ name, file: showView(view), found: view.shape, expected: [...shape] })
    else out.set(name, view)
  }
  for (const name of weights.names())
    if (!expected.has(name) && !isLeftover(name) && !options.allow?.(name)) misfit.unexpected.push(name)
  if (misfit.missing.length + misfit.unexpected.length + misfit.misshapen.length > 0)
    throw misfitError(misfit, expected, weights, options)
  return out
}

const equal = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((n, i) => n === b[i])

function misfitError(
  misfit: Misfit,
  expected: ReadonlyMap<string, readonly number[]>,
  weights: WeightMap,
  options: FitOptions,
): AquatintError {
  const { missing, unexpected, misshapen } = misfit
  const file = options.file ?? firstFile(weights) ?? "the file"
  const lines = [
    `✖ ${file} does not fit ${options.model}: ${misshapen.length} wrong shape, ${missing.length} missing, ${unexpected.length} unexpected`,
    ...list(misshapen, (m) => `${m.name}   file ${m.file}   model ${showShape(m.expected)}`),
    ...list(missing, (name) => `${name}   missing, model ${showShape(expected.get(name)!)}`),
    ...list(unexpected, (name) => `${name}   unexpected, file ${showView(weights.get(name)!)}`),
  ]
  const hint = fitHint(misfit, weights)
  return new AquatintError("WEIGHTS_DO_NOT_FIT", lines.join("\n"), { file, hint, details: { ...misfit } })
}

function list<T>(items: readonly T[], show: (item: T) => string): string[] {
  const lines = items.slice(0, SHOWN).map((item) => `  → ${show(item)}`)
  return items.length > SHOWN ? [...lines, `  → and ${items.length - SHOWN} more of these`] : lines
}

function firstFile(weights: WeightMap): string | undefined {
  for (const name of weights.names()) return weights.get(name)?.file
  return undefined
}

const CONTEXT: Record<number, string> = {
  768: "an SD 1.x",
  1024: "an SD 2.x",
  2048: "an SDXL",
  1280: "an SDXL refiner",
}
const INPUTS: Record<number, string> = {
  4: "a text-to-image",
  8: "an instruct (pix2pix)",
  9: "an inpainting",
}

/** A guess at what the file is, from the first sign that tells something. */
export function fitHint({ misshapen, missing, unexpected }: Misfit, weights: WeightMap): string {
  const wrong = (pattern: RegExp) => misshapen.find(({ name }) => pattern.test(name))
  const context = wrong(/attn2\.to_k\.weight$/)
  const known = CONTEXT[context?.found[1] ?? 0]
  if (known !== undefined) return `it looks like ${known} file: name its family's model or config`
  const projection = wrong(/attentions\.\d+\.proj_in\.weight$/)
  if (projection)
    return projection.found.length === 2
      ? "it looks like an SD 2.x or SDXL file: its projections are linear"
      : "it looks like an SD 1.x file: its projections are convolutions"
  const inputs = INPUTS[wrong(/^conv_in\.weight$/)?.found[1] ?? 0]
  if (inputs !== undefined) return `it looks like ${inputs} model: its U-Net takes other inputs`
  if (missing.length > 0 && unexpected.length > 0) {
    const tensors = new Map([...weights.names()].map((name) => [name, weights.get(name)!]))
    const kind = kindOf(tensors)
    if (kind !== undefined) return `it looks like ${kindName(kind)}`
  }
  if (unexpected.length === 0 && missing.length > 0)
    return "the file is incomplete, or its config.json describes a larger model"
  return "its config.json does not describe these weights; fetch both again"
}

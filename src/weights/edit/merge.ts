import { fail } from "../../errors.ts"
import { unetToLdm } from "../convert-ldm.ts"
import type { ModelFiles } from "../model-files.ts"
import { showShape, type TensorView, type Weights } from "../view.ts"
import { edited, floatsOf, inPlaceOf, isFloat, type Workbench } from "./edits.ts"

/** How another model is mixed into the source, A. */
export interface MergeOptions {
  /** The other model, B: file, folder or name. */
  with: string
  /** Share of B, default 0.5; may lie outside 0..1. With `blocks` it is that of text encoders and VAE. */
  weight?: number | undefined
  /** A third model, C: then the result is A + weight (B - C) instead of (1 - weight) A + weight B. */
  difference?: string | undefined
  /**
   * One weight per block of the U-Net, as "merge block weighted" counts them: 12 on the way in, 1 in the middle, 12 on
   * the way out; 9, 1 and 9 for SDXL. Time embedding goes with the first, the output layer with the last.
   */
  blocks?: readonly number[] | undefined
}

const f = Math.fround
const shown = 4

/**
 * Mixes models tensor by tensor, as A1111's checkpoint merger does, in single precision. Tensors that B (or C) lacks stay
 * A's. A may have more input channels than B (an inpainting or instruct model): the common ones are mixed.
 * @throws CONVERT_MERGE
 */
export function mergeModels(
  a: ModelFiles,
  b: ModelFiles,
  c: ModelFiles | undefined,
  options: MergeOptions,
  bench: Workbench,
): ModelFiles {
  for (const other of c ? [b, c] : [b]) sameFamily(a, other)
  const weightOf = weights(a, options)
  const kept: string[] = []
  const merged = edited(a, bench, (view, key, component) => {
    const others = [b, c].map((m) => m?.components.get(component)?.weights.get(key))
    const [left, right] = others
    if (!isFloat(view)) return view
    if (!left || (c && !right)) {
      kept.push(`${component}.${key}`)
      return view
    }
    const weight = weightOf(component, key)
    if (weight === 0) return view
    for (const other of right ? [left, right] : [left]) sameShape(view, other, component)
    return inPlaceOf(bench, view, async () => {
      const out = await floatsOf(view, bench.pool)
      const mix = await floatsOf(left, bench.pool)
      const base = right ? await floatsOf(right, bench.pool) : undefined
      mixInto(out, mix, base, weight, [view.shape, left.shape])
      return out
    })
  })
  if (kept.length > 0)
    bench.notes.push(
      `${kept.length} tensors stay as they are, the other model has none (${kept.slice(0, shown).join(", ")}${kept.length > shown ? ", ..." : ""})`,
    )
  return merged
}

function sameFamily(a: ModelFiles, b: ModelFiles): void {
  if (a.family !== b.family)
    fail("CONVERT_MERGE", `${a.path} is a model of ${a.family}, ${b.path} one of ${b.family}`, {
      file: b.path,
      hint: "only models of one family can be mixed",
    })
}

/** Equal shapes, or a first convolution of B that reads the first of A's channels. */
function sameShape(a: TensorView, b: TensorView, component: string): void {
  if (a.shape.join() === b.shape.join()) return
  const narrower = component === "unet" && a.shape.length === 4 && b.shape[1]! < a.shape[1]!
  if (narrower && [0, 2, 3].every((axis) => a.shape[axis] === b.shape[axis])) return
  fail(
    "CONVERT_MERGE",
    `${component}: ${a.name} is ${showShape(a.shape)} in one model and ${showShape(b.shape)} in the other`,
    {
      file: b.file,
      hint: "an inpainting or instruct model must be the source, the ordinary one the model it is mixed with",
    },
  )
}

/** Writes the mixture over A's numbers; B may have fewer input channels. */
function mixInto(
  a: Float32Array,
  b: Float32Array,
  c: Float32Array | undefined,
  weight: number,
  [wide, narrow]: readonly (readonly number[])[],
): void {
  const [whole, part] = [wide!, narrow!].map((shape) => shape.slice(1).reduce((x, y) => x * y, 1)) as [
    number,
    number,
  ]
  const [keep, take] = [f(1 - weight), f(weight)]
  for (let row = 0; row * part < b.length; row++)
    for (let i = 0; i < part; i++) {
      const [at, from] = [row * whole + i, row * part + i]
      a[at] = c ? f(a[at]! + f(take * f(b[from]! - c[from]!))) : f(f(keep * a[at]!) + f(take * b[from]!))
    }
}

/** The weight of each tensor. @throws CONVERT_MERGE for another number of blocks */
function weights(
  { components, path }: ModelFiles,
  { weight = 0.5, blocks }: MergeOptions,
): (component: string, key: string) => number {
  for (const n of [weight, ...(blocks ?? [])])
    if (!(Number.isFinite(n) && Math.abs(n) <= 10))
      fail("CONVERT_MERGE", `${n} is no weight to mix by`, {
        hint: "use a number from -10 to 10, mostly from 0 to 1",
      })
  const unet = components.get("unet")
  if (!blocks || !unet) return () => weight
  const places = blockNumbers(unet.weights)
  if (blocks.length !== places.count)
    fail("CONVERT_MERGE", `${blocks.length} block weights for a U-Net of ${places.count} blocks`, {
      file: path,
      hint: `give ${places.count} numbers: ${places.inputs} on the way in, 1 in the middle, ${places.outputs} on the way out`,
    })
  return (component, key) => {
    const place = component === "unet" ? places.of.get(key) : undefined
    return place === undefined ? weight : blocks[place]!
  }
}

/** Each tensor's block in LDM's numbering, counted through from the first input block. */
function blockNumbers(unet: Weights) {
  const keys = [...unet.keys()]
  const names = unetToLdm(unet).map(({ name }) => name)
  const count = (kind: string) =>
    1 + Math.max(-1, ...names.map((name) => Number(new RegExp(`^${kind}\\.(\\d+)\\.`).exec(name)?.[1] ?? -1)))
  const [inputs, outputs] = [count("input_blocks"), count("output_blocks")]
  const of = new Map<string, number>()
  names.forEach((name, i) => {
    const [, kind, n] = /^(input_blocks|middle_block|output_blocks|time_embed|out)\.(\d+)/.exec(name) ?? []
    const place = {
      input_blocks: Number(n),
      middle_block: inputs,
      output_blocks: inputs + 1 + Number(n),
      time_embed: 0,
      out: inputs + outputs,
    }[kind ?? ""]
    if (place !== undefined) of.set(keys[i]!, place)
  })
  return { inputs, outputs, count: inputs + 1 + outputs, of }
}

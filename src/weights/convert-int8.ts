import { fail } from "../errors.ts"
import { castType } from "./convert-cast.ts"
import { inOrder, type Plan, type PlannedTensor } from "./convert-plan.ts"
import { floatsOf, type Workbench } from "./edit/edits.ts"
import { INT8_NOTE, INT8_TEXT, scaleName, scalesOf, suitsInt8, toCodes } from "./int8.ts"
import { elements } from "./view.ts"

type File = Extract<Plan["files"][number], { tensors: unknown }>

/**
 * A plan whose tensors of codes have their scales beside them, or become numbers where a type of numbers is asked for.
 * @param dtype the type asked for; `int8` makes codes of a U-Net's wide layers
 * @throws CONVERT_DTYPE where there is nothing to make codes of
 */
export function withCodes(plan: Plan, dtype: string | undefined, bench: Workbench): Plan {
  const files = plan.files.map((file) => ("tensors" in file ? coded(file, dtype, bench) : file))
  const made = files.some((file) => "tensors" in file && file.metadata.has(INT8_NOTE))
  if (dtype === "int8" && !made)
    fail("CONVERT_DTYPE", "there is no U-Net whose layers are worth eight-bit codes", {
      hint: "name a model of Stable Diffusion, or --dtype fp16",
    })
  return { ...plan, files }
}

function coded(file: File, dtype: string | undefined, bench: Workbench): File {
  const unet = dtype === "int8" && !file.tensors.some(({ name }) => /^(control_model|controlnet_)/.test(name))
  const tensors = file.tensors.flatMap((tensor): PlannedTensor[] => {
    const codes = tensor.parts.length > 0 && tensor.parts.every(({ scale }) => scale)
    if (codes && (dtype === undefined || dtype === "int8")) return [tensor, scalesBeside(tensor)]
    if (codes) return [{ ...tensor, dtype: "F32" }]
    if (unet && isUnets(file.path, tensor.name) && suitsInt8(tensor.name, tensor.shape))
      return madeCodes(tensor, bench)
    return [tensor]
  })
  const metadata = new Map([...file.metadata].filter(([key]) => key !== INT8_NOTE))
  if (tensors.some(({ dtype, exact }) => dtype === "I8" || exact)) metadata.set(INT8_NOTE, INT8_TEXT)
  const half = dtype === "int8" ? "F16" : undefined
  // files of codes have one order, whatever type their other tensors come from
  const final = tensors.map((t) => (t.exact ? t : { ...t, dtype: castType(t.dtype, half) }))
  return { ...file, tensors: metadata.has(INT8_NOTE) ? inOrder(final) : tensors, metadata }
}

const isUnets = (path: string, name: string): boolean =>
  path.startsWith("unet/") ||
  name.startsWith("model.diffusion_model.") ||
  /^(input_blocks|middle_block|output_blocks|down_blocks|mid_block|up_blocks)\./.test(name)

const scalesBeside = ({ name, shape, parts }: PlannedTensor): PlannedTensor => ({
  name: scaleName(name),
  dtype: "F32",
  shape: [shape[0]!],
  parts: parts.map(({ scale }) => scale!),
  exact: true,
})

/** Codes and scales that are made while they are written. */
function madeCodes(tensor: PlannedTensor, { computed, pool }: Workbench): PlannedTensor[] {
  const { name, shape, parts } = tensor
  const values = async () => {
    const all = new Float32Array(elements(shape))
    let at = 0
    for (const part of parts) {
      const some = await floatsOf(part, pool)
      all.set(some, at)
      at += some.length
    }
    return all
  }
  const rows = shape[0]!
  const codes = computed.add({ name, dtype: "I8", shape: [...shape] }, async () => {
    const numbers = await values()
    return toCodes(numbers, scalesOf(numbers, rows))
  })
  const scale = computed.add({ name: scaleName(name), dtype: "F32", shape: [rows] }, async () =>
    scalesOf(await values(), rows),
  )
  return [
    { name, dtype: "I8", shape, parts: [codes], exact: true },
    { name: scaleName(name), dtype: "F32", shape: [rows], parts: [scale], exact: true },
  ]
}

import { fail } from "../../errors.ts"
import type { FilePool } from "../convert-bytes.ts"
import { tensorBytes } from "../convert-bytes.ts"
import { unetToLdm } from "../convert-ldm.ts"
import { inOrder, type Plan, type PlannedTensor, planned } from "../convert-plan.ts"
import type { Family, ModelFiles } from "../model-files.ts"
import { showShape, type TensorView } from "../view.ts"
import { floatsOf, isFloat, type Workbench } from "./edits.ts"
import { truncatedSvd } from "./svd.ts"

/** How a LoRA is made of the difference of two models. */
export interface ExtractOptions {
  /** The model that the source was tuned from: file, folder or name. */
  from: string
  /** Rank of linear layers and 1x1 convolutions, default 16. */
  rank?: number | undefined
  /** Rank of larger convolutions; default: they are left out, as kohya's LoRA does. */
  convRank?: number | undefined
}

/** A weight of both models that a LoRA can change. */
interface Pair {
  module: string
  tuned: TensorView
  base: TensorView
  rank: number
}

const PREFIX: Record<string, (family: Family) => string> = {
  unet: () => "lora_unet_",
  text_encoder: (family) => (family === "sdxl" ? "lora_te1_" : "lora_te_"),
  text_encoder_2: () => "lora_te2_",
}
/** Of the text encoders, programs that read LoRAs know attention and feed-forward. */
const TEXT = /\.(?:self_attn|mlp)\./
const BASES: Partial<Record<Family, string>> = {
  sd1: "sd_v1",
  sd2: "sd_v2",
  sdxl: "sdxl_base_v1-0",
}

/**
 * Plans a LoRA under kohya's keys (SGM's block numbers for SDXL) whose product is the best approximation of its rank to
 * the difference of two models, each singular value shared evenly by its two factors. @throws CONVERT_EXTRACT
 */
export async function planExtract(
  tuned: ModelFiles,
  base: ModelFiles,
  options: ExtractOptions,
  bench: Workbench,
): Promise<Plan> {
  const { rank = 16, convRank } = options
  for (const n of convRank === undefined ? [rank] : [rank, convRank])
    if (!(Number.isInteger(n) && n >= 1 && n <= 1024))
      fail("CONVERT_EXTRACT", `${n} is no rank`, {
        hint: "use a whole number from 1 to 1024, mostly 4 to 128",
      })
  if (tuned.family !== base.family)
    fail(
      "CONVERT_EXTRACT",
      `${tuned.path} is a model of ${tuned.family}, ${base.path} one of ${base.family}`,
      {
        file: base.path,
        hint: "name the model it was tuned from",
      },
    )
  const { pairs, others } = await differing(tuned, base, { rank, convRank }, bench.pool)
  if (pairs.length === 0)
    fail("CONVERT_EXTRACT", `${tuned.path} and ${base.path} differ in nothing that a LoRA can hold`, {
      file: tuned.path,
      hint: others > 0 ? "try --conv-rank: convolutions or norms differ" : "these are the same weights",
    })
  if (others > 0) bench.notes.push(`${others} tensors that this LoRA has no place for differ too`)
  const tensors = inOrder(pairs.flatMap((pair) => factors(pair, bench)))
  const ranks =
    convRank === undefined
      ? {}
      : { ss_network_args: JSON.stringify({ conv_dim: convRank, conv_alpha: convRank }) }
  const metadata = new Map(
    Object.entries({
      format: "pt",
      ss_network_module: "networks.lora",
      ss_network_dim: String(rank),
      ss_network_alpha: String(rank),
      ...ranks,
      ...(BASES[tuned.family] ? { ss_base_model_version: BASES[tuned.family]! } : {}),
    }),
  )
  return { format: "tensors", family: tuned.family, files: [{ path: "", tensors, metadata }], notes: [] }
}

async function differing(
  tuned: ModelFiles,
  base: ModelFiles,
  { rank, convRank }: { rank: number; convRank: number | undefined },
  pool: FilePool,
): Promise<{ pairs: Pair[]; others: number }> {
  const pairs: Pair[] = []
  let others = 0
  for (const [name, component] of tuned.components) {
    const prefix = PREFIX[name]?.(tuned.family)
    const ldm =
      name === "unet" && tuned.family === "sdxl" ? unetToLdm(component.weights).map((t) => t.name) : undefined
    let i = -1
    for (const [key, view] of component.weights) {
      i++
      const other = base.components.get(name)?.weights.get(key)
      if (!other || !isFloat(view) || !isFloat(other) || !(await differ(view, other, pool))) continue
      if (view.shape.join() !== other.shape.join())
        fail("CONVERT_EXTRACT", `${name}: ${key} is ${showShape(view.shape)} and ${showShape(other.shape)}`, {
          file: base.path,
          hint: "name the model it was tuned from",
        })
      const large = view.shape.slice(2).some((n) => n > 1)
      const fits =
        prefix !== undefined &&
        view.shape.length > 1 &&
        (name === "unet" || TEXT.test(key)) &&
        key.endsWith(".weight")
      const most = large ? convRank : rank
      if (!fits || most === undefined) others++
      else {
        const module = prefix + (ldm?.[i] ?? key).replace(/\.weight$/, "").replaceAll(".", "_")
        pairs.push({ module, tuned: view, base: other, rank: most })
      }
    }
  }
  return { pairs, others }
}

/** Whether any number differs: bytes where types agree, numbers otherwise. */
async function differ(a: TensorView, b: TensorView, pool: FilePool): Promise<boolean> {
  if (a.shape.join() !== b.shape.join()) return true
  if (a.dtype === b.dtype && !a.transposed && !b.transposed) {
    const theirs = tensorBytes(b, { pool })
    for await (const piece of tensorBytes(a, { pool })) {
      const { value } = await theirs.next()
      if (!value || Buffer.compare(piece, value) !== 0) return true
    }
    return false
  }
  const [x, y] = [await floatsOf(a, pool), await floatsOf(b, pool)]
  return x.some((v, i) => v !== y[i])
}

/** `alpha`, `lora_down` and `lora_up` of one module; the decomposition is made when the first of them is written. */
function factors({ module, tuned, base, rank }: Pair, { computed, pool }: Workbench): PlannedTensor[] {
  const [out, ...rest] = tuned.shape as [number, ...number[]]
  const inner = rest.reduce((a, b) => a * b, 1)
  let made: Promise<{ down: Float32Array; up: Float32Array }> | undefined
  const make = () => (made ??= decompose(tuned, base, { out, inner, rank }, pool))
  const add = (part: string, shape: number[], values: () => Promise<Float32Array>) =>
    planned(computed.add({ name: `${module}.${part}`, dtype: "F32", shape }, values))
  return [
    add("alpha", [], async () => Float32Array.of(rank)),
    add("lora_down.weight", [rank, ...rest], async () => (await make()).down),
    add("lora_up.weight", [out, rank, ...rest.slice(1).map(() => 1)], async () => {
      const { up } = await make()
      made = undefined
      return up
    }),
  ]
}

async function decompose(
  tuned: TensorView,
  base: TensorView,
  { out, inner, rank }: { out: number; inner: number; rank: number },
  pool: FilePool,
): Promise<{ down: Float32Array; up: Float32Array }> {
  const difference = await floatsOf(tuned, pool)
  const from = await floatsOf(base, pool)
  for (let i = 0; i < difference.length; i++) difference[i]! -= from[i]!
  const { values, left, right, rank: found } = truncatedSvd(difference, out, inner, rank)
  // small matrices have fewer; zeros fill up, since diffusers wants one alpha and one rank throughout
  const down = new Float32Array(rank * inner)
  const up = new Float32Array(out * rank)
  for (let r = 0; r < found; r++) {
    const root = Math.sqrt(values[r]!)
    for (let i = 0; i < inner; i++) down[r * inner + i] = root * right[r * inner + i]!
    for (let o = 0; o < out; o++) up[o * rank + r] = root * left[r * out + o]!
  }
  return { down, up }
}

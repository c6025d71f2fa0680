import { fail } from "../../errors.ts"
import { inOrder, type Plan, type PlannedTensor, planned } from "../convert-plan.ts"
import { COMPUTED_DTYPES, type Computed } from "../edit/computed.ts"
import { elements, type TensorView } from "../view.ts"
import { type AdapterKey, type Part, readKey, type Scope } from "./keys.ts"
import { dotted, fromSgm, toSgm } from "./module-names.ts"

/** Key dialects that a LoRA can be written in. */
export const adapterDialects = ["kohya", "diffusers"] as const
export type AdapterDialect = (typeof adapterDialects)[number]

/** A LoRA's file, and a way to read its alphas. */
export interface AdapterSource {
  readonly path: string
  readonly tensors: ReadonlyMap<string, TensorView>
  readonly metadata: ReadonlyMap<string, string>
  readSmall?(view: TensorView): Promise<Float32Array>
}

/** One module of a LoRA, under diffusers' path. */
interface Module {
  readonly scope: Exclude<Scope, "any">
  readonly path: string
  readonly parts: ReadonlyMap<Part, TensorView>
  readonly rank: number
  readonly alpha: number | undefined
}

const NOTES = "lora_adapter_metadata"
/** Where alphas had a type of their own: kohya's keys hold them as tensors, diffusers' notes as numbers. */
const ALPHAS = "aquatint.alpha_dtype"

/**
 * Plans a LoRA under the keys of another dialect: kohya's (SGM's block numbers for SDXL), or those that diffusers' and
 * PEFT's own files have, with alphas in the notes. Factors are copied bit for bit.
 * @throws CONVERT_KEYS for what is no LoRA, and for kinds that the dialect has no keys for
 */
export async function planDialect(
  source: AdapterSource,
  to: AdapterDialect,
  computed: Computed,
): Promise<Plan> {
  const modules = await modulesOf(source)
  const sdxl = modules.some(
    ({ scope, path }) => scope === "text_encoder_2" || /transformer_blocks\.[1-9]/.test(path),
  )
  const { tensors, metadata } =
    to === "kohya" ? asKohya(modules, sdxl, source, computed) : asDiffusers(modules, source)
  const family = sdxl ? "sdxl" : "unknown"
  return {
    format: "tensors",
    family,
    files: [{ path: "", tensors: inOrder(tensors), metadata }],
    notes: [],
  }
}

function refuse(path: string, what: string, hint: string): never {
  return fail("CONVERT_KEYS", `${path}: ${what}`, { file: path, hint })
}

async function modulesOf(source: AdapterSource): Promise<Module[]> {
  const { path, tensors, readSmall } = source
  const groups = new Map<string, { key: AdapterKey; name: string; parts: Map<Part, TensorView> }>()
  for (const [name, view] of tensors) {
    const key = readKey(name)
    if (!key) return refuse(path, `${name} is no key of a LoRA`, "only LoRAs have other dialects")
    const id = `${key.scope} ${key.module}`
    const group = groups.get(id) ?? { key, name, parts: new Map<Part, TensorView>() }
    group.parts.set(key.part, view)
    groups.set(id, group)
  }
  const noted = notedAlphas(source.metadata)
  const modules: Module[] = []
  for (const { key, name, parts } of groups.values()) {
    const [down, alpha] = [parts.get("down"), parts.get("alpha")]
    const strange = [...parts.keys()].find((part) => !plainParts.has(part))
    if (strange || !down || !parts.has("up"))
      refuse(
        path,
        `${name} is ${strange ? `of a kind (${strange})` : "incomplete or of a kind"} that only LyCORIS has keys for`,
        "such adapters work as they are: --lora, or convert MODEL --lora",
      )
    const scope =
      key.scope === "any" ? (/encoder_layers/.test(key.module) ? "text_encoder" : "unet") : key.scope
    const module =
      pathOf(scope, key.module) ??
      refuse(
        path,
        `${name} names no module of Stable Diffusion`,
        "only LoRAs of Stable Diffusion are renamed",
      )
    const rank = down.shape[0]!
    if (alpha && !readSmall)
      refuse(path, "its alphas cannot be read", "turn it into .safetensors first, then rename its keys")
    const value = alpha ? (await readSmall!(alpha))[0] : noted(scope, module)
    modules.push({ scope, path: module, parts, rank, alpha: value })
  }
  return modules
}

const plainParts: ReadonlySet<Part> = new Set<Part>(["up", "down", "alpha", "dora_scale", "magnitude"])

function pathOf(scope: Module["scope"], flat: string): string | undefined {
  const found = (scope === "unet" ? fromSgm(flat) : undefined) ?? dotted(flat)
  if (found === undefined || scope === "unet") return found
  return /^(text_model|text_projection)/.test(found) ? found : `text_model.${found}`
}

/** Alphas of diffusers' notes by network and module. */
function notedAlphas(metadata: ReadonlyMap<string, string>) {
  let notes: Record<string, unknown> = {}
  try {
    notes = JSON.parse(metadata.get(NOTES) ?? "{}") as Record<string, unknown>
  } catch {
    // notes that are no JSON say nothing
  }
  return (scope: string, module: string): number | undefined => {
    const patterns = notes[`${scope}.alpha_pattern`] as Record<string, unknown> | undefined
    const special = Object.entries(patterns ?? {}).find(
      ([key]) => module === key || module.endsWith(`.${key}`),
    )
    const value = special?.[1] ?? notes[`${scope}.lora_alpha`]
    return typeof value === "number" ? value : undefined
  }
}

/** Alphas are tensors; of modules that have none alpha is the rank. */
function asKohya(
  modules: readonly Module[],
  sdxl: boolean,
  { path, metadata }: AdapterSource,
  computed: Computed,
) {
  const prefix = {
    unet: "lora_unet_",
    text_encoder: sdxl ? "lora_te1_" : "lora_te_",
    text_encoder_2: "lora_te2_",
  }
  const type = COMPUTED_DTYPES.find((dtype) => dtype === metadata.get(ALPHAS))
  const tensors = modules.flatMap(({ scope, path: module, parts, rank, alpha }): PlannedTensor[] => {
    const sgm = scope === "unet" && sdxl ? toSgm(module) : undefined
    const name = `${prefix[scope]}${(sgm ?? module).replaceAll(".", "_")}`
    const [up, down] = [parts.get("up")!, parts.get("down")!]
    const dtype = parts.get("alpha")?.dtype ?? type ?? down.dtype
    if (!COMPUTED_DTYPES.includes(dtype))
      refuse(path, `${name} is stored as ${dtype}`, "name another type with --dtype first")
    const stored = parts.get("alpha")
    const made =
      stored ?? computed.add({ name, dtype, shape: [] }, async () => Float32Array.of(alpha ?? rank))
    return [
      planned(up, `${name}.lora_up.weight`),
      planned(down, `${name}.lora_down.weight`),
      planned(made, `${name}.alpha`),
      ...lengthsOf(parts, `${name}.dora_scale`, (n) => [n, ...down.shape.slice(1).map(() => 1)]),
    ]
  })
  const kept = [...metadata].filter(([key]) => key !== NOTES && key !== ALPHAS)
  return { tensors, metadata: new Map(kept) }
}

/** DoRA's lengths of the outputs under another name, in the shape that the dialect gives them. */
function lengthsOf(
  parts: Module["parts"],
  name: string,
  shaped: (outputs: number) => number[],
): PlannedTensor[] {
  const lengths = parts.get("magnitude") ?? parts.get("dora_scale")
  return lengths ? [{ ...planned(lengths, name), shape: shaped(elements(lengths.shape)) }] : []
}

/** Alphas are notes, as `save_lora_adapter` of diffusers writes them. */
function asDiffusers(modules: readonly Module[], { path, metadata }: AdapterSource) {
  const tensors = modules.flatMap(({ scope, path: module, parts }): PlannedTensor[] => {
    const name = `${scope}.${module}`
    const [scale, down] = [parts.get("dora_scale")?.shape, parts.get("down")!]
    if (scale && scale.length > 1 && scale[0] === 1)
      refuse(path, `${name} has lengths of its inputs`, "PEFT's DoRA knows those of the outputs alone")
    return [
      planned(down, `${name}.lora_A.weight`),
      planned(parts.get("up")!, `${name}.lora_B.weight`),
      ...lengthsOf(parts, `${name}.lora_magnitude_vector`, (n) =>
        down.shape.length > 2 ? [1, n, ...down.shape.slice(2).map(() => 1)] : [n],
      ),
    ]
  })
  const kept = [...metadata].filter(([key]) => key !== NOTES && key !== ALPHAS)
  const alpha = modules.map(({ parts }) => parts.get("alpha")?.dtype).find((dtype) => dtype !== undefined)
  const type: [string, string][] = alpha ? [[ALPHAS, alpha]] : []
  return { tensors, metadata: new Map([...kept, ...type, [NOTES, JSON.stringify(notesOf(modules))]]) }
}

/** A module as PEFT looks for it: by the end of its path, which begins with text_model in some versions of transformers. */
const wanted = (path: string) => path.replace(/^text_model\./, "")

/** PEFT's config of every network, the way diffusers packs them. */
function notesOf(modules: readonly Module[]): Record<string, unknown> {
  const notes: Record<string, unknown> = {}
  for (const scope of new Set(modules.map((module) => module.scope))) {
    const own = modules.filter((module) => module.scope === scope)
    const { rank: r, alpha: first = own[0]!.rank } = own[0]!
    const odd = own.filter(({ rank, alpha = rank }) => rank !== r || alpha !== first)
    notes[`${scope}.r`] = r
    notes[`${scope}.lora_alpha`] = first
    notes[`${scope}.rank_pattern`] = Object.fromEntries(odd.map(({ path, rank }) => [wanted(path), rank]))
    notes[`${scope}.alpha_pattern`] = Object.fromEntries(
      odd.map(({ path, rank, alpha = rank }) => [wanted(path), alpha]),
    )
    notes[`${scope}.target_modules`] = own.map(({ path }) => wanted(path)).sort()
    notes[`${scope}.use_dora`] = own.some(({ parts }) => parts.has("magnitude") || parts.has("dora_scale"))
  }
  return notes
}

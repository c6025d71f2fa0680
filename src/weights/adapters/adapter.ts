import { fail } from "../../errors.ts"
import type { SafetensorsHeader } from "../safetensors.ts"
import type { TensorView } from "../view.ts"
import { type AdapterKey, type Part, readKey, type Scope } from "./keys.ts"

/** Keys of a network's weights with their shapes, by every name an adapter may call their module. */
export interface AdapterTarget {
  readonly scope: Exclude<Scope, "any">
  /** Module path with `_` for dots -> its path in the network. */
  readonly modules: ReadonlyMap<string, string>
  readonly shapes: ReadonlyMap<string, readonly number[]>
}

/** One module's change of one weight. */
export interface AdapterModule {
  readonly scope: Exclude<Scope, "any">
  /** Key of the weight it changes. */
  readonly weight: string
  readonly kind: "lora" | "loha" | "lokr"
  /** `weight` is changed by factors, or by a whole difference. */
  readonly part: "factors" | "diff" | "diff_b"
  readonly parts: ReadonlyMap<Part, TensorView>
  readonly rank: number | null
  /** alpha / rank where the file's notes tell it. */
  readonly scaling: number | undefined
  readonly dora: "output" | "input" | null
  /** Name under which the graph finds a part. */
  nameOf(part: Part): string
}

/** A LoRA or one of its kin, matched with a model. */
export interface Adapter {
  readonly name: string
  readonly path: string
  /** Changes with the file's content. */
  readonly id: string
  readonly modules: readonly AdapterModule[]
  /** Keys that no module of this model answers to. */
  readonly unmatched: readonly string[]
  readonly metadata: ReadonlyMap<string, string>
}

interface Group {
  key: AdapterKey
  keys: string[]
  parts: Map<Part, TensorView>
}

/** Tensors of a file by the module they belong to. */
function grouped(tensors: ReadonlyMap<string, TensorView>): { groups: Group[]; unread: string[] } {
  const groups = new Map<string, Group>()
  const unread: string[] = []
  for (const [name, view] of tensors) {
    const key = readKey(name)
    if (!key) {
      unread.push(name)
      continue
    }
    const id = `${key.scope} ${key.module}`
    const group: Group = groups.get(id) ?? { key, keys: [], parts: new Map() }
    group.keys.push(name)
    group.parts.set(key.part, view)
    groups.set(id, group)
  }
  return { groups: [...groups.values()], unread }
}

/**
 * Finds the weights that an adapter file changes. Keys may be kohya's, PEFT's, diffusers' or LDM's.
 * @param id told apart from other adapters in one graph
 * @throws ADAPTER_NO_MATCH when nothing fits, ADAPTER_SHAPE when it was made for another model, ADAPTER_INCOMPLETE
 */
export function matchAdapter(
  file: Pick<SafetensorsHeader, "tensors" | "metadata">,
  targets: readonly AdapterTarget[],
  { name, path, id }: { name: string; path: string; id: string },
): Adapter {
  const { groups, unread } = grouped(file.tensors)
  const scaling = scalings(file.metadata)
  const modules: AdapterModule[] = []
  const unmatched = [...unread]
  const misfits: string[] = []
  for (const group of groups) {
    const found = find(group.key, targets)
    const made = found ? modulesOf(group, found, { path, id, scaling }) : []
    for (const module of made) {
      const shape = found!.target.shapes.get(module.weight)
      const wrong = shape ? misfit(module, shape) : null
      if (wrong !== null) misfits.push(`${module.weight}: ${wrong}`)
      modules.push(module)
    }
    if (made.length === 0) unmatched.push(...group.keys)
  }
  if (modules.length === 0) noMatch(path, file.tensors)
  if (misfits.length > 0)
    fail("ADAPTER_SHAPE", `${path} does not fit this model: ${misfits.slice(0, 4).join("; ")}`, {
      file: path,
      hint: baseHint(file.metadata),
      details: { misfits },
    })
  return { name, path, id, modules, unmatched, metadata: file.metadata }
}

function baseHint(metadata: ReadonlyMap<string, string>): string {
  const base = metadata.get("ss_base_model_version") ?? metadata.get("modelspec.architecture")
  return base ? `it was trained for ${base}` : "it was trained for a model of another family"
}

function noMatch(path: string, tensors: ReadonlyMap<string, TensorView>): never {
  const some = [...tensors.keys()].slice(0, 2).join(", ")
  fail("ADAPTER_NO_MATCH", `${path}: none of its ${tensors.size} keys belongs to this model (${some})`, {
    file: path,
    hint: "it is an adapter of another family of models, or no adapter",
    details: { keys: [...tensors.keys()] },
  })
}

interface Found {
  target: AdapterTarget
  module: string
}

function find({ scope, module }: AdapterKey, targets: readonly AdapterTarget[]): Found | undefined {
  for (const target of targets) {
    if (scope !== "any" && scope !== target.scope) continue
    const path = target.modules.get(module)
    if (path !== undefined) return { target, module: path }
  }
  return undefined
}

interface About {
  path: string
  id: string
  scaling: (scope: Scope, module: string, rank: number | null) => number | undefined
}

/** The changes a group of tensors stands for: factors of a weight, whole differences of weight and bias. */
function modulesOf(group: Group, { target, module }: Found, about: About): AdapterModule[] {
  const { parts } = group
  const made = (
    weight: string,
    part: AdapterModule["part"],
    kind: AdapterModule["kind"] = "lora",
  ): AdapterModule => {
    const rank = rankOf(parts)
    return {
      scope: target.scope,
      weight: `${module}.${weight}`,
      kind,
      part,
      parts,
      rank,
      scaling: parts.has("alpha") ? undefined : about.scaling(target.scope, module, rank),
      dora: doraOf(parts),
      nameOf: (p: Part) => `${about.id} ${target.scope}.${module} ${p}`,
    }
  }
  const out: AdapterModule[] = []
  const kind = kindOf(group, about.path)
  if (kind) out.push(made("weight", "factors", kind))
  if (parts.has("diff")) out.push(made("weight", "diff"))
  if (parts.has("diff_b")) out.push(made("bias", "diff_b"))
  return out.filter(({ weight }) => target.shapes.has(weight))
}

function kindOf({ parts, keys }: Group, path: string): AdapterModule["kind"] | null {
  const kinds = [
    ["lora", ["up", "down"]],
    ["loha", ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]],
    [
      "lokr",
      [parts.has("lokr_w1") ? "lokr_w1" : "lokr_w1_a", parts.has("lokr_w2") ? "lokr_w2" : "lokr_w2_a"],
    ],
  ] as const
  for (const [kind, needed] of kinds) {
    const there = [...parts.keys()].filter((part) =>
      kind === "lora" ? /^(up|down|mid)$/.test(part) : part.startsWith(kind === "loha" ? "hada_" : "lokr_"),
    )
    if (there.length === 0) continue
    const pairs = there.filter((part) => part.endsWith("_a")).map((part) => part.replace(/_a$/, "_b") as Part)
    const missing = [...new Set<Part>([...needed, ...pairs])].filter((part) => !parts.has(part))
    if (missing.length > 0)
      fail("ADAPTER_INCOMPLETE", `${path}: ${keys[0]} stands without its ${missing.join(" and ")}`, {
        file: path,
        hint: "the file is incomplete; fetch it again",
      })
    return kind
  }
  return null
}

function rankOf(parts: ReadonlyMap<Part, TensorView>): number | null {
  const first = (["down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"] as const).find((part) => parts.has(part))
  return first ? parts.get(first)!.shape[0]! : null
}

function doraOf(parts: ReadonlyMap<Part, TensorView>): "output" | "input" | null {
  if (parts.has("magnitude")) return "output"
  const shape = parts.get("dora_scale")?.shape
  if (!shape) return null
  return shape.length > 1 && shape[0] === 1 ? "input" : "output"
}

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** Why a module does not fit its weight, or null. */
function misfit(module: AdapterModule, shape: readonly number[]): string | null {
  const made = madeShape(module)
  const [out, inner] = [shape[0]!, product(shape.slice(1))]
  const whole = made.length === 1 && made[0] === product(shape)
  const lengths = module.parts.get("magnitude") ?? module.parts.get("dora_scale")
  const wanted = module.dora === "input" ? shape[1]! : out
  if (module.dora && product(lengths!.shape) !== wanted)
    return `${product(lengths!.shape)} lengths for ${wanted} ${module.dora}s`
  if (whole || (made[0] === out && made[1] === inner)) return null
  return `${made.join("x")} for a weight of ${shape.join("x")}`
}

/** Rows and columns of what a module makes, or the number of elements of a whole difference. */
function madeShape(module: AdapterModule): number[] {
  const { parts } = module
  const of = (part: Part) => parts.get(part)?.shape ?? []
  const rest = (part: Part) => product(of(part).slice(1))
  if (module.part !== "factors") return [product(of(module.part))]
  const area = (core: Part) => product(of(core).slice(2))
  if (module.kind === "lora")
    return parts.has("mid")
      ? [of("up")[0]!, rest("down") * area("mid")]
      : rest("up") === of("down")[0]
        ? [of("up")[0]!, rest("down")]
        : [0, 0]
  if (module.kind === "loha")
    return parts.has("hada_t1")
      ? [of("hada_w1_a")[1]!, rest("hada_w1_b") * area("hada_t1")]
      : [of("hada_w1_a")[0]!, rest("hada_w1_b")]
  const first = parts.has("lokr_w1")
    ? [of("lokr_w1")[0]!, rest("lokr_w1")]
    : [of("lokr_w1_a")[0]!, rest("lokr_w1_b")]
  const second = parts.has("lokr_w2")
    ? [of("lokr_w2")[0]!, rest("lokr_w2")]
    : parts.has("lokr_t2")
      ? [of("lokr_w2_a")[1]!, rest("lokr_w2_b") * area("lokr_t2")]
      : [of("lokr_w2_a")[0]!, rest("lokr_w2_b")]
  return [first[0]! * second[0]!, first[1]! * second[1]!]
}

/** alpha / rank from PEFT's notes: diffusers' `lora_adapter_metadata`, by network; patterns go before the whole. */
function scalings(metadata: ReadonlyMap<string, string>): About["scaling"] {
  let notes: Record<string, unknown>
  try {
    notes = JSON.parse(metadata.get("lora_adapter_metadata") ?? "{}") as Record<string, unknown>
  } catch {
    notes = {}
  }
  return (scope, module, rank) => {
    const note = (key: string) => notes[`${scope}.${key}`] ?? notes[key]
    const patterns = note("alpha_pattern")
    const special =
      typeof patterns === "object" && patterns !== null
        ? Object.entries(patterns).find(([key]) => module === key || module.endsWith(`.${key}`))?.[1]
        : undefined
    const alpha = special ?? note("lora_alpha") ?? note("alpha")
    if (typeof alpha !== "number" || rank === null) return undefined
    return alpha / (note("use_rslora") === true ? Math.sqrt(rank) : rank)
  }
}

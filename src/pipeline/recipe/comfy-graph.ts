import type { SamplerId, ScheduleId } from "../../diffusion/sampling.ts"

/** What a ComfyUI graph can say of a picture. */
export interface ComfyFacts {
  readonly prompt: string
  readonly negative: string
  readonly seed: number
  readonly steps: number
  readonly cfg: number
  readonly width: number
  readonly height: number
  readonly sampler: string
  readonly scheduler: string
  /** A file in `models/checkpoints`, or a folder in `models/diffusers`. */
  readonly model: { readonly name: string; readonly folder: boolean }
  readonly loras: readonly { readonly name: string; readonly unet: number; readonly text: number }[]
  /** As A1111 counts; 1 is the last layer. */
  readonly clipSkip: number | undefined
}

const SAMPLERS: Partial<Record<SamplerId, string>> = {
  euler: "euler",
  "euler-a": "euler_ancestral",
  heun: "heun",
  dpm2: "dpm_2",
  "dpm2-a": "dpm_2_ancestral",
  lms: "lms",
  "dpmpp-2m": "dpmpp_2m",
  "dpmpp-2m-sde": "dpmpp_2m_sde",
  "dpmpp-3m-sde": "dpmpp_3m_sde",
  "dpmpp-sde": "dpmpp_sde",
  "dpmpp-2s-a": "dpmpp_2s_ancestral",
  "dpm-fast": "dpm_fast",
  "dpm-adaptive": "dpm_adaptive",
  ddim: "ddim",
  ddpm: "ddpm",
  unipc: "uni_pc",
  deis: "deis",
  lcm: "lcm",
  ipndm: "ipndm",
}
const SCHEDULES: Partial<Record<ScheduleId, string>> = {
  normal: "normal",
  karras: "karras",
  exponential: "exponential",
  "sgm-uniform": "sgm_uniform",
  simple: "simple",
  "ddim-uniform": "ddim_uniform",
  beta: "beta",
  "kl-optimal": "kl_optimal",
}
/** Of diffusers' scheduler classes, those that ComfyUI has under another name. */
const CLASSES: Record<string, [sampler: string, scheduler: string]> = {
  DDIMScheduler: ["ddim", "ddim_uniform"],
  EulerDiscreteScheduler: ["euler", "normal"],
  EulerAncestralDiscreteScheduler: ["euler_ancestral", "normal"],
  HeunDiscreteScheduler: ["heun", "normal"],
  LMSDiscreteScheduler: ["lms", "normal"],
  DPMSolverMultistepScheduler: ["dpmpp_2m", "normal"],
  UniPCMultistepScheduler: ["uni_pc", "normal"],
  LCMScheduler: ["lcm", "sgm_uniform"],
}

/** ComfyUI's names of a sampler and its schedule, or of a scheduler's class; undefined where it has none. */
export function comfySampler(
  sampler: SamplerId | undefined,
  schedule: ScheduleId | undefined,
  config: Readonly<Record<string, unknown>>,
): [sampler: string, scheduler: string] | undefined {
  if (sampler === undefined) {
    const [name, spacing] = CLASSES[String(config._class_name)] ?? []
    if (name === undefined) return undefined
    return [name, config.use_karras_sigmas === true ? "karras" : spacing!]
  }
  const [name, spacing] = [SAMPLERS[sampler], SCHEDULES[schedule ?? "normal"]]
  return name === undefined || spacing === undefined ? undefined : [name, spacing]
}

type Link = readonly [id: string, slot: number]
type Input = string | number | Link
interface Node {
  readonly class_type: string
  readonly inputs: Readonly<Record<string, Input>>
}

/** Types of what nodes give, slot by slot. */
const OUTPUTS: Record<string, readonly string[]> = {
  CheckpointLoaderSimple: ["MODEL", "CLIP", "VAE"],
  DiffusersLoader: ["MODEL", "CLIP", "VAE"],
  LoraLoader: ["MODEL", "CLIP"],
  CLIPSetLastLayer: ["CLIP"],
  CLIPTextEncode: ["CONDITIONING"],
  EmptyLatentImage: ["LATENT"],
  KSampler: ["LATENT"],
  VAEDecode: ["IMAGE"],
  SaveImage: [],
}

const isLink = (input: Input): input is Link => typeof input === "object"

/**
 * The graph that draws a picture in ComfyUI: `prompt` for its API, `workflow` for its editor, as JSON. Its prompt grammar
 * knows weights alone; LoRAs named in a prompt become nodes.
 */
export function comfyGraph(facts: ComfyFacts): { prompt: string; workflow: string } {
  const nodes = nodesOf(facts)
  return {
    prompt: JSON.stringify(Object.fromEntries(nodes)),
    workflow: JSON.stringify(workflowOf(nodes)),
  }
}

const withoutTags = (text: string) => text.replace(/<(?:lora|lyco):[^<>]*>/g, "")

/** Nodes in the order in which they run. */
function nodesOf(facts: ComfyFacts): Map<string, Node> {
  const { model, loras, clipSkip, prompt, negative, width, height } = facts
  const nodes = new Map<string, Node>()
  const add = (class_type: string, inputs: Node["inputs"]): string => {
    const id = String(nodes.size + 1)
    nodes.set(id, { class_type, inputs })
    return id
  }
  const loader = model.folder
    ? add("DiffusersLoader", { model_path: model.name })
    : add("CheckpointLoaderSimple", { ckpt_name: model.name })
  let last = loader
  for (const { name, unet, text } of loras) {
    const strengths = { strength_model: unet, strength_clip: text }
    last = add("LoraLoader", { lora_name: name, ...strengths, model: [last, 0], clip: [last, 1] })
  }
  const net: Link = [last, 0]
  let clip: Link = [last, 1]
  if (clipSkip !== undefined && clipSkip > 1)
    clip = [add("CLIPSetLastLayer", { stop_at_clip_layer: -clipSkip, clip }), 0]
  const [positive, against] = [prompt, negative].map((text) =>
    add("CLIPTextEncode", { text: withoutTags(text), clip }),
  ) as [string, string]
  const latent = add("EmptyLatentImage", { width, height, batch_size: 1 })
  const sampled = add("KSampler", {
    seed: facts.seed,
    steps: facts.steps,
    cfg: facts.cfg,
    sampler_name: facts.sampler,
    scheduler: facts.scheduler,
    denoise: 1,
    model: net,
    positive: [positive, 0],
    negative: [against, 0],
    latent_image: [latent, 0],
  })
  const decoded = add("VAEDecode", { samples: [sampled, 0], vae: [loader, 2] })
  add("SaveImage", { filename_prefix: "aquatint", images: [decoded, 0] })
  return nodes
}

/** Width and height of a node in the editor, and the distance between columns. */
const [wide, high, column] = [320, 180, 380]

/** The editor's form of a graph (version 0.4): the same nodes with links of their own, laid out from left to right. */
function workflowOf(nodes: ReadonlyMap<string, Node>) {
  const links: [number, number, number, number, number, string][] = []
  const outputs = new Map(
    [...nodes].map(([id, { class_type }]) => [id, OUTPUTS[class_type]!.map(() => [] as number[])]),
  )
  const inputs = new Map<string, { name: string; type: string; link: number }[]>()
  for (const [id, { inputs: given }] of nodes) {
    const linked = Object.entries(given).filter((entry): entry is [string, Link] => isLink(entry[1]))
    const found = linked.map(([name, [from, slot]], place) => {
      const type = OUTPUTS[nodes.get(from)!.class_type]![slot]!
      const link = links.length + 1
      links.push([link, Number(from), slot, Number(id), place, type])
      outputs.get(from)![slot]!.push(link)
      return { name, type, link }
    })
    inputs.set(id, found)
  }
  return {
    last_node_id: nodes.size,
    last_link_id: links.length,
    nodes: [...nodes].map(([id, { class_type, inputs: given }], order) => ({
      id: Number(id),
      type: class_type,
      pos: [order * column, (order % 2) * (high + 60)],
      size: [wide, high],
      flags: {},
      order,
      mode: 0,
      inputs: inputs.get(id)!,
      outputs: OUTPUTS[class_type]!.map((type, slot) => ({
        name: type,
        type,
        links: outputs.get(id)![slot]!,
        slot_index: slot,
      })),
      properties: { "Node name for S&R": class_type },
      widgets_values: widgets(class_type, given),
    })),
    links,
    groups: [],
    config: {},
    extra: {},
    version: 0.4,
  }
}

/** Values of a node's fields in the editor's order; a seed is followed by what becomes of it after a run. */
function widgets(type: string, inputs: Node["inputs"]): (string | number)[] {
  return Object.entries(inputs).flatMap(([name, value]) => {
    if (isLink(value)) return []
    return type === "KSampler" && name === "seed" ? [value, "fixed"] : [value]
  })
}

import { amount, type Json, present, type Recipe, seedOf, text } from "./recipe.ts"

interface ComfyNode {
  readonly id: string
  readonly type: string
  readonly inputs: Json
}

/** How far a graph is followed. */
const reach = 64

/** ComfyUI's API graph: the sampler that leads to a saved picture, followed back to prompts, model and size. */
export function comfyRecipe(graph: Json): Recipe | null {
  const nodes = readNodes(graph)
  const samplers = [...nodes.values()].filter((n) => /^KSampler(Advanced)?$/.test(n.type))
  const sampler = samplers[0]
  if (!sampler) return null
  const walk = new Walk(nodes)
  const denoise = walk.number(sampler, "denoise") ?? 1
  const size = walk.back(
    sampler,
    "latent_image",
    (n) => amount(n.inputs.width) !== undefined && n.type.startsWith("Empty"),
  )
  const checkpoint = walk.back(sampler, "model", (n) => text(n.inputs.ckpt_name) !== undefined)
  const vae = walk.vae()
  const { seed, unmet } = seedOf(walk.number(sampler, "seed") ?? walk.number(sampler, "noise_seed"))
  const [prompt, negative] = [walk.prompt(sampler, "positive"), walk.prompt(sampler, "negative")]
  return {
    program: "comfyui",
    version: null,
    request: present({
      prompt: prompt ?? "",
      negative,
      steps: walk.number(sampler, "steps"),
      cfg: walk.number(sampler, "cfg"),
      seed,
      sampler: text(sampler.inputs.sampler_name),
      schedule: text(sampler.inputs.scheduler),
      width: size && amount(size.inputs.width),
      height: size && amount(size.inputs.height),
      clipSkip: walk.clipSkip(sampler),
      rng: "cpu" as const,
      promptSyntax: "comfy" as const,
    }),
    ...(denoise < 1 ? { start: { strength: denoise } } : {}),
    model: { name: text(checkpoint?.inputs.ckpt_name) ?? null, hash: null },
    ...(vae === undefined ? {} : { vae: { name: vae } }),
    loras: walk.loras(sampler),
    unmet: [
      ...unmet,
      ...(prompt === undefined ? ["no prompt was found on the way to its sampler"] : []),
      ...unmetOf(nodes, samplers, size),
    ],
  }
}

function readNodes(graph: Json): Map<string, ComfyNode> {
  const nodes = new Map<string, ComfyNode>()
  for (const [id, value] of Object.entries(graph)) {
    const node = value as { class_type?: unknown; inputs?: unknown } | null
    if (typeof node?.class_type === "string" && typeof node.inputs === "object" && node.inputs !== null)
      nodes.set(id, { id, type: node.class_type, inputs: node.inputs as Json })
  }
  return nodes
}

function unmetOf(
  nodes: ReadonlyMap<string, ComfyNode>,
  samplers: readonly ComfyNode[],
  size: ComfyNode | undefined,
): string[] {
  return [
    ...(samplers.length > 1 ? [`it has ${samplers.length} samplers; the first is repeated`] : []),
    ...(((size && amount(size.inputs.batch_size)) ?? 1) > 1
      ? ["it was one of a batch, whose noise is drawn together"]
      : []),
    ...[...nodes.values()].filter((n) => /ControlNet|IPAdapter/.test(n.type)).map((n) => n.type),
  ]
}

class Walk {
  private readonly nodes: ReadonlyMap<string, ComfyNode>

  constructor(nodes: ReadonlyMap<string, ComfyNode>) {
    this.nodes = nodes
  }

  /** The node that an input is linked to. */
  private linked(node: ComfyNode, key: string): ComfyNode | undefined {
    const link = node.inputs[key]
    return Array.isArray(link) ? this.nodes.get(String(link[0])) : undefined
  }

  /** The first node that fits on the way back along inputs of the same name, then along any link. */
  back(from: ComfyNode, key: string, fits: (n: ComfyNode) => boolean): ComfyNode | undefined {
    const waiting = [this.linked(from, key)]
    const seen = new Set<ComfyNode>()
    while (waiting.length > 0 && seen.size < reach) {
      const node = waiting.shift()
      if (!node || seen.has(node)) continue
      if (fits(node)) return node
      seen.add(node)
      waiting.push(...Object.keys(node.inputs).map((k) => this.linked(node, k)))
    }
    return undefined
  }

  /** A number, or the one that a primitive node gives. */
  number(node: ComfyNode, key: string): number | undefined {
    const own = amount(node.inputs[key])
    if (own !== undefined) return own
    const source = this.linked(node, key)
    return source && (amount(source.inputs.value) ?? amount(source.inputs.seed) ?? amount(source.inputs.int))
  }

  /** Text of the encoder that an input leads to; the text itself may come from another node. */
  prompt(sampler: ComfyNode, key: string): string | undefined {
    const encoder = this.back(sampler, key, (n) => /CLIPTextEncode/.test(n.type))
    if (!encoder) return undefined
    const direct = text(encoder.inputs.text) ?? text(encoder.inputs.text_g)
    if (direct !== undefined) return direct
    const source = this.linked(encoder, "text") ?? this.linked(encoder, "text_g")
    return source && (text(source.inputs.text) ?? text(source.inputs.value) ?? text(source.inputs.string))
  }

  /** CLIPSetLastLayer counts from the end: -1 is the last layer. */
  clipSkip(sampler: ComfyNode): number | undefined {
    const node = this.back(sampler, "positive", (n) => n.type === "CLIPSetLastLayer")
    const layer = node && amount(node.inputs.stop_at_clip_layer)
    return layer === undefined ? undefined : -layer
  }

  /** File of the autoencoder that a VAELoader gives to a decoder. */
  vae(): string | undefined {
    for (const node of this.nodes.values()) {
      const name = /^VAEDecode/.test(node.type) ? text(this.linked(node, "vae")?.inputs.vae_name) : undefined
      if (name !== undefined) return name.split(/[\\/]/).at(-1)
    }
    return undefined
  }

  loras(sampler: ComfyNode): { name: string; weight: number; text?: number }[] {
    const out: { name: string; weight: number; text?: number }[] = []
    let node = this.linked(sampler, "model")
    for (let i = 0; node && i < reach; i++) {
      const name = text(node.inputs.lora_name)
      const weight = amount(node.inputs.strength_model) ?? 1
      const clip = node.type === "LoraLoaderModelOnly" ? 0 : (amount(node.inputs.strength_clip) ?? weight)
      if (name !== undefined) out.unshift({ name, weight, ...(clip === weight ? {} : { text: clip }) })
      node = this.linked(node, "model")
    }
    return out
  }
}

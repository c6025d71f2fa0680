import { fail } from "../errors.ts"
import type { ClipTokenizer } from "../text/bpe.ts"
import { type Adapter, matchAdapter } from "../weights/adapters/adapter.ts"
import { type EmbeddingWord, readEmbedding } from "../weights/embedding.ts"
import { type ActiveAdapter, checkStrength } from "./adapters.ts"
import { type ControlPart, checkControl } from "./control.ts"
import { withEmbeddings } from "./embeddings.ts"
import { type FileMarks, hasWord, marksOf } from "./file-marks.ts"
import type { Networks } from "./networks.ts"
import type { FileRef, OpenedFile, OtherFiles } from "./other-files.ts"
import { type PromptPlan, planPrompts } from "./prompt.ts"
import type { EmbeddingRequest, GenerateRequest } from "./request.ts"
import type { Settings } from "./settings.ts"

/** What a request names beside the model: adapters, textual inversions, ControlNets; each file is opened once. */
export class Additions {
  private readonly networks: Networks
  private readonly others: OtherFiles
  private readonly tokenizers: readonly ClipTokenizer[]
  private readonly adapters = new Map<string, Adapter>()
  private readonly files = new Map<string, OpenedFile>()

  constructor(networks: Networks, others: OtherFiles, tokenizers: readonly ClipTokenizer[]) {
    this.networks = networks
    this.others = others
    this.tokenizers = tokenizers
  }

  /**
   * Opens all of it and reads the prompts.
   * @param calls denoiser calls of the first pass
   * @param later those of a second pass
   * @throws ADAPTER_*, EMBEDDING_*, CONTROLNET_*, PROMPT_* */
  async plan(
    ask: GenerateRequest,
    { prompt, negative, promptSyntax, emphasis, cfg, hires }: Settings,
    calls: number,
    later = 0,
  ): Promise<{ plan: PromptPlan; second: PromptPlan; controls: ControlPart[]; active: ActiveAdapter[] }> {
    const { tokenizers, tables } = await this.words(ask)
    const of = (scale: number) => !(scale > 1) || this.networks.unet.time_cond_proj_dim != null
    const texts = { syntax: promptSyntax, emphasis, tokenizers, words: tables }
    const plan = planPrompts(prompt, negative, { ...texts, calls, unguided: of(cfg) })
    const second = hires
      ? planPrompts(hires.prompt, hires.negative, {
          ...texts,
          calls: later,
          unguided: of(hires.cfg),
          firstPass: calls,
        })
      : plan
    if (hires && hires.prompt !== prompt) sameNetworks(plan, second)
    const controls = await this.controlParts(ask)
    return { plan, second, controls, active: await this.activeAdapters(ask, plan) }
  }

  /** Reads the prompts alone, for a model that goes on where another stopped: it has none of the other's additions. */
  prompts({ prompt, negative, promptSyntax, emphasis, cfg }: Settings, calls: number): PromptPlan {
    const unguided = !(cfg > 1) || this.networks.unet.time_cond_proj_dim != null
    return planPrompts(prompt, negative, {
      syntax: promptSyntax,
      emphasis,
      tokenizers: this.tokenizers,
      words: undefined,
      calls,
      unguided,
    })
  }

  /** Adapters asked for, then those the prompt names; one named twice counts twice. */
  private async activeAdapters(ask: GenerateRequest, { loras }: PromptPlan): Promise<ActiveAdapter[]> {
    const wanted = [
      ...(ask.loras ?? []).map(({ file, weight = 1, text, unet }) => ({
        file,
        text: text ?? weight,
        unet: unet ?? weight,
        fromPrompt: false,
      })),
      ...loras.map(({ name, text, unet }) => ({ file: name as FileRef, text, unet, fromPrompt: true })),
    ]
    const found: ActiveAdapter[] = []
    for (const { file, text, unet, fromPrompt } of wanted) {
      const adapter = await this.adapter(file, fromPrompt)
      found.push({
        adapter,
        text: checkStrength(text, adapter.name),
        unet: checkStrength(unet, adapter.name),
      })
    }
    return found
  }

  /** Tokenizers that know the request's textual inversions, and their vectors for each encoder. */
  private async words({ embeddings = [] }: GenerateRequest) {
    if (embeddings.length === 0) return { tokenizers: this.tokenizers, tables: undefined }
    const found: EmbeddingWord[] = []
    for (const ask of embeddings) {
      const { header, name, path, read } = await this.embedding(ask)
      found.push(...(await readEmbedding(header.tensors, this.networks.encoders, { stem: name, path, read })))
    }
    return withEmbeddings(this.tokenizers, found)
  }

  /** A textual inversion's file under the name that is its word. */
  private async embedding(ask: FileRef | EmbeddingRequest): Promise<OpenedFile> {
    if (typeof ask === "string" || ask instanceof Blob) return this.others.open(ask, "embedding")
    return { ...(await this.others.open(ask.file, "embedding")), name: ask.word }
  }

  /** Hashes of the files that a picture was drawn with: embeddings whose words are in its prompts. */
  async marks(
    { embeddings = [] }: GenerateRequest,
    { prompt, negative }: Settings,
    active: readonly ActiveAdapter[],
  ): Promise<FileMarks> {
    const used: OpenedFile[] = []
    for (const ask of embeddings) {
      const file = await this.embedding(ask)
      const words = [file.name, ...file.header.tensors.keys()]
      if (words.some((word) => hasWord(`${prompt} ${negative}`, word))) used.push(file)
    }
    return marksOf(
      active.flatMap(({ adapter }) => this.files.get(adapter.id) ?? []),
      used,
    )
  }

  private async controlParts({ controls = [] }: GenerateRequest): Promise<ControlPart[]> {
    const parts: ControlPart[] = []
    for (const request of controls) {
      checkControl(request)
      const part = { ...(await this.others.control(request.model, request.encoder)), request }
      if (part.component.className === "ControlNetModel") this.networks.addControl(part.id, part.component)
      parts.push(part)
    }
    return parts
  }

  private async adapter(ref: FileRef, fromPrompt: boolean): Promise<Adapter> {
    const file = await this.others.open(ref, "adapter", fromPrompt)
    const { id, name, path, header } = file
    this.files.set(id, file)
    const made =
      this.adapters.get(id) ?? matchAdapter(header, this.networks.adapterTargets(), { name, path, id })
    this.adapters.set(id, made)
    return made
  }
}

/** Adapters stay in force through both passes. */
function sameNetworks(first: PromptPlan, second: PromptPlan): void {
  if (second.loras.length > 0 && JSON.stringify(first.loras) !== JSON.stringify(second.loras))
    fail("PROMPT_NETWORK", "the second pass's prompt names other adapters than the first one's", {
      hint: "name adapters in the prompt; they act on both passes",
    })
}

import { fail } from "../errors.ts"
import type { Picture } from "../image/pixels.ts"
import { vaeFactor } from "../models/index.ts"
import type { DeviceName, Engine } from "../runtime/engine.ts"
import type { ClipTokenizer } from "../text/bpe.ts"
import type { PromptSyntax } from "../text/prompt.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import { AdapterSet, reportOf } from "./adapters.ts"
import { Additions } from "./additions.ts"
import type { AttentionMaps } from "./attention.ts"
import type { Enlarger } from "./enlarge.ts"
import type { FileMarks } from "./file-marks.ts"
import { type GenerateStep, generate, type RefinerPart } from "./generate.ts"
import { type GenerateOptions, type GenerateResult, Generation, type Timings } from "./generation.ts"
import { GeneratedImage, type Output } from "./image.ts"
import type { ComputeType, Networks } from "./networks.ts"
import type { FileRef, OtherFiles } from "./other-files.ts"
import { presetFor, presetOf } from "./presets.ts"
import { type PromptTokens, promptTokens } from "./prompt-tokens.ts"
import type { GenerateRequest } from "./request.ts"
import { firstSampling, refinerSampling, secondSampling } from "./samplers.ts"
import { ownSide, ownSteps, type Settings, settle } from "./settings.ts"
import { Trace } from "./trace.ts"
import { Turns } from "./turns.ts"
import { UpscaleNet } from "./upscaler.ts"
import type { FileFacts, Vouched } from "./vouched.ts"

/** What a platform puts together for a model. */
export interface ModelParts {
  /** Name of the model, for people. */
  readonly name: string
  readonly files: ModelFiles
  readonly device: DeviceName
  readonly engine: Engine
  /** The engine is the caller's and is not ended with the model. */
  readonly shared: boolean
  readonly networks: Networks
  readonly tokenizers: readonly ClipTokenizer[]
  readonly vouched: Vouched
  /** Give each network's memory back as soon as a generation is done with it. */
  readonly frugal: boolean
  readonly loadSeconds: number
  /** How pictures leave this platform. */
  readonly output: Output
  /** How this platform finds adapters and embeddings. */
  readonly others: OtherFiles
}

/** A model that draws, the same on every platform; stable-diffusion.ts and stable-diffusion-web.ts load one. */
export class Model {
  /** Name of the model, for people: its file's or folder's name. */
  readonly name: string
  readonly files: ModelFiles
  readonly device: DeviceName
  /** How its denoiser computes. */
  get dtype(): ComputeType {
    return this.networks.dtype
  }
  private readonly vouched: Vouched
  private readonly engine: Engine
  private readonly shared: boolean
  private readonly networks: Networks
  private readonly frugal: boolean
  private readonly loadSeconds: number
  private readonly output: Output
  private readonly tokenizers: readonly ClipTokenizer[]
  private readonly additions: Additions
  private readonly others: OtherFiles
  private readonly turns = new Turns()

  protected constructor(parts: ModelParts) {
    this.name = parts.name
    this.files = parts.files
    this.device = parts.device
    this.engine = parts.engine
    this.shared = parts.shared
    this.networks = parts.networks
    this.vouched = parts.vouched
    this.frugal = parts.frugal
    this.loadSeconds = parts.loadSeconds
    this.output = parts.output
    this.others = parts.others
    this.tokenizers = parts.tokenizers
    this.additions = new Additions(parts.networks, parts.others, parts.tokenizers)
  }

  /** What is known of the weight files beyond their headers. @throws WEIGHTS_NOT_FINITE */
  get facts(): Promise<FileFacts> {
    return this.vouched.facts()
  }

  /** What is drawn where a request names no sides (in pixels), no steps and no guidance scale. */
  get defaults(): { width: number; height: number; steps: number; cfg: number } {
    const side = ownSide(this.files, this.factor, Math.max(8, this.factor))
    return { width: side, height: side, ...ownSteps(this.files, presetOf(this.files, this.name)) }
  }

  /** Pixels per latent along a side. */
  get factor(): number {
    return vaeFactor(this.networks.vae)
  }

  /** A prompt as the model's first tokenizer cuts it, and the room there is. @throws PROMPT-* */
  tokens(prompt: string, syntax?: PromptSyntax): PromptTokens {
    return promptTokens(this.tokenizers[0]!)(prompt, syntax)
  }

  /**
   * Starts with the first step that is asked for. Generations of one model may run at once; those that want other
   * adapters than the ones in force wait until these are done, so leave a loop over steps rather than forget it.
   */
  generate(ask: GenerateRequest, options: GenerateOptions = {}): Generation {
    return new Generation(() => this.steps(ask, options))
  }

  /**
   * This model as the one that walks the rest of another's way; `leave` lets other generations change its adapters again.
   * @throws REQUEST_REFINER when it has other latents
   */
  async takeOver(
    ask: GenerateRequest,
    settings: Settings,
    signal: AbortSignal | undefined,
  ): Promise<{ part: RefinerPart; leave: () => void }> {
    const { vae, unet } = this.networks
    if (vaeFactor(vae) !== settings.factor || unet.in_channels !== vae.latent_channels)
      fail("REQUEST_REFINER", `${this.name} cannot go on with these latents`, {
        hint: "name SDXL's refiner, or another model of the same family",
      })
    const sampling = refinerSampling(ask, settings, this.files.scheduler)
    const plan = this.additions.prompts(settings, sampling.timesteps.length || settings.steps)
    const adapters = new AdapterSet(this.networks, [], 1)
    const leave = await this.turns.take(
      { key: adapters.key, alone: this.frugal },
      () => adapters.begin(),
      signal,
    )
    const zeroNegative = this.files.index.force_zeros_for_empty_prompt === true && ask.negative === undefined
    const at = async () => {
      await this.vouched.sound
    }
    const part = { networks: this.networks, sampling, plan, settings: { ...settings, zeroNegative }, at }
    return { part, leave }
  }

  private async *steps(
    ask: GenerateRequest,
    { signal, trace: traced, attention: looked }: GenerateOptions,
  ): AsyncGenerator<GenerateStep, GenerateResult> {
    const began = performance.now()
    const asked = await this.understood(ask)
    const { settings, active, calls, plan, second, controls } = asked
    const adapters = new AdapterSet(this.networks, active, calls)
    const leave = await this.turns.take(
      { key: adapters.key, alone: adapters.scheduled || this.frugal },
      () => adapters.begin(),
      signal,
    )
    const over = await ask.refiner?.model.takeOver(ask, settings, signal).catch((error: unknown) => {
      leave()
      throw error
    })
    const trace = traced ? new Trace() : null
    const timings: Timings = { load: this.loadSeconds, text: 0, denoise: 0, decode: 0, total: 0 }
    let attention: AttentionMaps | null = null
    const run = generate({
      ...(looked ? { watched: (maps: AttentionMaps) => void (attention = maps) } : {}),
      networks: this.networks,
      settings,
      sampling: asked.sampling,
      plan,
      second: asked.later && { ...asked.later, plan: second },
      upscaler: (name) => this.enlargerOf(name, signal),
      controls,
      ...(over ? { refiner: over.part } : {}),
      trace,
      signal,
      frugal: this.frugal,
      at: (call) => this.beforeCall(adapters, call),
      timed: (phase, seconds) => void (timings[phase] = seconds),
    })
    let pictures: Picture[]
    try {
      pictures = yield* run
    } finally {
      leave()
      over?.leave()
    }
    timings.total = this.loadSeconds + (performance.now() - began) / 1000
    const reports = active.map(reportOf)
    const marks = await this.additions.marks(ask, settings, active)
    const images = await this.signed(pictures, ask, asked, { adapters: reports, marks })
    return { images, timings, settings, trace, adapters: reports, attention }
  }

  /** A request with everything that follows from it before anything is loaded or drawn. */
  private async understood(ask: GenerateRequest) {
    const preset = presetFor(ask, this.files, this.name)
    const settings = settle(ask, this.files, this.networks, preset)
    const { hires } = settings
    const scheduler = { ...this.files.scheduler, ...preset?.config }
    const sampling = firstSampling(ask, settings, scheduler)
    const calls = sampling.timesteps.length || settings.steps
    const again = hires && secondSampling(ask, hires, preset, scheduler)
    const callsLater = again && (again.timesteps.length || hires.steps)
    const planned = await this.additions.plan(ask, settings, calls, callsLater)
    return {
      settings,
      scheduler,
      sampling,
      calls,
      later: hires && again && { hires, sampling: again },
      ...planned,
    }
  }

  private async beforeCall(adapters: AdapterSet, call: number): Promise<void> {
    // weights with NaN must stop before a step is wasted on them
    await this.vouched.sound
    this.vouched.begin()
    await adapters.at(call)
  }

  /** Pictures with what they will say of their origin. */
  private async signed(
    pictures: readonly Picture[],
    ask: GenerateRequest,
    { settings, scheduler }: { settings: Settings; scheduler: Readonly<Record<string, unknown>> },
    named: { adapters: ReturnType<typeof reportOf>[]; marks: FileMarks },
  ): Promise<GeneratedImage[]> {
    const origin = {
      ask,
      settings,
      model: this.name,
      folder: this.files.format === "diffusers",
      scheduler,
      ...named,
      dtype: this.dtype,
      facts: await this.facts,
    }
    return pictures.map((picture, index) => new GeneratedImage(picture, { ...origin, index }, this.output))
  }

  private readonly upscalers = new Map<string, UpscaleNet>()

  /** What enlarges pictures: a filter by name, else a network in a file. @throws UPSCALER_* */
  private async enlargerOf(name: FileRef, signal: AbortSignal | undefined): Promise<Enlarger> {
    if (name === "nearest") return "nearest"
    if (name === "lanczos" || name === "none") return "lanczos"
    const opened = await this.others.upscaler(name)
    const net =
      this.upscalers.get(opened.id) ??
      new UpscaleNet(opened, this.engine, this.device, this.networks.readWeights)
    this.upscalers.set(opened.id, net)
    return (picture) => net.enlarge(picture, signal)
  }

  /** Gives back the model's memory and its process; a generation under way fails. Safe to call twice. */
  async release(): Promise<void> {
    this.vouched.end()
    for (const net of this.upscalers.values()) await net.release()
    if (this.shared) await this.networks.release()
    else await this.engine.close()
  }
}

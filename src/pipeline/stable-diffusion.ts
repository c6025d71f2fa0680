import { stat } from "node:fs/promises"
import { basename, resolve } from "node:path"
import { AquatintError, fail } from "../errors.ts"
import type { Picture } from "../image/pixels.ts"
import { chooseDevice } from "../runtime/devices.ts"
import type { DeviceName, Engine } from "../runtime/engine.ts"
import { spawnEngine } from "../runtime/spawn.ts"
import type { ClipTokenizer } from "../text/bpe.ts"
import { openFolder } from "../weights/folder.ts"
import type { ModelFiles } from "../weights/model-files.ts"
import { openSingleFile } from "../weights/single-file.ts"
import { type FileFacts, vouch } from "./facts.ts"
import { type GenerateStep, generate } from "./generate.ts"
import { GeneratedImage } from "./image.ts"
import { Networks } from "./networks.ts"
import { planPrompts } from "./prompt.ts"
import type { GenerateRequest } from "./request.ts"
import { samplingFor } from "./samplers.ts"
import { type Settings, settle } from "./settings.ts"
import { openTokenizers } from "./tokenizers.ts"
import { Trace } from "./trace.ts"

export interface LoadOptions {
  /** Default `auto`: the fastest device that works here. */
  device?: "auto" | DeviceName
  /** Give each network's memory back as soon as a generation is done with it; default false. */
  frugal?: boolean
  /** Where facts of weight files (hash, finite) are remembered; default: the user's cache folder; null for nowhere. */
  cache?: string | null
  /** An engine to share; it is not ended by `release`. Default: a child process of this model's own. */
  engine?: Engine
}

/** Seconds per phase of a generation. */
export interface Timings {
  load: number
  text: number
  denoise: number
  decode: number
  total: number
}

export interface GenerateResult {
  images: GeneratedImage[]
  timings: Timings
  settings: Settings
  trace: Trace | null
}

export interface GenerateOptions {
  signal?: AbortSignal
  /** Keep the tensors of the trace contract. */
  trace?: boolean
}

/** A generation under way: iterate over its steps, or await its result; it starts with the first of either. */
export class Generation implements AsyncIterable<GenerateStep>, PromiseLike<GenerateResult> {
  private readonly start: () => AsyncGenerator<GenerateStep, GenerateResult>
  private result: Promise<GenerateResult> | undefined

  constructor(start: () => AsyncGenerator<GenerateStep, GenerateResult>) {
    this.start = start
  }

  /** Steps as they happen; `return` (or leaving the loop) cancels between two of them. */
  async *[Symbol.asyncIterator](): AsyncGenerator<GenerateStep, GenerateResult> {
    if (this.result) return await this.result
    let settle: (r: GenerateResult) => void = () => {}
    let refuse: (e: unknown) => void = () => {}
    this.result = new Promise<GenerateResult>((yes, no) => {
      settle = yes
      refuse = no
    })
    this.result.catch(() => {})
    try {
      const result = yield* this.start()
      settle(result)
      return result
    } catch (error) {
      refuse(error)
      throw error
    } finally {
      refuse(new AquatintError("CANCELLED", "the generation was left before its end", { blame: "here" }))
    }
  }

  // biome-ignore lint/suspicious/noThenProperty: a generation can be awaited as well as iterated
  then<A = GenerateResult, B = never>(
    yes?: ((r: GenerateResult) => A | PromiseLike<A>) | null,
    no?: ((e: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.finish().then(yes, no)
  }

  private async finish(): Promise<GenerateResult> {
    if (!this.result) for await (const _ of this);
    return await this.result!
  }
}

/** A Stable Diffusion model, ready to draw. */
export class StableDiffusion {
  readonly files: ModelFiles
  readonly device: DeviceName
  readonly facts: Promise<FileFacts>
  private readonly engine: Engine
  private readonly shared: boolean
  private readonly networks: Networks
  private readonly tokenizers: readonly ClipTokenizer[]
  private readonly frugal: boolean
  private readonly loadSeconds: number

  private constructor(parts: {
    files: ModelFiles
    device: DeviceName
    engine: Engine
    shared: boolean
    networks: Networks
    tokenizers: readonly ClipTokenizer[]
    facts: Promise<FileFacts>
    frugal: boolean
    loadSeconds: number
  }) {
    this.files = parts.files
    this.device = parts.device
    this.engine = parts.engine
    this.shared = parts.shared
    this.networks = parts.networks
    this.tokenizers = parts.tokenizers
    this.facts = parts.facts
    this.frugal = parts.frugal
    this.loadSeconds = parts.loadSeconds
  }

  /**
   * Opens a model by name or path: a `.safetensors` checkpoint or a diffusers folder. Every header and config is
   * checked; weights are mapped when a network is first used.
   * @throws MODEL_*, FOLDER_*, SAFETENSORS_*, WEIGHTS_*
   */
  static async load(name: string, options: LoadOptions = {}): Promise<StableDiffusion> {
    const began = performance.now()
    const files = await openModel(name)
    const { device } = chooseDevice(options.device ?? "auto")
    const engine = options.engine ?? spawnEngine()
    try {
      const networks = new Networks(files, engine, device)
      const facts = vouch(files, options.cache)
      facts.catch(() => {})
      const tokenizers = await openTokenizers(files)
      return new StableDiffusion({
        files,
        device,
        engine,
        shared: options.engine !== undefined,
        networks,
        tokenizers,
        facts,
        frugal: options.frugal ?? false,
        loadSeconds: (performance.now() - began) / 1000,
      })
    } catch (error) {
      if (!options.engine) await engine.close()
      throw error
    }
  }

  /** Name of the model, for people: its file's or folder's name. */
  get name(): string {
    return basename(this.files.path).replace(/\.safetensors$/, "")
  }

  generate(ask: GenerateRequest, options: GenerateOptions = {}): Generation {
    return new Generation(() => this.steps(ask, options))
  }

  private async *steps(
    ask: GenerateRequest,
    { signal, trace: traced }: GenerateOptions,
  ): AsyncGenerator<GenerateStep, GenerateResult> {
    const began = performance.now()
    const settings = settle(ask, this.files, this.networks)
    const sampling = samplingFor(ask, settings, this.files.scheduler)
    const calls = sampling.timesteps.length || settings.steps
    const plan = planPrompts(
      settings.prompt,
      settings.negative,
      settings.promptSyntax,
      this.tokenizers,
      calls,
      !(settings.cfg > 1) || this.networks.unet.time_cond_proj_dim != null,
    )
    const trace = traced ? new Trace() : null
    const timings: Timings = { load: this.loadSeconds, text: 0, denoise: 0, decode: 0, total: 0 }
    const timed = (phase: "text" | "denoise" | "decode", seconds: number) => {
      timings[phase] = seconds
    }
    const run = generate({
      networks: this.networks,
      settings,
      sampling,
      plan,
      trace,
      signal,
      frugal: this.frugal,
      timed,
    })
    // weights with NaN must stop before a step is wasted on them
    const first = await Promise.all([run.next(), this.facts.then(() => null)]).then(([step]) => step)
    const pictures = yield* resume(first, run)
    timings.total = this.loadSeconds + (performance.now() - began) / 1000
    const facts = await this.facts
    const images = pictures.map(
      (picture: Picture, i: number) =>
        new GeneratedImage(picture, { ask, settings, index: i, model: this.name, facts }),
    )
    return { images, timings, settings, trace }
  }

  /** Gives back the model's memory and its process; a generation under way fails. Safe to call twice. */
  async release(): Promise<void> {
    if (this.shared) await this.networks.release()
    else await this.engine.close()
  }
}

async function* resume(
  first: IteratorResult<GenerateStep, Picture[]>,
  run: AsyncGenerator<GenerateStep, Picture[]>,
): AsyncGenerator<GenerateStep, Picture[]> {
  if (first.done) return first.value
  yield first.value
  return yield* run
}

/** Opens a model's headers and configs by path. */
export async function openModel(name: string): Promise<ModelFiles> {
  const path = resolve(name)
  const found = await stat(path).catch(() => null)
  if (!found) {
    const what =
      name === "embedded" ? "this build carries no model of its own" : `${name} is not a file or folder`
    return fail("MODEL_NOT_FOUND", what, {
      hint: "name a checkpoint: --model path/to/model.safetensors, or a diffusers folder",
      file: name,
    })
  }
  if (found.isDirectory()) return openFolder(path)
  if (/\.(ckpt|pt|pth|bin)$/i.test(path))
    fail("MODEL_PICKLE", `${name} is a pickled checkpoint`, {
      hint: "such files can hold programs and are not opened; find the model as .safetensors",
      file: path,
    })
  return openSingleFile(path)
}

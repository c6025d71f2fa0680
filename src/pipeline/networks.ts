import { fail } from "../errors.ts"
import {
  type Graph,
  mulDim,
  type StoredTensor,
  symbol,
  type Wrap,
  watchAttention,
  wrapConvolutions,
} from "../graph/index.ts"
import {
  AutoencoderKL,
  AutoencoderTiny,
  type ClipConfig,
  ClipText,
  ControlNet,
  type ControlNetConfig,
  clipConfig,
  clipGraph,
  controlNetConfig,
  controlNetGraph,
  decoderGraph,
  encoderGraph,
  type TinyVaeConfig,
  tinyDecoderGraph,
  tinyEncoderGraph,
  tinyVaeConfig,
  UNet,
  type UNetConfig,
  type UNetParts,
  unetConfig,
  unetGraph,
  vaeConfig,
} from "../models/index.ts"
import { expected, type Module } from "../nn/index.ts"
import type { CodeStore } from "../runtime/codes.ts"
import type { DeviceName, Engine } from "../runtime/engine.ts"
import type { ReadWeights } from "../runtime/gather.ts"
import type { Patches } from "../runtime/hold.ts"
import { type CompileOptions, compile, type Legacy, type Program } from "../runtime/program.ts"
import type { AdapterTarget } from "../weights/adapters/adapter.ts"
import { adapterTarget } from "../weights/adapters/targets.ts"
import { fitWeights } from "../weights/fit.ts"
import type { Component, ModelFiles } from "../weights/model-files.ts"
import type { TensorView } from "../weights/view.ts"
import { type EncodedRows, LastUsed } from "./last-used.ts"
import { checkBlocks, fitsUnet } from "./network-checks.ts"
import { sides, sizeIds } from "./network-sizes.ts"
import { storedView } from "./stored.ts"
import type { AnyVae } from "./vae.ts"

/** `int8`: the denoiser's products in eight-bit integers, all else in single precision. */
export type ComputeType = "fp32" | "int8"

export interface NetworkOptions {
  /** How weights come into memory where the engine cannot map their files. */
  readonly read?: ReadWeights
  readonly dtype?: ComputeType
  /** Where eight-bit codes are kept. */
  readonly store?: CodeStore
  /** Build the denoiser with room for LoRAs beside its attention. */
  readonly expectLoras?: boolean
}

/** What nearly every LoRA stands beside: attention and the layers around it. */
const oftenChanged = (weight: string): boolean => weight.includes("attentions.")

/** The networks of one model, compiled when first used and given back on request. */
export class Networks {
  readonly unet: UNetConfig
  readonly vae: AnyVae
  readonly texts: readonly ClipConfig[]
  private readonly engine: Engine
  private readonly device: DeviceName
  /** How the denoiser computes. */
  readonly dtype: ComputeType
  private readonly store: CodeStore | undefined
  private readonly expectLoras: boolean
  /** How weights come into memory where the engine cannot map their files. */
  readonly readWeights: ReadWeights | undefined
  private readonly weights = new Map<string, Map<string, StoredTensor>>()
  /** Results of the text encoders for texts of the last pictures. */
  readonly encoded = new LastUsed<EncodedRows>(32)
  private readonly programs = new Map<string, Promise<Program>>()
  private readonly patches = new Map<string, Patches>()
  /** What programs that must be compiled anew left for it, by their names. */
  private readonly left = new Map<string, Legacy>()
  private previewVae: TinyVaeConfig | null = null
  private readonly controls = new Map<string, ControlNetConfig>()
  /** What adapters can change, and the key of its weights. */
  private readonly keys = new Map<AdapterTarget["scope"], string>([["unet", "unet"]])

  /**
   * Reads the configs and checks every weight against them, from headers alone.
   * @throws MODEL_CONFIG, WEIGHTS_DO_NOT_FIT, DTYPE_DEVICE
   */
  constructor(
    files: ModelFiles,
    engine: Engine,
    device: DeviceName,
    { read, dtype, store, expectLoras = false }: NetworkOptions = {},
  ) {
    this.engine = engine
    this.expectLoras = expectLoras
    this.dtype = dtype ?? "fp32"
    this.store = store
    if (this.dtype === "int8" && device !== "cpu")
      fail("DTYPE_DEVICE", `int8 is not there on ${device}`, { hint: "use --device cpu, or --dtype fp32" })
    this.device = device
    this.readWeights = read
    const part = (name: string) =>
      files.components.get(name) ?? fail("MODEL_PART", `${files.path} has no ${name}`, { file: files.path })
    this.unet = unetConfig(part("unet").config)
    const tiny = part("vae").className === "AutoencoderTiny"
    this.vae = tiny ? tinyVaeConfig(part("vae").config) : vaeConfig(part("vae").config)
    checkBlocks(this.unet, part("unet"))
    const names = ["text_encoder", "text_encoder_2"].filter((name) => files.components.has(name))
    if (names.length === 0)
      fail("MODEL_PART", `${files.path} has no text_encoder`, {
        file: files.path,
        hint: "use a complete checkpoint",
      })
    this.texts = names.map((name) =>
      clipConfig({ architectures: [part(name).className], ...part(name).config }),
    )
    this.unet = { ...this.unet, sizeIds: sizeIds(this.unet, this.texts) }
    this.fit("unet", new UNet(this.unet), part("unet"), files.family)
    this.fit(
      "vae",
      "tiny" in this.vae ? new AutoencoderTiny(this.vae) : new AutoencoderKL(this.vae),
      part("vae"),
      files.family,
    )
    this.texts.forEach((config, i) => {
      this.fit(`text${i}`, new ClipText(config), part(names[i]!), files.family)
      this.keys.set(names[i] as AdapterTarget["scope"], `text${i}`)
    })
  }

  /** Takes a network in under a name of its own, checked against its weights. @throws WEIGHTS_DO_NOT_FIT */
  take(key: string, net: Module, component: Component): void {
    if (!this.weights.has(key)) this.fit(key, net, component, key.split(" ")[0]!)
  }

  /** Weights under names of their own, for graphs that add to a network. */
  lay(key: string, weights: ReadonlyMap<string, TensorView>): void {
    if (!this.weights.has(key))
      this.weights.set(key, new Map([...weights].map(([name, view]) => [name, storedView(view)])))
  }

  /** A network that was taken in, compiled once under a name that begins with its key's first word. */
  taken(name: string, key: string, graph: () => Graph): Promise<Program> {
    return this.program(name, key, graph)
  }

  private fit(key: string, net: Module, component: Component, family: string): void {
    const model = `${family}.${key.split(" ")[0]}`
    const views = fitWeights(expected(net), component.weights, {
      model,
      file: component.files[0],
      allow: (name) => key.startsWith("text") && name.startsWith("text_projection"),
    })
    this.weights.set(key, new Map([...views].map(([name, view]) => [name, storedView(view)])))
  }

  private program(
    key: string,
    weights: string,
    graph: () => Graph,
    options: Pick<CompileOptions, "slow" | "keeps" | "fleeting" | "int8" | "room"> & {
      more?: readonly string[]
    } = {},
  ): Promise<Program> {
    const known = this.programs.get(key)
    if (known) return known
    const { more = [], ...how } = options
    const own = this.weights.get(weights)!
    const all =
      more.length === 0
        ? own
        : new Map([own, ...more.map((m) => this.weights.get(m)!)].flatMap((m) => [...m]))
    const made = compile(this.engine, graph(), all, {
      device: this.device,
      read: this.readWeights,
      patches: this.patches.get(weights),
      store: this.store,
      legacy: this.left.get(key),
      ...how,
    })
    this.left.delete(key)
    this.programs.set(key, made)
    made.catch(() => this.programs.delete(key))
    return made
  }

  /** Text encoder `i` at a clip skip; inputs `ids` and, with a projection, `ends`. */
  text(i: number, outputs: { skip: number; norm: boolean; words?: boolean }): Promise<Program> {
    return this.program(
      `text${i} ${outputs.skip} ${outputs.norm} ${outputs.words ?? false}`,
      `text${i}`,
      () => clipGraph(this.texts[i]!, outputs).graph,
    )
  }

  /**
   * The U-Net for latents of this size; sizes that divide by a power of two share a cheaper graph.
   * @param watched with maps of its attention to the prompt
   */
  denoiser(
    height: number,
    width: number,
    parts: UNetParts = {},
    { watched = false, wrap = null }: { watched?: boolean; wrap?: Wrap | null } = {},
  ): Promise<Program> {
    const { controls = 0, features = [], images = [], merge = 0, deep = "" } = parts
    // tokens merge on maps whose sides are known to be even
    const { unit, sizes } = this.sizes(height, width, merge > 0 ? [4, 2] : [])
    const more = images.map(({ id }) => id)
    const name = `unet ${unit} ${controls} ${features} ${more}${deep}${merge || ""}${watched ? " watched" : ""}${wrapKey(wrap)}`
    const inputs = images.flatMap((_, i) => [`image${i}`, `image${i}.scale`])
    const graph = () => {
      const plain = wrapped(unetGraph(this.unet, sizes, parts).graph, wrap)
      return watched ? watchAttention(plain, "latents", "context") : plain
    }
    return this.program(name, "unet", graph, {
      slow: [slow[0]!, [...slow[1]!, ...inputs], slow[2]!],
      int8: this.dtype === "int8",
      room: this.expectLoras ? oftenChanged : undefined,
      more,
    })
  }

  /** Whether latents of these sizes are denoised by one graph. */
  sharesDenoiser(a: readonly [number, number], b: readonly [number, number]): boolean {
    return this.sizes(...a).unit === this.sizes(...b).unit
  }

  private sizes(height: number, width: number, further: readonly number[] = []) {
    const step = 2 ** (this.unet.down.length - 1)
    const { unit, h, w } = sides([Math.max(step, 8), step, ...further], height, width)
    return { unit, sizes: { b: symbol("b"), h, w, tokens: symbol("tokens") } }
  }

  /** Takes a ControlNet in under a name of its own, checked against its config and against the U-Net. @throws CONTROLNET_FAMILY */
  addControl(id: string, component: Component): ControlNetConfig {
    const known = this.controls.get(id)
    if (known) return known
    const read = controlNetConfig(component.config)
    // a single file does not say how its size embedding is cut; it reads the same numbers as the U-Net
    const { addition_time_embed_dim, sizeIds, projection_class_embeddings_input_dim: width } = this.unet
    const alike = read.unet.projection_class_embeddings_input_dim === width
    const config = alike ? { ...read, unet: { ...read.unet, addition_time_embed_dim, sizeIds } } : read
    fitsUnet(config, this.unet, component.files[0])
    this.fit(`control ${id}`, new ControlNet(config), component, "controlnet")
    this.controls.set(id, config)
    return config
  }

  /** A ControlNet for latents of this size; its results stay in the engine. */
  control(id: string, guess: boolean, height: number, width: number): Promise<Program> {
    const { unit, sizes } = this.sizes(height, width)
    const config = this.controls.get(id)!
    return this.program(
      `unet-control ${unit} ${guess} ${id}`,
      `control ${id}`,
      () => controlNetGraph(config, sizes, guess).graph,
      { slow: [["hint", ...slow[0]!], ...slow.slice(1)], keeps: true },
    )
  }

  /** The text encoders by name, with the width of their vectors. */
  get encoders(): { name: string; size: number }[] {
    const names = [...this.keys.keys()].filter((name) => name !== "unet")
    return names.map((name, i) => ({ name, size: this.texts[i]!.hidden_size }))
  }

  /** Size of the autoencoder's weights. */
  get vaeBytes(): number {
    return [...this.weights.get("vae")!.values()].reduce((sum, { bytes }) => sum + bytes.length, 0)
  }

  /** Whether the autoencoder's scratch memory is worth giving back: 1.4 GB of SD 1.5's at 512x512. */
  private get roomyVae(): boolean {
    return this.device === "cpu" && this.vaeBytes > 64e6
  }

  /** The VAE's decoder for latents of this size. */
  decoder(height: number, width: number, wrap: Wrap | null = null): Promise<Program> {
    const { unit, h, w } = sides([4], height, width)
    const graph = () => {
      const sizes = { b: symbol("b"), h, w }
      const made = "tiny" in this.vae ? tinyDecoderGraph(this.vae, sizes) : decoderGraph(this.vae, sizes)
      return wrapped(made.graph, wrap)
    }
    return this.program(`vae decoder ${unit}${wrapKey(wrap)}`, "vae", graph, { fleeting: this.roomyVae })
  }

  /** A small autoencoder (TAESD) for previews, beside the model's own. @throws VAE_PREVIEW */
  addPreviewer(component: Component): void {
    if (component.className !== "AutoencoderTiny")
      fail("VAE_PREVIEW", `${component.files[0]} is no tiny autoencoder`, {
        file: component.files[0],
        hint: "previews are drawn by TAESD: AutoencoderTiny under diffusers' keys or its author's",
      })
    const config = tinyVaeConfig(component.config)
    this.take("preview", new AutoencoderTiny(config), component)
    this.previewVae = config
  }

  /** Its decoder for latents of this size; null where the model has none. */
  async previewer(
    height: number,
    width: number,
  ): Promise<{ net: Program; scaling: { scaling_factor: number } } | null> {
    const config = this.previewVae
    if (!config) return null
    const { unit, h, w } = sides([4], height, width)
    const net = await this.taken(
      `preview ${unit}`,
      "preview",
      () => tinyDecoderGraph(config, { b: symbol("b"), h, w }).graph,
    )
    return { net, scaling: config }
  }

  encoder(wrap: Wrap | null = null): Promise<Program> {
    const step = 2 ** (this.vae.block_out_channels.length - 1)
    const sizes = { b: symbol("b"), h: mulDim(step, symbol("h")), w: mulDim(step, symbol("w")) }
    const graph = () =>
      wrapped(
        "tiny" in this.vae ? tinyEncoderGraph(this.vae, sizes).graph : encoderGraph(this.vae, sizes).graph,
        wrap,
      )
    return this.program(`vae encoder${wrapKey(wrap)}`, "vae", graph, { fleeting: this.roomyVae })
  }

  /** The networks that adapters can change. */
  get scopes(): AdapterTarget["scope"][] {
    return [...this.keys.keys()]
  }

  /** The modules of those networks by every name adapters know. */
  adapterTargets(): AdapterTarget[] {
    return [...this.keys].map(([scope, key]) => {
      const shapes = [...this.weights.get(key)!].map(([name, { shape }]) => [name, shape] as const)
      return adapterTarget(scope, new Map(shapes))
    })
  }

  /**
   * Sets what adapters make of a network's weights. The network stays as it is where only values differ, and what its
   * session held is left for the next one where it must be compiled anew; values are made from the model's own files, so
   * that taking an adapter away leaves nothing of it.
   */
  async adapt(scope: AdapterTarget["scope"], patches: Patches): Promise<void> {
    const weights = this.keys.get(scope)!
    if (patches.changes.size > 0) this.patches.set(weights, patches)
    else this.patches.delete(weights)
    for (const [key, program] of [...this.programs]) {
      if (key.split(" ")[0] !== weights) continue
      const made = await program
      if (await made.patch(patches)) continue
      this.programs.delete(key)
      this.left.set(key, made.handOver())
    }
  }

  /** What adapters make of a text encoder, in one text. */
  textState(i: number): string {
    const changes = this.patches.get(`text${i}`)?.changes ?? new Map<string, never>()
    return [...changes].map(([name, { key }]) => `${name} ${key}`).join()
  }

  /** Gives back the memory of one kind of network (`text`, `unet`, `vae`), or of all. */
  async release(kind = ""): Promise<void> {
    for (const [key, program] of [...this.programs]) {
      if (!key.startsWith(kind)) continue
      this.programs.delete(key)
      await (await program.catch(() => null))?.release()
    }
    for (const [key, { held }] of [...this.left]) {
      if (!key.startsWith(kind)) continue
      this.left.delete(key)
      await this.engine.free(Object.values(held).map(({ ref }) => ref))
    }
  }
}

const wrapKey = (wrap: Wrap | null): string => (wrap ? ` wrap${wrap.x ? "x" : ""}${wrap.y ? "y" : ""}` : "")
const wrapped = (graph: Graph, wrap: Wrap | null): Graph => (wrap ? wrapConvolutions(graph, wrap) : graph)

/** Inputs of the denoiser that change seldom, slowest first. */
const slow = [["time_ids"], ["context", "text_embeds", "guidance"], ["timestep"]]

import { fail } from "../errors.ts"
import { type Dim, type Graph, mulDim, type StoredDType, type StoredTensor, symbol } from "../graph/index.ts"
import {
  AutoencoderKL,
  type ClipConfig,
  ClipText,
  clipConfig,
  clipGraph,
  decoderGraph,
  encoderGraph,
  UNet,
  type UNetConfig,
  unetConfig,
  unetGraph,
  type VaeConfig,
  vaeConfig,
} from "../models/index.ts"
import { expected, type Module } from "../nn/index.ts"
import type { DeviceName, Engine } from "../runtime/engine.ts"
import type { ReadWeights } from "../runtime/gather.ts"
import { type CompileOptions, compile, type Program } from "../runtime/program.ts"
import { fitWeights } from "../weights/fit.ts"
import type { Component, ModelFiles } from "../weights/model-files.ts"
import type { TensorView } from "../weights/view.ts"

/** The networks of one model, compiled when first used and given back on request. */
export class Networks {
  readonly unet: UNetConfig
  readonly vae: VaeConfig
  readonly texts: readonly ClipConfig[]
  private readonly engine: Engine
  private readonly device: DeviceName
  private readonly read: ReadWeights | undefined
  private readonly weights = new Map<string, Map<string, StoredTensor>>()
  private readonly programs = new Map<string, Promise<Program>>()

  /**
   * Reads the configs and checks every weight against them, from headers alone.
   * @param read how weights come into memory where the engine cannot map their files
   * @throws MODEL_CONFIG, WEIGHTS_DO_NOT_FIT
   */
  constructor(files: ModelFiles, engine: Engine, device: DeviceName, read?: ReadWeights) {
    this.engine = engine
    this.device = device
    this.read = read
    const part = (name: string) =>
      files.components.get(name) ?? fail("MODEL_PART", `${files.path} has no ${name}`, { file: files.path })
    this.unet = unetConfig(part("unet").config)
    this.vae = vaeConfig(part("vae").config)
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
    this.fit("unet", new UNet(this.unet), part("unet"), files)
    this.fit("vae", new AutoencoderKL(this.vae), part("vae"), files)
    this.texts.forEach((config, i) => {
      this.fit(`text${i}`, new ClipText(config), part(names[i]!), files)
    })
  }

  private fit(key: string, net: Module, component: Component, files: ModelFiles): void {
    const model = `${files.family}.${key}`
    const views = fitWeights(expected(net), component.weights, {
      model,
      file: component.files[0],
      allow: (name) => key.startsWith("text") && name.startsWith("text_projection"),
    })
    this.weights.set(key, new Map([...views].map(([name, view]) => [name, stored(view)])))
  }

  private program(
    key: string,
    weights: string,
    graph: () => Graph,
    options: Pick<CompileOptions, "slow"> = {},
  ): Promise<Program> {
    const known = this.programs.get(key)
    if (known) return known
    const made = compile(this.engine, graph(), this.weights.get(weights)!, {
      device: this.device,
      read: this.read,
      ...options,
    })
    this.programs.set(key, made)
    made.catch(() => this.programs.delete(key))
    return made
  }

  /** Text encoder `i` at a clip skip; inputs `ids` and, with a projection, `ends`. */
  text(i: number, outputs: { skip: number; norm: boolean }): Promise<Program> {
    return this.program(
      `text${i} ${outputs.skip} ${outputs.norm}`,
      `text${i}`,
      () => clipGraph(this.texts[i]!, outputs).graph,
    )
  }

  /** The U-Net for latents of this size; sizes that divide by a power of two share a cheaper graph. */
  denoiser(height: number, width: number): Promise<Program> {
    const step = 2 ** (this.unet.down.length - 1)
    const { unit, h, w } = sides([Math.max(step, 8), step], height, width)
    const sizes = { b: symbol("b"), h, w, tokens: symbol("tokens") }
    const slow = [["time_ids"], ["context", "text_embeds", "guidance"], ["timestep"]]
    return this.program(`unet ${unit}`, "unet", () => unetGraph(this.unet, sizes).graph, { slow })
  }

  /** The VAE's decoder for latents of this size. */
  decoder(height: number, width: number): Promise<Program> {
    const { unit, h, w } = sides([4], height, width)
    return this.program(
      `vae decoder ${unit}`,
      "vae",
      () => decoderGraph(this.vae, { b: symbol("b"), h, w }).graph,
    )
  }

  encoder(): Promise<Program> {
    const step = 2 ** (this.vae.block_out_channels.length - 1)
    const sizes = { b: symbol("b"), h: mulDim(step, symbol("h")), w: mulDim(step, symbol("w")) }
    return this.program("vae encoder", "vae", () => encoderGraph(this.vae, sizes).graph)
  }

  /** Gives back the memory of one kind of network (`text`, `unet`, `vae`), or of all. */
  async release(kind = ""): Promise<void> {
    for (const [key, program] of [...this.programs]) {
      if (!key.startsWith(kind)) continue
      this.programs.delete(key)
      await (await program.catch(() => null))?.release()
    }
  }
}

/** Names for a height and a width, as multiples of the first unit that divides both. */
function sides(units: readonly number[], height: number, width: number): { unit: number; h: Dim; w: Dim } {
  const unit = units.find((n) => height % n === 0 && width % n === 0) ?? 1
  return { unit, h: mulDim(unit, symbol("h")), w: mulDim(unit, symbol("w")) }
}

/** A config of a few bytes must not ask for a network of millions of parts: each block has several tensors. */
function checkBlocks({ down, up }: UNetConfig, { weights, files }: Component): void {
  const blocks = [...down, ...up]
    .flatMap(({ layers, attention, depth }) => [layers, ...(attention ? depth : [])])
    .reduce((sum, n) => sum + n, 0)
  if (blocks > weights.size)
    fail("MODEL_CONFIG", `U-Net config: ${blocks} blocks for the ${weights.size} tensors of its file`, {
      file: files[0],
      hint: "fetch config.json and weights again, from one place",
    })
}

const dtypes: Partial<Record<TensorView["dtype"], StoredDType>> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  F64: "f64",
}

/** A view as the runtime takes it. */
function stored(view: TensorView): StoredTensor {
  const dtype =
    dtypes[view.dtype] ??
    fail("WEIGHTS_DTYPE", `${view.file}: ${view.name} is stored as ${view.dtype}`, {
      file: view.file,
      hint: "convert the file to F16 or F32",
    })
  return {
    dtype,
    shape: view.shape,
    bytes: { location: view.file, offset: view.offset, length: view.length },
    ...(view.transposed ? { transposed: true } : {}),
  }
}

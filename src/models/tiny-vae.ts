import { z } from "zod"
import { type Dim, type Graph, input, mulDim, type Tensor } from "../graph/index.ts"
import { type Activation, activation, bind, Conv2d, Module } from "../nn/index.ts"
import { amount, readConfig, refuse, size } from "./config.ts"

const schema = z.object({
  in_channels: size.default(3),
  out_channels: size.default(3),
  encoder_block_out_channels: z.array(size).min(1).max(16).default([64, 64, 64, 64]),
  decoder_block_out_channels: z.array(size).min(1).max(16).default([64, 64, 64, 64]),
  act_fn: z.enum(["relu", "silu", "gelu"]).default("relu"),
  upsample_fn: z.literal("nearest").default("nearest"),
  latent_channels: size.default(4),
  upsampling_scaling_factor: z.literal(2).default(2),
  num_encoder_blocks: z.array(amount).default([1, 3, 3, 3]),
  num_decoder_blocks: z.array(amount).default([3, 3, 3, 1]),
  latent_magnitude: z.number().default(3),
  latent_shift: z.number().default(0.5),
  force_upcast: z.boolean().nullish(),
  scaling_factor: z.number().positive().default(1),
  shift_factor: z.number().nullish(),
  block_out_channels: z.array(size).nullish(),
})

export interface TinyVaeConfig extends Omit<z.infer<typeof schema>, "block_out_channels"> {
  readonly tiny: true
  readonly block_out_channels: readonly number[]
  readonly latents_mean?: null
  readonly latents_std?: null
}

/** Reads the config.json of diffusers' AutoencoderTiny. */
export function tinyVaeConfig(json: unknown): TinyVaeConfig {
  const what = "tiny VAE config"
  const c = readConfig(schema, json, what)
  for (const [blocks, widths] of [
    ["num_encoder_blocks", "encoder_block_out_channels"],
    ["num_decoder_blocks", "decoder_block_out_channels"],
  ] as const)
    if (c[blocks].length !== c[widths].length)
      refuse(what, blocks, `has ${c[blocks].length} entries for ${c[widths].length} levels`)
  return { ...c, tiny: true, block_out_channels: c.decoder_block_out_channels }
}

const act = (c: TinyVaeConfig) => activation[c.act_fn as Activation]

const conv3 = (width: number) => new Conv2d({ in: width, out: width, k: 3 })

/** Three convolutions around a skip. */
class Block extends Module<{ width: number; vae: TinyVaeConfig }> {
  conv = { 0: conv3(this.c.width), 2: conv3(this.c.width), 4: conv3(this.c.width) }

  forward(x: Tensor): Tensor {
    const s = act(this.c.vae)
    const h = this.conv[4].forward(s(this.conv[2].forward(s(this.conv[0].forward(x)))))
    return h.add(x).relu()
  }
}

type Step = Block | Conv2d | "act" | "up"

/** Layers by their place in the reference's Sequential, where activations and enlargements count too. */
const placed = (steps: readonly Step[]): Record<number, Block | Conv2d> =>
  Object.fromEntries(steps.flatMap((step, i) => (typeof step === "string" ? [] : [[i, step]])))

const blocks = (count: number, width: number, vae: TinyVaeConfig) =>
  Array.from({ length: count }, () => new Block({ width, vae }))

class Encoder extends Module<TinyVaeConfig> {
  readonly #steps: readonly Step[] = [
    ...this.c.num_encoder_blocks.flatMap((count, i): Step[] => {
      const width = this.c.encoder_block_out_channels[i]!
      const first =
        i === 0
          ? new Conv2d({ in: this.c.in_channels, out: width, k: 3 })
          : new Conv2d({ in: width, out: width, k: 3, stride: 2, bias: false })
      return [first, ...blocks(count, width, this.c)]
    }),
    new Conv2d({ in: this.c.encoder_block_out_channels.at(-1)!, out: this.c.latent_channels, k: 3 }),
  ]
  layers = placed(this.#steps)

  forward(x: Tensor): Tensor {
    return run(this.#steps, x.add(1).mul(0.5), this.c)
  }
}

class Decoder extends Module<TinyVaeConfig> {
  readonly #steps: readonly Step[] = [
    new Conv2d({ in: this.c.latent_channels, out: this.c.decoder_block_out_channels[0]!, k: 3 }),
    "act",
    ...this.c.num_decoder_blocks.flatMap((count, i): Step[] => {
      const width = this.c.decoder_block_out_channels[i]!
      const last = i === this.c.num_decoder_blocks.length - 1
      const out = last ? this.c.out_channels : width
      const end = new Conv2d({ in: width, out, k: 3, bias: last })
      return [...blocks(count, width, this.c), ...(last ? [] : ["up" as const]), end]
    }),
  ]
  layers = placed(this.#steps)

  forward(z: Tensor): Tensor {
    // latents beyond three deviations are bent back
    const bent = z
      .mul(1 / 3)
      .tanh()
      .mul(3)
    return run(this.#steps, bent, this.c).mul(2).sub(1)
  }
}

const run = (steps: readonly Step[], from: Tensor, c: TinyVaeConfig): Tensor =>
  steps.reduce((x: Tensor, step) => {
    if (step === "act") return act(c)(x)
    if (step === "up") return x.resize(mulDim(2, x.shape[2]!), mulDim(2, x.shape[3]!))
    return step.forward(x)
  }, from)

/** A small autoencoder distilled from a large one: TAESD (Bohan 2023). Its latents are a picture's, without a draw. Key layout: diffusers. */
export class AutoencoderTiny extends Module<TinyVaeConfig> {
  encoder = new Encoder(this.c)
  decoder = new Decoder(this.c)
}

type Sizes = { b: Dim; h: Dim; w: Dim }

/** Input `latents` b z h w, output `image` b 3 H W of about -1..1. */
export function tinyDecoderGraph(
  c: TinyVaeConfig,
  { b, h, w }: Sizes,
): { net: AutoencoderTiny; graph: Graph } {
  const net = bind(new AutoencoderTiny(c))
  return {
    net,
    graph: { outputs: { image: net.decoder.forward(input("latents", [b, c.latent_channels, h, w])) } },
  }
}

/** Input `image` b 3 H W in -1..1, output `latents` b z h w. */
export function tinyEncoderGraph(
  c: TinyVaeConfig,
  { b, h, w }: Sizes,
): { net: AutoencoderTiny; graph: Graph } {
  const net = bind(new AutoencoderTiny(c))
  return {
    net,
    graph: { outputs: { latents: net.encoder.forward(input("image", [b, c.in_channels, h, w])) } },
  }
}

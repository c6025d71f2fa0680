import { z } from "zod"
import { type Dim, type Graph, input, mulDim, type Tensor } from "../graph/index.ts"
import {
  type Activation,
  Attention,
  activation,
  bind,
  Conv2d,
  GroupNorm,
  Module,
  Upsample,
} from "../nn/index.ts"
import { amount, levels, readConfig, refuse, size } from "./config.ts"

const schema = z.object({
  in_channels: size.default(3),
  out_channels: size.default(3),
  down_block_types: z.array(z.literal("DownEncoderBlock2D")).default(["DownEncoderBlock2D"]),
  up_block_types: z.array(z.literal("UpDecoderBlock2D")).default(["UpDecoderBlock2D"]),
  block_out_channels: z.array(size).min(1).max(16).default([64]),
  layers_per_block: amount.default(1),
  act_fn: z.enum(["silu", "swish", "gelu", "relu"]).default("silu"),
  latent_channels: size.default(4),
  norm_num_groups: size.default(32),
  scaling_factor: z.number().positive().default(0.18215),
  shift_factor: z.number().nullish(),
  latents_mean: z.array(z.number()).nullish(),
  latents_std: z.array(z.number()).nullish(),
  force_upcast: z.boolean().or(z.number()).nullish(),
  use_quant_conv: z.boolean().default(true),
  use_post_quant_conv: z.boolean().default(true),
  mid_block_add_attention: z.boolean().default(true),
})

export type VaeConfig = z.infer<typeof schema>

/** Reads the config.json of diffusers' AutoencoderKL. */
export function vaeConfig(json: unknown): VaeConfig {
  const what = "VAE config"
  const name = (json as { _class_name?: unknown })._class_name
  if (name !== undefined && name !== "AutoencoderKL")
    refuse(what, "_class_name", `${String(name)} is not AutoencoderKL`)
  const c = readConfig(schema, json, what)
  const count = c.block_out_channels.length
  levels(what, "down_block_types", c.down_block_types, count)
  levels(what, "up_block_types", c.up_block_types, count)
  const uneven = c.block_out_channels.find((channels) => channels % c.norm_num_groups !== 0)
  if (uneven) refuse(what, "norm_num_groups", `${c.norm_num_groups} does not divide ${uneven} channels`)
  return c
}

/** Pixels per latent, along each side. */
export const vaeFactor = (c: { block_out_channels: readonly number[] }): number =>
  2 ** (c.block_out_channels.length - 1)

interface Part {
  in: number
  out: number
  vae: VaeConfig
}

const act = (c: VaeConfig) => activation[(c.act_fn === "swish" ? "silu" : c.act_fn) as Activation]
const norm = (channels: number, c: VaeConfig) =>
  new GroupNorm({ channels, groups: c.norm_num_groups, eps: 1e-6 })

/** Residual block without time: two normalised convolutions (He et al. 2016; Esser et al. 2021). */
class ResBlock extends Module<Part> {
  norm1 = norm(this.c.in, this.c.vae)
  conv1 = new Conv2d({ in: this.c.in, out: this.c.out, k: 3 })
  norm2 = norm(this.c.out, this.c.vae)
  conv2 = new Conv2d({ in: this.c.out, out: this.c.out, k: 3 })
  convShortcut = this.c.in === this.c.out ? null : new Conv2d({ in: this.c.in, out: this.c.out, k: 1 })

  forward(x: Tensor): Tensor {
    // b in h w -> b out h w
    const s = act(this.c.vae)
    const h = this.conv1.forward(s(this.norm1.forward(x)))
    return (this.convShortcut?.forward(x) ?? x).add(this.conv2.forward(s(this.norm2.forward(h))))
  }
}

/** One head of attention over all places of the smallest feature map. */
class SpatialAttention extends Attention {
  groupNorm: GroupNorm

  constructor(channels: number, c: VaeConfig) {
    super({ size: channels, context: channels, heads: 1, head: channels, bias: true })
    this.groupNorm = norm(channels, c)
  }

  over(x: Tensor): Tensor {
    // b c h w
    const [, , h, w] = x.dims("b c h w")
    const flat = this.groupNorm.forward(x).rearrange("b c h w -> b (h w) c")
    return x.add(this.forward(flat).rearrange("b (h w) c -> b c h w", { h, w }))
  }
}

class MidBlock extends Module<{ channels: number; vae: VaeConfig }> {
  resnets = [0, 1].map(() => new ResBlock({ in: this.c.channels, out: this.c.channels, vae: this.c.vae }))
  attentions = this.c.vae.mid_block_add_attention ? [new SpatialAttention(this.c.channels, this.c.vae)] : []

  forward(x: Tensor): Tensor {
    const h = this.resnets[0]!.forward(x)
    return this.resnets[1]!.forward(this.attentions[0]?.over(h) ?? h)
  }
}

class DownBlock extends Module<Part & { shrink: boolean }> {
  resnets = Array.from(
    { length: this.c.vae.layers_per_block },
    (_, i) => new ResBlock({ ...this.c, in: i === 0 ? this.c.in : this.c.out }),
  )
  downsamplers = this.c.shrink
    ? [{ conv: new Conv2d({ in: this.c.out, out: this.c.out, k: 3, stride: 2, pad: [0, 0, 1, 1] }) }]
    : []

  forward(x: Tensor): Tensor {
    const h = this.resnets.reduce((y, r) => r.forward(y), x)
    return this.downsamplers[0]?.conv.forward(h) ?? h
  }
}

class UpBlock extends Module<Part & { grow: boolean }> {
  resnets = Array.from(
    { length: this.c.vae.layers_per_block + 1 },
    (_, i) => new ResBlock({ ...this.c, in: i === 0 ? this.c.in : this.c.out }),
  )
  upsamplers = this.c.grow ? [new Upsample({ channels: this.c.out })] : []

  forward(x: Tensor): Tensor {
    const h = this.resnets.reduce((y, r) => r.forward(y), x)
    return this.upsamplers[0]?.forward(h, mulDim(2, h.shape[2]!), mulDim(2, h.shape[3]!)) ?? h
  }
}

class Encoder extends Module<VaeConfig> {
  private widths = this.c.block_out_channels
  convIn = new Conv2d({ in: this.c.in_channels, out: this.widths[0]!, k: 3 })
  downBlocks = this.widths.map(
    (out, i) =>
      new DownBlock({
        in: this.widths[i - 1] ?? this.widths[0]!,
        out,
        vae: this.c,
        shrink: i < this.widths.length - 1,
      }),
  )
  midBlock = new MidBlock({ channels: this.widths.at(-1)!, vae: this.c })
  convNormOut = norm(this.widths.at(-1)!, this.c)
  convOut = new Conv2d({ in: this.widths.at(-1)!, out: 2 * this.c.latent_channels, k: 3 })

  forward(x: Tensor): Tensor {
    // b 3 8h 8w -> b 2z h w
    const h = this.midBlock.forward(
      this.downBlocks.reduce((y, block) => block.forward(y), this.convIn.forward(x)),
    )
    return this.convOut.forward(activation.silu(this.convNormOut.forward(h)))
  }
}

class Decoder extends Module<VaeConfig> {
  private widths = [...this.c.block_out_channels].reverse()
  convIn = new Conv2d({ in: this.c.latent_channels, out: this.widths[0]!, k: 3 })
  upBlocks = this.widths.map(
    (out, i) =>
      new UpBlock({
        in: this.widths[i - 1] ?? this.widths[0]!,
        out,
        vae: this.c,
        grow: i < this.widths.length - 1,
      }),
  )
  midBlock = new MidBlock({ channels: this.widths[0]!, vae: this.c })
  convNormOut = norm(this.widths.at(-1)!, this.c)
  convOut = new Conv2d({ in: this.widths.at(-1)!, out: this.c.out_channels, k: 3 })

  forward(z: Tensor): Tensor {
    // b z h w -> b 3 8h 8w
    const h = this.upBlocks.reduce(
      (y, block) => block.forward(y),
      this.midBlock.forward(this.convIn.forward(z)),
    )
    return this.convOut.forward(activation.silu(this.convNormOut.forward(h)))
  }
}

/** The autoencoder that takes pictures to latents and back: Kingma & Welling 2014; Rombach et al. 2022, sec. 3.1. Key layout: diffusers. */
export class AutoencoderKL extends Module<VaeConfig> {
  encoder = new Encoder(this.c)
  decoder = new Decoder(this.c)
  quantConv = this.c.use_quant_conv
    ? new Conv2d({ in: 2 * this.c.latent_channels, out: 2 * this.c.latent_channels, k: 1 })
    : null
  postQuantConv = this.c.use_post_quant_conv
    ? new Conv2d({ in: this.c.latent_channels, out: this.c.latent_channels, k: 1 })
    : null

  /** Mean and logarithm of variance, side by side: b 3 H W -> b 2z h w. */
  encode(x: Tensor): Tensor {
    const h = this.encoder.forward(x)
    return this.quantConv?.forward(h) ?? h
  }

  /** Latents without their scaling factor to a picture of about -1..1. */
  decode(z: Tensor): Tensor {
    return this.decoder.forward(this.postQuantConv?.forward(z) ?? z)
  }
}

/** Input `latents` b z h w (already divided by the scaling factor), output `image` b 3 H W. */
export function decoderGraph(
  c: VaeConfig,
  sizes: { b: Dim; h: Dim; w: Dim },
): { net: AutoencoderKL; graph: Graph } {
  const net = bind(new AutoencoderKL(c))
  return {
    net,
    graph: {
      outputs: { image: net.decode(input("latents", [sizes.b, c.latent_channels, sizes.h, sizes.w])) },
    },
  }
}

/** Input `image` b 3 H W in -1..1, output `moments` b 2z h w. Sizes are those of the picture. */
export function encoderGraph(
  c: VaeConfig,
  sizes: { b: Dim; h: Dim; w: Dim },
): { net: AutoencoderKL; graph: Graph } {
  const net = bind(new AutoencoderKL(c))
  return {
    net,
    graph: { outputs: { moments: net.encode(input("image", [sizes.b, c.in_channels, sizes.h, sizes.w])) } },
  }
}

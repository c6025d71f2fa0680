import { z } from "zod"
import { concat, type Dim, type Graph, input, mulDim, scalar, type Tensor } from "../graph/index.ts"
import { bind, Conv2d, Module } from "../nn/index.ts"
import { refuse, size } from "./config.ts"
import { TimeEmbedding } from "./time-embedding.ts"
import { DownBlock, type Extras, embedTime, MidBlock, skipChannels } from "./unet.ts"
import { type UNetConfig, unetConfig } from "./unet-config.ts"
import { conditionInputs } from "./unet-graph.ts"

const own = z.object({
  conditioning_channels: size.default(3),
  conditioning_embedding_out_channels: z.array(size).min(1).max(8).default([16, 32, 96, 256]),
  controlnet_conditioning_channel_order: z.enum(["rgb", "bgr"]).default("rgb"),
  global_pool_conditions: z.boolean().default(false),
})

export interface ControlNetConfig extends z.infer<typeof own> {
  /** The half of the U-Net that is copied: its way up is never built. */
  readonly unet: UNetConfig
}

/** Reads the config.json of diffusers' ControlNetModel. */
export function controlNetConfig(json: unknown): ControlNetConfig {
  const { _class_name, ...rest } = json as { [key: string]: unknown }
  const what = "ControlNet config"
  if (_class_name !== undefined && _class_name !== "ControlNetModel")
    refuse(what, "_class_name", `${String(_class_name)} is not ControlNetModel`)
  const mine = own.safeParse(rest)
  if (!mine.success) {
    const issue = mine.error.issues[0]!
    return refuse(what, issue.path.join("."), issue.message)
  }
  const shared = Object.fromEntries(Object.entries(rest).filter(([key]) => !(key in own.shape)))
  const usual = [...Array.from({ length: 3 }, () => "CrossAttnDownBlock2D"), "DownBlock2D"]
  const down = shared.down_block_types ?? usual
  const up = Array.isArray(down) ? down.map((type) => String(type).replace("Down", "Up")).reverse() : down
  return { ...mine.data, unet: unetConfig({ ...shared, down_block_types: down, up_block_types: up }) }
}

/** Pixels of the picture per latent: the hint encoder halves at every second layer. */
export const hintFactor = (c: ControlNetConfig): number =>
  2 ** (c.conditioning_embedding_out_channels.length - 1)

/** The small network that brings the condition picture to the size of latents: Zhang et al. 2023, sec. 3.2. */
class HintEncoder extends Module<ControlNetConfig> {
  private widths = this.c.conditioning_embedding_out_channels
  convIn = new Conv2d({ in: this.c.conditioning_channels, out: this.widths[0]!, k: 3 })
  blocks = this.widths
    .slice(1)
    .flatMap((out, i) => [
      new Conv2d({ in: this.widths[i]!, out: this.widths[i]!, k: 3 }),
      new Conv2d({ in: this.widths[i]!, out, k: 3, stride: 2 }),
    ])
  convOut = new Conv2d({ in: this.widths.at(-1)!, out: this.c.unet.block_out_channels[0]!, k: 3 })

  forward(hint: Tensor): Tensor {
    // b 3 8h 8w -> b c0 h w
    const first = this.convIn.forward(hint).silu()
    return this.convOut.forward(this.blocks.reduce((y, conv) => conv.forward(y).silu(), first))
  }
}

/** A copy of the U-Net's way down that reads a picture and speaks through zero convolutions: Zhang et al. 2023. Key layout: diffusers. */
export class ControlNet extends Module<ControlNetConfig> {
  private unet = this.c.unet
  private widest = this.unet.block_out_channels.at(-1)!
  convIn = new Conv2d({
    in: this.unet.in_channels,
    out: this.unet.block_out_channels[0]!,
    k: this.unet.conv_in_kernel,
  })
  timeEmbedding = new TimeEmbedding({
    in: this.unet.block_out_channels[0]!,
    out: this.unet.timeSize,
    act: this.unet.act_fn,
    cond: this.unet.time_cond_proj_dim,
  })
  addEmbedding = this.unet.addition_embed_type
    ? new TimeEmbedding({
        in: this.unet.projection_class_embeddings_input_dim!,
        out: this.unet.timeSize,
        act: "silu",
      })
    : null
  controlnetCondEmbedding = new HintEncoder(this.c)
  downBlocks = this.unet.down.map(
    (level, i) =>
      new DownBlock({
        in: this.unet.down[i - 1]?.channels ?? this.unet.block_out_channels[0]!,
        level,
        last: i === this.unet.down.length - 1,
        unet: this.unet,
      }),
  )
  controlnetDownBlocks = skipChannels(this.unet).map((n) => new Conv2d({ in: n, out: n, k: 1 }))
  midBlock = this.unet.mid ? new MidBlock({ channels: this.widest, unet: this.unet }) : null
  controlnetMidBlock = new Conv2d({ in: this.widest, out: this.widest, k: 1 })

  /** What is added to the U-Net's skips, in order, and to its middle; strength is b 1 1 1. */
  forward(
    x: Tensor,
    t: Tensor,
    hint: Tensor,
    strength: Tensor,
    { context, extras }: { context: Tensor; extras: Extras },
  ): Tensor[] {
    const parts = { c: this.unet, timeEmbedding: this.timeEmbedding, addEmbedding: this.addEmbedding }
    const flow = { temb: embedTime(parts, t, x.shape[0]!, extras), context }
    const skips = [this.convIn.forward(x).add(this.controlnetCondEmbedding.forward(hint))]
    for (const block of this.downBlocks) skips.push(...block.forward(skips.at(-1)!, flow))
    const mid = this.midBlock?.forward(skips.at(-1)!, flow) ?? skips.at(-1)!
    const spoken = skips.map((s, i) => this.controlnetDownBlocks[i]!.forward(s))
    return [...spoken, this.controlnetMidBlock.forward(mid)].map((r) => {
      const scaled = r.mul(strength)
      // pooled over places, and spread over them again for the U-Net
      return this.c.global_pool_conditions ? scaled.mean([2, 3], true).broadcastTo(scaled.shape) : scaled
    })
  }
}

/** Factors of guess mode: 0.1 for the finest level to 1 for the middle, evenly in logarithm (diffusers). */
const guessFactors = (count: number) => Array.from({ length: count }, (_, i) => 10 ** (-1 + i / (count - 1)))

/**
 * A ControlNet as a graph. Inputs: those of the U-Net (`latents` with its own channels), `hint` 1 3 H W in 0..1 and
 * `strength` b 1 1 1. Outputs: `r0` ... in the order of the U-Net's skips, the middle's last.
 */
export function controlNetGraph(
  c: ControlNetConfig,
  sizes: { b: Dim; h: Dim; w: Dim; tokens: Dim },
  guess: boolean,
): { net: ControlNet; graph: Graph } {
  const net = bind(new ControlNet(c))
  const { b, h, w } = sizes
  const factor = hintFactor(c)
  const rgb = input("hint", [1, c.conditioning_channels, mulDim(factor, h), mulDim(factor, w)])
  const residuals = net.forward(
    input("latents", [b, c.unet.in_channels, h, w]),
    input("timestep", [1]),
    c.controlnet_conditioning_channel_order === "bgr" ? flipped(rgb, c.conditioning_channels) : rgb,
    input("strength", [b, 1, 1, 1]),
    conditionInputs(c.unet, sizes),
  )
  const factors = guess && !c.global_pool_conditions ? guessFactors(residuals.length) : null
  const named = residuals.map((r, i) => [`r${i}`, factors ? r.mul(scalar(factors[i]!)) : r] as const)
  return { net, graph: { outputs: Object.fromEntries(named) } }
}

const flipped = (x: Tensor, channels: number): Tensor =>
  concat(
    Array.from({ length: channels }, (_, i) => x.slice(1, channels - 1 - i, channels - i)),
    1,
  )

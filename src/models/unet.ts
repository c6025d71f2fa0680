import { concat, type Dim, input, type Tensor } from "../graph/index.ts"
import {
  Conv2d,
  GroupNorm,
  type ImagePrompt,
  Linear,
  Module,
  mergeTokens,
  TransformerBlock,
  Upsample,
} from "../nn/index.ts"
import { act, sinusoid, TimeEmbedding } from "./time-embedding.ts"
import type { Level, UNetConfig } from "./unet-config.ts"

interface ResConfig {
  in: number
  out: number
  unet: UNetConfig
  outScale?: number
}

/** Residual block with time shift: Ho et al. 2020, App. B. Key layout: diffusers. */
export class ResBlock extends Module<ResConfig> {
  private scaled = this.c.unet.resnet_time_scale_shift === "scale_shift"
  norm1 = new GroupNorm({
    channels: this.c.in,
    groups: this.c.unet.norm_num_groups,
    eps: this.c.unet.norm_eps,
  })
  conv1 = new Conv2d({ in: this.c.in, out: this.c.out, k: 3 })
  timeEmbProj = new Linear({ in: this.c.unet.timeSize, out: this.scaled ? 2 * this.c.out : this.c.out })
  norm2 = new GroupNorm({
    channels: this.c.out,
    groups: this.c.unet.norm_num_groups,
    eps: this.c.unet.norm_eps,
  })
  conv2 = new Conv2d({ in: this.c.out, out: this.c.out, k: 3 })
  convShortcut = this.c.in === this.c.out ? null : new Conv2d({ in: this.c.in, out: this.c.out, k: 1 })

  forward(x: Tensor, temb: Tensor): Tensor {
    // x: b in h w   temb: b time
    const { out, unet, outScale = 1 } = this.c
    const s = act(unet.act_fn)
    let h = this.conv1.forward(s(this.norm1.forward(x))) // b out h w
    const shift = this.timeEmbProj.forward(s(temb)).rearrange("b c -> b c 1 1")
    if (this.scaled)
      h = this.norm2
        .forward(h)
        .mul(shift.slice(1, 0, out).add(1))
        .add(shift.slice(1, out, 2 * out))
    else h = this.norm2.forward(h.add(shift))
    h = (this.convShortcut?.forward(x) ?? x).add(this.conv2.forward(s(h)))
    return outScale === 1 ? h : h.mul(1 / outScale)
  }
}

interface SpatialConfig {
  channels: number
  heads: number
  context: number
  depth: number
  onlyCross: boolean
  unet: UNetConfig
  /** On the largest map that has attention. */
  largest?: boolean
}

/** Transformer over the places of a feature map, reading the prompt: Rombach et al. 2022, sec. 3.3. */
export class SpatialTransformer extends Module<SpatialConfig> {
  private head = Math.floor(this.c.channels / this.c.heads)
  private inner = this.head * this.c.heads
  norm = new GroupNorm({ channels: this.c.channels, groups: this.c.unet.norm_num_groups, eps: 1e-6 })
  projIn = this.c.unet.use_linear_projection
    ? new Linear({ in: this.c.channels, out: this.inner })
    : new Conv2d({ in: this.c.channels, out: this.inner, k: 1 })
  transformerBlocks = Array.from(
    { length: this.c.depth },
    () =>
      new TransformerBlock({
        size: this.inner,
        context: this.c.context,
        heads: this.c.heads,
        head: this.head,
        onlyCross: this.c.onlyCross,
      }),
  )
  projOut = this.c.unet.use_linear_projection
    ? new Linear({ in: this.inner, out: this.c.channels })
    : new Conv2d({ in: this.inner, out: this.c.channels, k: 1 })

  forward(x: Tensor, { context, images, merge = 0 }: Omit<Flow, "temb">): Tensor {
    // b c h w   b t context
    const [, , h, w] = x.dims("b c h w")
    const fewer = merge > 0 && this.c.largest ? (y: Tensor) => mergeTokens(y, h, w, merge) : undefined
    const flat = (y: Tensor) => y.rearrange("b c h w -> b (h w) c")
    const spatial = (y: Tensor) => y.rearrange("b (h w) c -> b c h w", { h, w })
    const linear = this.c.unet.use_linear_projection
    const normed = this.norm.forward(x)
    const into = linear ? this.projIn.forward(flat(normed)) : flat(this.projIn.forward(normed))
    const y = this.transformerBlocks.reduce((z, block) => block.forward(z, context, images, fewer), into)
    return x.add(linear ? spatial(this.projOut.forward(y)) : this.projOut.forward(spatial(y)))
  }
}

function transformers(level: Level, unet: UNetConfig): SpatialTransformer[] {
  if (!level.attention) return []
  const first = unet.down.findIndex((l) => l.attention)
  const largest = level === unet.down[first] || level === unet.up.at(-1 - first)
  return level.depth.map((depth) => new SpatialTransformer({ ...level, depth, unet, largest }))
}

/** What flows through the network beside the picture. */
export interface Flow {
  temb: Tensor
  context: Tensor
  images?: readonly ImagePrompt[]
  /** Share of the tokens that attention on the largest map does without. */
  merge?: number
}

export class DownBlock extends Module<{ in: number; level: Level; last: boolean; unet: UNetConfig }> {
  private out = this.c.level.channels
  attentions = transformers(this.c.level, this.c.unet)
  resnets = Array.from(
    { length: this.c.level.layers },
    (_, i) => new ResBlock({ in: i === 0 ? this.c.in : this.out, out: this.out, unet: this.c.unet }),
  )
  downsamplers = this.c.last
    ? []
    : [
        {
          conv: new Conv2d({
            in: this.out,
            out: this.out,
            k: 3,
            stride: 2,
            pad: this.c.unet.downsample_padding === 0 ? [0, 0, 1, 1] : 1,
          }),
        },
      ]

  /** The result of every layer; the last goes on, all return on the way up. */
  forward(x: Tensor, { temb, ...heard }: Flow, told: (like: Tensor) => Tensor = (h) => h): Tensor[] {
    const outs: Tensor[] = []
    // a T2I-Adapter speaks after the last attention, or after the block where there is none (Mou et al. 2023)
    const within = this.attentions.length > 0
    this.resnets.forEach((resnet, i) => {
      const h = resnet.forward(outs.at(-1) ?? x, temb)
      const y = this.attentions[i]?.forward(h, heard) ?? h
      outs.push(within && i === this.resnets.length - 1 ? told(y) : y)
    })
    for (const { conv } of this.downsamplers) outs.push(conv.forward(outs.at(-1)!))
    if (!within) outs.push(told(outs.pop()!))
    return outs
  }
}

export class MidBlock extends Module<{ channels: number; unet: UNetConfig }> {
  private mid = this.c.unet.mid!
  private res = {
    in: this.c.channels,
    out: this.c.channels,
    unet: this.c.unet,
    outScale: this.c.unet.mid_block_scale_factor,
  }
  attentions = this.mid.attention
    ? [new SpatialTransformer({ ...this.mid, channels: this.c.channels, unet: this.c.unet })]
    : []
  resnets = Array.from({ length: this.mid.attention ? 2 : 1 }, () => new ResBlock(this.res))

  forward(x: Tensor, { temb, ...heard }: Flow): Tensor {
    const h = this.resnets[0]!.forward(x, temb)
    return this.attentions.length > 0
      ? this.resnets[1]!.forward(this.attentions[0]!.forward(h, heard), temb)
      : h
  }
}

class UpBlock extends Module<{
  skips: readonly number[]
  in: number
  level: Level
  last: boolean
  unet: UNetConfig
}> {
  private out = this.c.level.channels
  attentions = transformers(this.c.level, this.c.unet)
  resnets = this.c.skips.map(
    (skip, i) =>
      new ResBlock({ in: (i === 0 ? this.c.in : this.out) + skip, out: this.out, unet: this.c.unet }),
  )
  upsamplers = this.c.last ? [] : [new Upsample({ channels: this.out })]

  /** @param entered what the last layer gets for what comes up to it */
  forward(
    x: Tensor,
    skips: Tensor[],
    { temb, ...heard }: Flow,
    entered: (h: Tensor) => Tensor = (h) => h,
  ): Tensor {
    const h = this.resnets.reduce((below, resnet, i) => {
      const y = i === this.resnets.length - 1 ? entered(below) : below
      const joined = resnet.forward(concat([y, skips.pop()!], 1), temb)
      return this.attentions[i]?.forward(joined, heard) ?? joined
    }, x)
    // the next skip knows the size to return to, odd ones included
    return this.upsamplers[0]?.forward(h, skips.at(-1)!.shape[2]!, skips.at(-1)!.shape[3]!) ?? h
  }
}

/** Channels of each layer's result on the way down, the first convolution's included. */
export function skipChannels(c: UNetConfig): number[] {
  const skips = [c.block_out_channels[0]!]
  c.down.forEach((level, i) => {
    const count = level.layers + (i < c.down.length - 1 ? 1 : 0)
    skips.push(...Array.from({ length: count }, () => level.channels))
  })
  return skips
}

function upBlocks(c: UNetConfig): UpBlock[] {
  const skips = skipChannels(c)
  return c.up.map((level, i) => {
    const taken = skips.splice(skips.length - level.layers).reverse()
    return new UpBlock({
      skips: taken,
      in: c.up[i - 1]?.channels ?? level.channels,
      level,
      last: i === c.up.length - 1,
      unet: c,
    })
  })
}

/** Extra inputs that a configuration asks for. */
export interface Extras {
  /** b p: pooled text; SDXL. */
  textEmbeds?: Tensor
  /** b n: sizes and crops; SDXL. */
  timeIds?: Tensor
  /** b cond: sinusoid of the guidance scale; guidance-distilled models. */
  guidance?: Tensor
  /** How many ControlNets add to the skips and to the middle: inputs `control0.r0` ..., shaped as what they are added to. */
  controls?: number
  /** Channels of a T2I-Adapter's features, level by level: inputs `features0` ..., one row for all. */
  features?: readonly number[]
  /** Pictures that speak beside the prompt. */
  images?: readonly ImagePrompt[]
  /** Share of tokens that are merged for self-attention on the largest map that has attention (`mergeTokens`). */
  merge?: number
  /** Takes what comes up to the network's last layer, and gives what goes on in its place. */
  deep?: (h: Tensor) => Tensor
}

/** Time, guidance and size embeddings in one vector: b time. */
export function embedTime(
  net: { c: UNetConfig; timeEmbedding: TimeEmbedding; addEmbedding: TimeEmbedding | null },
  t: Tensor,
  rows: Dim,
  extras: Extras,
): Tensor {
  const { c } = net
  const wave = sinusoid(t, c.block_out_channels[0]!, c.flip_sin_to_cos, c.freq_shift) // 1 c0
  const temb = net.timeEmbedding.forward(wave, extras.guidance) // 1|b time
  if (!net.addEmbedding) return temb
  const flat = extras.timeIds!.rearrange("b n -> (b n)")
  const ids = sinusoid(flat, c.addition_time_embed_dim!, c.flip_sin_to_cos, c.freq_shift)
  const sizes = ids.rearrange("(b n) d -> b (n d)", { b: rows })
  return temb.add(net.addEmbedding.forward(concat([extras.textEmbeds!, sizes], 1)))
}

/** The denoising U-Net of Stable Diffusion: Rombach et al. 2022; Podell et al. 2023 for SDXL's additions. Key layout: diffusers. */
export class UNet extends Module<UNetConfig> {
  convIn = new Conv2d({
    in: this.c.in_channels,
    out: this.c.block_out_channels[0]!,
    k: this.c.conv_in_kernel,
  })
  timeEmbedding = new TimeEmbedding({
    in: this.c.block_out_channels[0]!,
    out: this.c.timeSize,
    act: this.c.act_fn,
    post: this.c.timestep_post_act,
    cond: this.c.time_cond_proj_dim,
  })
  addEmbedding = this.c.addition_embed_type
    ? new TimeEmbedding({
        in: this.c.projection_class_embeddings_input_dim!,
        out: this.c.timeSize,
        act: "silu",
      })
    : null
  downBlocks = this.c.down.map(
    (level, i) =>
      new DownBlock({
        in: this.c.down[i - 1]?.channels ?? this.c.block_out_channels[0]!,
        level,
        last: i === this.c.down.length - 1,
        unet: this.c,
      }),
  )
  midBlock = this.c.mid ? new MidBlock({ channels: this.c.block_out_channels.at(-1)!, unet: this.c }) : null
  upBlocks = upBlocks(this.c)
  convNormOut = new GroupNorm({
    channels: this.c.block_out_channels[0]!,
    groups: this.c.norm_num_groups,
    eps: this.c.norm_eps,
  })
  convOut = new Conv2d({
    in: this.c.block_out_channels[0]!,
    out: this.c.out_channels,
    k: this.c.conv_out_kernel,
  })

  forward(x: Tensor, t: Tensor, context: Tensor, extras: Extras = {}): Tensor {
    // b 4 h w   1   b t context
    const embedded = embedTime(this, t, x.shape[0]!, extras)
    const after = this.c.time_embedding_act_fn
    const flow = {
      temb: after ? act(after)(embedded) : embedded,
      context,
      ...(extras.images ? { images: extras.images } : {}),
      merge: extras.merge ?? 0,
    }
    const features = [...(extras.features ?? [])]
    const count = features.length
    const hear = (like: Tensor): Tensor => {
      if (features.length === 0 || features[0] !== like.shape[1]) return like
      const name = `features${count - features.length}`
      features.shift()
      return like.add(input(name, [1, ...like.shape.slice(1)]))
    }
    const centred = this.c.center_input_sample ? x.mul(2).sub(1) : x
    let skips = [this.convIn.forward(centred)]
    for (const block of this.downBlocks) skips.push(...block.forward(skips.at(-1)!, flow, hear))
    let h = this.midBlock ? hear(this.midBlock.forward(skips.at(-1)!, flow)) : skips.at(-1)!
    for (let k = 0; k < (extras.controls ?? 0); k++) {
      const count = skips.length
      const told = (i: number, like: Tensor) => like.add(input(`control${k}.r${i}`, like.shape))
      skips = skips.map((s, i) => told(i, s))
      h = told(count, h)
    }
    for (const block of this.upBlocks)
      h = block.forward(h, skips, flow, block === this.upBlocks.at(-1) ? extras.deep : undefined)
    return this.convOut.forward(act(this.c.act_fn)(this.convNormOut.forward(h)))
  }
}

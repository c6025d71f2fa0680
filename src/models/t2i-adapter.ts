import { z } from "zod"
import { concat, type Graph, input, type Tensor } from "../graph/index.ts"
import { bind, Conv2d, Module } from "../nn/index.ts"
import { amount, readConfig, size } from "./config.ts"

const kinds = ["full_adapter", "full_adapter_xl", "light_adapter"] as const
const schema = z.object({
  adapter_type: z.enum(kinds).default("full_adapter"),
  in_channels: size.max(4).default(3),
  channels: z.array(size).min(1).max(8).default([320, 640, 1280, 1280]),
  num_res_blocks: amount.default(2),
  downscale_factor: size.max(64).default(8),
})

export type T2iAdapterConfig = z.infer<typeof schema>

/** Reads the config.json of diffusers' T2IAdapter. */
export const t2iAdapterConfig = (json: unknown): T2iAdapterConfig =>
  readConfig(schema, json, "T2I-Adapter config")

interface BlockConfig {
  in: number
  out: number
  down: boolean
  config: T2iAdapterConfig
}

class ResBlock extends Module<{ channels: number; k: number }> {
  block1 = new Conv2d({ in: this.c.channels, out: this.c.channels, k: 3 })
  block2 = new Conv2d({ in: this.c.channels, out: this.c.channels, k: this.c.k })

  forward(x: Tensor): Tensor {
    return this.block2.forward(this.block1.forward(x).relu()).add(x)
  }
}

class Block extends Module<BlockConfig> {
  private light = this.c.config.adapter_type === "light_adapter"
  private middle = this.light ? Math.floor(this.c.out / 4) : this.c.out
  inConv =
    this.light || this.c.in !== this.c.out ? new Conv2d({ in: this.c.in, out: this.middle, k: 1 }) : null
  resnets = Array.from(
    { length: this.c.config.num_res_blocks },
    () => new ResBlock({ channels: this.middle, k: this.light ? 3 : 1 }),
  )
  outConv = this.light ? new Conv2d({ in: this.middle, out: this.c.out, k: 1 }) : null

  forward(x: Tensor): Tensor {
    const small = this.c.down ? halved(x) : x
    const start = this.inConv?.forward(small) ?? small
    const y = this.resnets.reduce((z, block) => block.forward(z), start)
    return this.outConv?.forward(y) ?? y
  }
}

/** Means of two by two places; a row or column without a partner stands for both. */
function halved(x: Tensor): Tensor {
  const [, , h, w] = x.shape as [number, number, number, number]
  const partner = (y: Tensor, axis: number, length: number): Tensor =>
    length % 2 === 0 ? y : concat([y, y.slice(axis, length - 1, length)], axis)
  const even = partner(partner(x, 2, h), 3, w)
  return even.rearrange("b c (h r) (w s) -> b c h w r s", { r: 2, s: 2 }).mean([4, 5])
}

function blocks(config: T2iAdapterConfig): Block[] {
  const { adapter_type: kind, channels, in_channels, downscale_factor: r } = config
  const block = (from: number, out: number, down: boolean) => new Block({ in: from, out, down, config })
  if (kind === "light_adapter") {
    const first = block(in_channels * r * r, channels[0]!, false)
    const last = channels.at(-1)!
    return [
      first,
      ...channels.slice(1).map((out, i) => block(channels[i]!, out, true)),
      block(last, last, true),
    ]
  }
  return channels.map((out, i) => {
    const before = channels[i - 1] ?? out
    if (kind === "full_adapter") return block(before, out, i > 0)
    return i === 1 || i === 2 ? block(before, out, i === 2) : block(out, out, false)
  })
}

/** Reads a picture once and speaks to every level of the U-Net's way down: Mou et al. 2023, sec. 3.2. Key layout: diffusers. */
export class T2iAdapter extends Module<T2iAdapterConfig> {
  private light = this.c.adapter_type === "light_adapter"
  adapter = {
    convIn: this.light
      ? null
      : new Conv2d({
          in: this.c.in_channels * this.c.downscale_factor ** 2,
          out: this.c.channels[0]!,
          k: 3,
        }),
    body: blocks(this.c),
  }

  /** Pixels 1 c H W in 0..1 to one feature map per level. */
  forward(pixels: Tensor): Tensor[] {
    const r = this.c.downscale_factor
    const x = pixels.rearrange("b c (h r) (w s) -> b (c r s) h w", { r, s: r })
    const maps = [this.adapter.convIn?.forward(x) ?? x]
    for (const block of this.adapter.body) maps.push(block.forward(maps.at(-1)!))
    return maps.slice(1)
  }
}

/** Channels of its feature maps. */
export const featureChannels = ({ adapter_type: kind, channels }: T2iAdapterConfig): number[] =>
  kind === "light_adapter" ? [...channels, channels.at(-1)!] : [...channels]

/** Input `pixels` 1 c H W, sides multiples of the downscale factor; outputs `features0` ... */
export function t2iAdapterGraph(
  c: T2iAdapterConfig,
  { height, width }: { height: number; width: number },
): { net: T2iAdapter; graph: Graph } {
  const net = bind(new T2iAdapter(c))
  const maps = net.forward(input("pixels", [1, c.in_channels, height, width]))
  return { net, graph: { outputs: Object.fromEntries(maps.map((map, i) => [`features${i}`, map])) } }
}

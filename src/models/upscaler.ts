import { apply, concat, type Dim, type Graph, input, mulDim, type Tensor } from "../graph/index.ts"
import { bind, Conv2d, Module, Param } from "../nn/index.ts"

/** Sizes of an ESRGAN generator, as its weights tell them. */
export interface RrdbConfig {
  readonly kind: "rrdb"
  readonly channels: number
  /** Channels that each dense layer adds. */
  readonly growth: number
  readonly blocks: number
  /** Doublings at the end. */
  readonly doublings: number
  /** Places of a side that become channels first (Real-ESRGAN's x2 and x1), 1 for none. */
  readonly fold: number
}

/** Sizes of Real-ESRGAN's compact generator. */
export interface CompactConfig {
  readonly kind: "compact"
  readonly channels: number
  readonly layers: number
  readonly factor: number
}

export type UpscalerConfig = RrdbConfig | CompactConfig

/** Output pixels per input pixel along each side. */
export const upscaleFactor = (c: UpscalerConfig): number =>
  c.kind === "compact" ? c.factor : 2 ** c.doublings / c.fold

const conv = (from: number, to: number) => new Conv2d({ in: from, out: to, k: 3 })
const leaky = (x: Tensor): Tensor => x.max(x.mul(0.2))

/** Five convolutions, each reading what all before it gave: Wang et al. 2018, fig. 4. */
class DenseBlock extends Module<RrdbConfig> {
  conv1 = conv(this.c.channels, this.c.growth)
  conv2 = conv(this.c.channels + this.c.growth, this.c.growth)
  conv3 = conv(this.c.channels + 2 * this.c.growth, this.c.growth)
  conv4 = conv(this.c.channels + 3 * this.c.growth, this.c.growth)
  conv5 = conv(this.c.channels + 4 * this.c.growth, this.c.channels)

  forward(x: Tensor): Tensor {
    // b c h w
    const seen = [x]
    for (const layer of [this.conv1, this.conv2, this.conv3, this.conv4])
      seen.push(leaky(layer.forward(concat([...seen], 1))))
    return x.add(this.conv5.forward(concat([...seen], 1)).mul(0.2))
  }
}

class ResidualBlock extends Module<RrdbConfig> {
  rdb1 = new DenseBlock(this.c)
  rdb2 = new DenseBlock(this.c)
  rdb3 = new DenseBlock(this.c)

  forward(x: Tensor): Tensor {
    const h = this.rdb3.forward(this.rdb2.forward(this.rdb1.forward(x)))
    return x.add(h.mul(0.2))
  }
}

/** ESRGAN's generator: Wang et al. 2018; with folded input Real-ESRGAN's, Wang et al. 2021. Key layout: BasicSR. */
export class RrdbNet extends Module<RrdbConfig> {
  convFirst = conv(3 * this.c.fold ** 2, this.c.channels)
  body = Array.from({ length: this.c.blocks }, () => new ResidualBlock(this.c))
  convBody = conv(this.c.channels, this.c.channels)
  /** conv_up1, conv_up2, ... */
  convUp = Object.fromEntries(
    Array.from({ length: this.c.doublings }, (_, i) => [i + 1, conv(this.c.channels, this.c.channels)]),
  )
  convHr = conv(this.c.channels, this.c.channels)
  convLast = conv(this.c.channels, 3)

  forward(x: Tensor): Tensor {
    // b 3 h w -> b 3 factor*h factor*w
    const { fold, doublings } = this.c
    const folded = fold === 1 ? x : x.rearrange("b c (h r) (w s) -> b (c r s) h w", { r: fold, s: fold })
    const first = this.convFirst.forward(folded)
    let h = first.add(this.convBody.forward(this.body.reduce((y, block) => block.forward(y), first)))
    for (let i = 1; i <= doublings; i++)
      h = leaky(this.convUp[i]!.forward(h.resize(mulDim(2, h.shape[2]!), mulDim(2, h.shape[3]!))))
    return this.convLast.forward(leaky(this.convHr.forward(h)))
  }
}

/** A slope per channel for what is below zero: He et al. 2015. */
class Slope extends Module<{ channels: number }> {
  weight = new Param(this.c.channels)

  forward(x: Tensor): Tensor {
    return x.max(0).add(x.min(0).mul(this.weight.tensor.reshape([this.c.channels, 1, 1])))
  }
}

/** Plain convolutions whose last one gives the pixels of each place (SRVGGNetCompact of Real-ESRGAN), beside the enlarged input. */
export class CompactNet extends Module<CompactConfig> {
  body = Array.from({ length: 2 * this.c.layers + 3 }, (_, i) => {
    const { channels, factor, layers } = this.c
    if (i % 2 === 1) return new Slope({ channels })
    return conv(i === 0 ? 3 : channels, i === 2 * layers + 2 ? 3 * factor ** 2 : channels)
  })

  forward(x: Tensor): Tensor {
    // b 3 h w -> b 3 factor*h factor*w
    const { factor } = this.c
    const made = this.body.reduce((y, layer) => layer.forward(y), x)
    const places = made.rearrange("b (c k) h w -> b (k c) h w", { k: factor ** 2 })
    const [, , h, w] = x.dims("b c h w")
    return apply("depthToSpace", [places], { factor }).add(x.resize(mulDim(factor, h), mulDim(factor, w)))
  }
}

/** The network of a config; its keys are BasicSR's. */
export const upscalerNet = (c: UpscalerConfig): RrdbNet | CompactNet =>
  c.kind === "compact" ? new CompactNet(c) : new RrdbNet(c)

/** Input `image` 1 3 H W in 0..1 (sides multiples of the fold), output `enlarged`. */
export function upscalerGraph(c: UpscalerConfig, { h, w }: { h: Dim; w: Dim }): Graph {
  const fold = c.kind === "rrdb" ? c.fold : 1
  const net = bind(upscalerNet(c))
  return { outputs: { enlarged: net.forward(input("image", [1, 3, mulDim(fold, h), mulDim(fold, w)])) } }
}

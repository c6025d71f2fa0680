import type { Dim, Tensor } from "../graph/index.ts"
import { Module, Param } from "./module.ts"

export type Activation = "silu" | "gelu" | "quick_gelu" | "relu"

/** The named nonlinearity as a function of tensors. */
export const activation: Record<Activation, (x: Tensor) => Tensor> = {
  silu: (x) => x.silu(),
  gelu: (x) => x.gelu(),
  quick_gelu: (x) => x.quickGelu(),
  relu: (x) => x.relu(),
}

/** x W^T + b over the last axis. */
export class Linear extends Module<{ in: number; out: number; bias?: boolean }> {
  weight = new Param(this.c.out, this.c.in)
  bias = (this.c.bias ?? true) ? new Param(this.c.out) : null

  forward(x: Tensor): Tensor {
    return x.linear(this.weight.tensor, this.bias?.tensor)
  }

  /** The rows `from` to `to` of the result alone, as a product of its own. */
  rows(x: Tensor, from: number, to: number): Tensor {
    return x.linear(this.weight.tensor.slice(0, from, to), this.bias?.tensor.slice(0, from, to))
  }
}

/** Convolution of b c h w; `pad` is the same on each side unless four are given (top, left, bottom, right). */
export class Conv2d extends Module<{
  in: number
  out: number
  k: number
  stride?: number
  pad?: number | readonly number[]
  bias?: boolean
}> {
  weight = new Param(this.c.out, this.c.in, this.c.k, this.c.k)
  bias = (this.c.bias ?? true) ? new Param(this.c.out) : null

  forward(x: Tensor): Tensor {
    const pad = this.c.pad ?? Math.floor((this.c.k - 1) / 2)
    const pads = typeof pad === "number" ? [pad, pad, pad, pad] : pad
    return x.conv2d(this.weight.tensor, this.bias?.tensor ?? null, { stride: this.c.stride ?? 1, pads })
  }
}

/** Wu & He 2018. */
export class GroupNorm extends Module<{ channels: number; groups: number; eps: number }> {
  weight = new Param(this.c.channels)
  bias = new Param(this.c.channels)

  forward(x: Tensor): Tensor {
    return x.groupNorm(this.weight.tensor, this.bias.tensor, { groups: this.c.groups, eps: this.c.eps })
  }
}

/** Ba et al. 2016, over the last axis. */
export class LayerNorm extends Module<{ size: number; eps?: number }> {
  weight = new Param(this.c.size)
  bias = new Param(this.c.size)

  forward(x: Tensor): Tensor {
    return x.layerNorm(this.weight.tensor, this.bias.tensor, this.c.eps ?? 1e-5)
  }
}

/** A table of vectors by integer id. */
export class Embedding extends Module<{ count: number; size: number }> {
  weight = new Param(this.c.count, this.c.size)

  forward(ids: Tensor): Tensor {
    return this.weight.tensor.gather(ids)
  }
}

/** Nearest-neighbour enlargement to a given size, then a convolution. */
export class Upsample extends Module<{ channels: number }> {
  conv = new Conv2d({ in: this.c.channels, out: this.c.channels, k: 3 })

  forward(x: Tensor, height: Dim, width: Dim): Tensor {
    return this.conv.forward(x.resize(height, width))
  }
}

import { concat, parameter, type Tensor } from "../../graph/index.ts"
import type { AdapterModule } from "./adapter.ts"
import type { Part } from "./keys.ts"

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** A module's tensors as parameters of a graph. */
class Parts {
  readonly module: AdapterModule

  constructor(module: AdapterModule) {
    this.module = module
  }

  has(part: Part): boolean {
    return this.module.parts.has(part)
  }

  /** A part as a matrix: its first axis, and all others in one. */
  matrix(part: Part): Tensor {
    const [first = 1, ...rest] = this.module.parts.get(part)!.shape
    return this.whole(part).reshape([first, size(rest)])
  }

  whole(part: Part): Tensor {
    return parameter(this.module.nameOf(part), this.module.parts.get(part)!.shape)
  }
}

/** What a module adds to its weight at a strength, in the weight's shape. */
export function delta(module: AdapterModule, weight: Tensor, strength: number): Tensor {
  const parts = new Parts(module)
  const shape = weight.shape as number[]
  const [out, inner] = [shape[0]!, size(shape.slice(1))]
  if (module.part === "diff" || module.part === "diff_b")
    return parts.whole(module.part).reshape(shape).mul(strength)
  const by = scale(parts, module, strength)
  const scaled = factors[module.kind](parts, out, inner).mul(by)
  return (module.dora ? decomposed(parts, weight, scaled, strength) : scaled).reshape(shape)
}

/**
 * A weight with what a module adds to it. Plain LoRAs take one pass over the weight: their thin factor is scaled, and the
 * product added while it is made.
 * @param sum the weight, perhaps with other modules' changes
 */
export function changed(sum: Tensor, module: AdapterModule, weight: Tensor, strength: number): Tensor {
  const parts = new Parts(module)
  if (!isThin(module)) return sum.add(delta(module, weight, strength))
  const shape = weight.shape as number[]
  const matrix = [shape[0]!, size(shape.slice(1))]
  const up = parts.matrix("up").mul(scale(parts, module, strength))
  if (shape.length === 2) return sum.addmm(up, parts.matrix("down"))
  return sum.reshape(matrix).addmm(up, parts.matrix("down")).reshape(shape)
}

/** Whether a module is the product of two thin matrices. */
export const isThin = (module: AdapterModule): boolean =>
  module.kind === "lora" && module.part === "factors" && !module.dora && !module.parts.has("mid")

/** The factors of such modules' sum: `down` (i r) and `up` (r o), strengths and alphas in the latter; ranks add up. */
export const thinFactors = (list: readonly { module: AdapterModule; strength: number }[]) => ({
  down: () =>
    concat(
      list.map(({ module }) => new Parts(module).matrix("down").transpose([1, 0])),
      1,
    ),
  up: () =>
    concat(
      list.map(({ module, strength }) => {
        const parts = new Parts(module)
        return parts
          .matrix("up")
          .transpose([1, 0])
          .mul(scale(parts, module, strength))
      }),
      0,
    ),
})

/** Strength times alpha / rank (Hu et al. 2021, sec. 4.1); without alpha, alpha is the rank. */
function scale(parts: Parts, module: AdapterModule, strength: number): Tensor | number {
  if (parts.has("scale")) return parts.whole("scale").reshape([1, 1]).mul(strength)
  if (module.scaling !== undefined) return module.scaling * strength
  if (!parts.has("alpha") || module.rank === null) return strength
  return parts
    .whole("alpha")
    .reshape([1, 1])
    .mul(strength / module.rank)
}

const factors: Record<AdapterModule["kind"], (parts: Parts, out: number, inner: number) => Tensor> = {
  /** Hu et al. 2021; convolutions and Tucker's core (`mid`) as LyCORIS has them (Yeh et al. 2023). */
  lora(parts, out, inner) {
    const up = parts.matrix("up")
    if (!parts.has("mid")) return up.matmul(parts.matrix("down"))
    return tucker(parts.whole("mid"), parts.matrix("down"), up, out, inner)
  },
  /** Hadamard product of two low-rank matrices: Hyeon-Woo et al. 2021. */
  loha(parts, out, inner) {
    const half = (n: 1 | 2) => {
      const [a, b] = [parts.matrix(`hada_w${n}_a`), parts.matrix(`hada_w${n}_b`)]
      if (!parts.has(`hada_t${n}`)) return a.matmul(b)
      return tucker(parts.whole(`hada_t${n}`), b, a.transpose([1, 0]), out, inner)
    }
    return half(1).mul(half(2))
  },
  /** Kronecker product of two factors, each whole or of low rank: Yeh et al. 2023, sec. 3.3. */
  lokr(parts, out, inner) {
    const first = parts.has("lokr_w1")
      ? parts.matrix("lokr_w1")
      : parts.matrix("lokr_w1_a").matmul(parts.matrix("lokr_w1_b"))
    const [a, b] = first.shape as [number, number]
    const [c, rest] = [out / a, inner / b]
    const second = parts.has("lokr_w2")
      ? parts.matrix("lokr_w2")
      : parts.has("lokr_t2")
        ? tucker(
            parts.whole("lokr_t2"),
            parts.matrix("lokr_w2_b"),
            parts.matrix("lokr_w2_a").transpose([1, 0]),
            c,
            rest,
          )
        : parts.matrix("lokr_w2_a").matmul(parts.matrix("lokr_w2_b"))
    return first
      .reshape([a, 1, b, 1])
      .mul(second.reshape([1, c, 1, rest]))
      .reshape([out, inner])
  },
}

/** Tucker's form of a convolution: core [n, m, k, k] between `down` [m, in] and `up` [out, n]. */
function tucker(core: Tensor, down: Tensor, up: Tensor, out: number, inner: number): Tensor {
  const [n, m, ...k] = core.shape as [number, number, ...number[]]
  const area = size(k)
  const input = inner / area
  const right = core.reshape([n, m, area]).transpose([0, 2, 1]).matmul(down) // n area in
  const left = up.matmul(right.reshape([n, area * input])).reshape([out, area, input])
  return left.transpose([0, 2, 1]).reshape([out, inner])
}

/**
 * DoRA (Liu et al. 2024, eq. 5): the direction of the changed weight, at a learned length of each output (PEFT) or of
 * each input (LyCORIS' first form, whose strength scales the whole change).
 */
function decomposed(parts: Parts, weight: Tensor, change: Tensor, strength: number): Tensor {
  const shape = weight.shape as number[]
  const [out, input] = shape as [number, number]
  const area = size(shape.slice(2))
  const flat = weight.reshape([out, input, area])
  const lengths = parts.whole(parts.has("magnitude") ? "magnitude" : "dora_scale")
  const byInput = parts.module.dora === "input"
  const full = byInput ? change.mul(1 / (strength || 1)) : change
  const merged = flat.add(full.reshape([out, input, area]))
  const norm = merged
    .square()
    .sum(byInput ? [0, 2] : [1, 2], true)
    .sqrt()
  const turned = merged.mul(lengths.reshape(byInput ? [1, input, 1] : [out, 1, 1]).div(norm)).sub(flat)
  return byInput ? turned.mul(strength) : turned
}

import { concat, constant, type Tensor } from "../graph/index.ts"
import { type Activation, activation, Linear, Module } from "../nn/index.ts"

/** An activation by the name that configs give it. */
export const act = (name: string) => activation[(name === "swish" ? "silu" : name) as Activation]

/** Sine and cosine of each number at geometric frequencies: Vaswani et al. 2017, sec. 3.5, as diffusers orders them. */
export function sinusoid(t: Tensor, size: number, flip: boolean, shift: number): Tensor {
  // n -> n size
  const half = Math.floor(size / 2)
  const f = Math.fround
  const rates = Float32Array.from({ length: half }, (_, i) =>
    Math.exp(f(f(f(-Math.log(10000)) * i) / f(half - shift))),
  )
  const angle = t.rearrange("n -> n 1").mul(constant(rates, [half], "f32"))
  return concat(flip ? [angle.cos(), angle.sin()] : [angle.sin(), angle.cos()], 1)
}

/** Two linear layers around a nonlinearity; `condProj` adds an embedding of the guidance scale (Meng et al. 2023). */
export class TimeEmbedding extends Module<{
  in: number
  out: number
  act: string
  post?: string | null
  cond?: number | null
}> {
  linear_1 = new Linear({ in: this.c.in, out: this.c.out })
  condProj = this.c.cond ? new Linear({ in: this.c.cond, out: this.c.in, bias: false }) : null
  linear_2 = new Linear({ in: this.c.out, out: this.c.out })

  forward(x: Tensor, guidance?: Tensor): Tensor {
    // b in -> b out
    const start = this.condProj && guidance ? x.add(this.condProj.forward(guidance)) : x
    const h = this.linear_2.forward(act(this.c.act)(this.linear_1.forward(start)))
    return this.c.post ? act(this.c.post)(h) : h
  }
}

import { constant, type Tensor } from "../graph/index.ts"

/** Numbers that change from step to step, as inputs of the step graph, each of shape []. */
export type Knobs = Readonly<Record<string, Tensor>>

/** One parameter's update: new value and new state, from its gradient (already clipped). */
export interface Updated {
  readonly value: Tensor
  readonly slots: readonly Tensor[]
}

/** An update rule as a piece of graph; the numbers of a step are plain arithmetic beside it. */
export interface Optimizer {
  readonly name: string
  /** Each number is updated by itself, so that small parameters can be joined to one. */
  readonly elementwise: boolean
  /** State of a parameter: names and shapes, from the parameter's shape. All start at zero. */
  slots(shape: readonly number[]): readonly { name: string; shape: readonly number[] }[]
  /** Values of the knobs at a step, counted from 1, for a learning rate. */
  knobs(step: number, rate: number): Readonly<Record<string, number>>
  update(p: Tensor, g: Tensor, slots: readonly Tensor[], knobs: Knobs, scale: number): Updated
}

const same = (names: readonly string[]) => (shape: readonly number[]) =>
  names.map((name) => ({ name, shape }))

/** Moves `x` towards `y` by `share`. */
const toward = (x: Tensor, y: Tensor, share: number): Tensor => x.add(y.sub(x).mul(share))

export interface AdamOptions {
  beta1?: number
  beta2?: number
  eps?: number
  /** Decoupled decay, as a share of the learning rate. */
  decay?: number
}

/** Loshchilov & Hutter 2019, Alg. 2, with PyTorch's placement of eps. */
export function adamw({ beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.01 }: AdamOptions = {}): Optimizer {
  return {
    name: "adamw",
    elementwise: true,
    slots: same(["m", "v"]),
    knobs: (step, rate) => ({
      rate: rate / (1 - beta1 ** step),
      root: 1 / Math.sqrt(1 - beta2 ** step),
      keep: rate * decay,
    }),
    update(p, g, [m0, v0], { rate, root, keep }, scale) {
      const m = toward(m0!, g, 1 - beta1)
      const v = v0!.mul(beta2).add(g.mul(1 - beta2).mul(g))
      const denominator = v.sqrt().mul(root!).add(eps)
      const kept = decay === 0 ? p : p.mul(one.sub(times(keep!, scale)))
      return { value: kept.sub(m.div(denominator).mul(times(rate!, scale))), slots: [m, v] }
    },
  }
}

/** Chen et al. 2023 (symbolic discovery), Alg. 2: the sign of an interpolated momentum. */
export function lion({ beta1 = 0.9, beta2 = 0.99, decay = 0 }: AdamOptions = {}): Optimizer {
  return {
    name: "lion",
    elementwise: true,
    slots: same(["m"]),
    knobs: (_step, rate) => ({ rate, keep: rate * decay }),
    update(p, g, [m], { rate, keep }, scale) {
      const direction = toward(m!, g, 1 - beta1).sign()
      const kept = decay === 0 ? p : p.mul(one.sub(times(keep!, scale)))
      return { value: kept.sub(direction.mul(times(rate!, scale))), slots: [toward(m!, g, 1 - beta2)] }
    },
  }
}

/** Stochastic gradient descent with PyTorch's momentum: b = momentum b + g; decay is added to the gradient. */
export function sgd({ momentum = 0, decay = 0 }: { momentum?: number; decay?: number } = {}): Optimizer {
  return {
    name: "sgd",
    elementwise: true,
    slots: same(momentum === 0 ? [] : ["b"]),
    knobs: (_step, rate) => ({ rate }),
    update(p, g, slots, { rate }, scale) {
      const pull = decay === 0 ? g : g.add(p.mul(decay))
      const b = slots[0] ? slots[0].mul(momentum).add(pull) : pull
      return { value: p.sub(b.mul(times(rate!, scale))), slots: slots[0] ? [b] : [] }
    },
  }
}

/**
 * Shazeer & Stern 2018, Alg. 4 and 5, without momentum and with a given learning rate: second moments of matrices are
 * kept as row and column sums. Filters of convolutions count as matrices out x (in kh kw).
 */
export function adafactor({
  clip = 1,
  eps = 1e-30,
  decay = 0,
}: {
  clip?: number
  eps?: number
  decay?: number
} = {}): Optimizer {
  return {
    name: "adafactor",
    elementwise: false,
    slots: (shape) =>
      shape.length < 2
        ? [{ name: "v", shape }]
        : [
            { name: "r", shape: [shape[0]!, 1] },
            { name: "c", shape: [1, shape.slice(1).reduce((a, b) => a * b, 1)] },
          ],
    // beta2 = 1 - t^-0.8
    knobs: (step, rate) => ({ rate, share: step ** -0.8, keep: rate * decay }),
    update(p, g, slots, { rate, share, keep }, scale) {
      const matrix = g.rank < 2 ? g : g.reshape([g.shape[0]!, -1])
      const square = matrix.square().add(eps)
      const move = (x: Tensor, y: Tensor) => x.add(y.sub(x).mul(share!))
      const next =
        slots.length === 1
          ? [move(slots[0]!, square)]
          : [move(slots[0]!, square.mean([1], true)), move(slots[1]!, square.mean([0], true))]
      const variance = next.length === 1 ? next[0]! : next[0]!.mul(next[1]!).div(next[0]!.mean([0], true))
      const u = matrix.div(variance.sqrt())
      const rms = u
        .square()
        .mean([...u.shape.keys()])
        .sqrt()
      const step = u.div(rms.mul(1 / clip).max(1)).reshape(p.shape)
      const kept = decay === 0 ? p : p.mul(one.sub(times(keep!, scale)))
      return { value: kept.sub(step.mul(times(rate!, scale))), slots: next }
    },
  }
}

const one = constant(Float32Array.of(1), [], "f32")
const times = (knob: Tensor, scale: number): Tensor => (scale === 1 ? knob : knob.mul(scale))

/**
 * Schedule-free AdamW (Defazio et al. 2024, Alg. 1): `value` is y, where gradients are taken; z and the average x are
 * state. x is what to evaluate and save: slot `x`. Learning-rate schedules beyond the warm-up are not needed.
 */
export function scheduleFree({
  beta1 = 0.9,
  beta2 = 0.999,
  eps = 1e-8,
  decay = 0,
  warmup = 0,
}: AdamOptions & { warmup?: number } = {}): Optimizer {
  let weights = { step: 0, sum: 0 }
  const weightSum = (step: number): number => {
    if (weights.step > step) weights = { step: 0, sum: 0 }
    while (weights.step < step) {
      weights.step++
      weights.sum += warmed(weights.step, warmup) ** 2
    }
    return weights.sum
  }
  return {
    name: "schedule-free",
    elementwise: true,
    slots: same(["x", "z", "v"]),
    knobs: (step, rate) => ({
      rate: rate * warmed(step, warmup),
      root: 1 / Math.sqrt(1 - beta2 ** step),
      share: warmed(step, warmup) ** 2 / weightSum(step),
      // x and z start as the weights, which state that starts at zero cannot know
      first: step === 1 ? 1 : 0,
    }),
    update(y, g, [x0, z0, v0], { rate, root, share, first }, scale) {
      const [x1, z1] = [x0!, z0!].map((s) => s.add(y.sub(s).mul(first!))) as [Tensor, Tensor]
      const v = v0!.mul(beta2).add(g.mul(1 - beta2).mul(g))
      const pull = g.div(v.sqrt().mul(root!).add(eps))
      const z = z1.sub((decay === 0 ? pull : pull.add(y.mul(decay))).mul(times(rate!, scale)))
      const x = x1.add(z.sub(x1).mul(share!))
      return { value: toward(z, x, beta1), slots: [x, z, v] }
    },
  }
}

const warmed = (step: number, warmup: number): number => (warmup > 0 ? Math.min(1, step / warmup) : 1)

/** An optimiser whose state is some steps old already. */
export const continued = (optimizer: Optimizer, steps: number): Optimizer => ({
  ...optimizer,
  knobs: (step, rate) => optimizer.knobs(step + steps, rate),
})

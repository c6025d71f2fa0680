import { parameter, type Tensor } from "../graph/index.ts"

/** A weight: its shape here, its values in a checkpoint under the path of the field that holds it. */
export class Param {
  readonly shape: readonly number[]
  private named: Tensor | undefined

  constructor(...shape: number[]) {
    this.shape = shape
  }

  /** Called once, by `bind`. */
  bind(name: string): void {
    this.named = parameter(name, this.shape)
  }

  get tensor(): Tensor {
    if (this.named === undefined) throw new TypeError("a parameter is used before bind(net)")
    return this.named
  }
}

/**
 * A network or a part of one: fields are its named parts, `forward` (by whatever arguments) is its meaning.
 * `c` is set before the fields of a subclass are, so they can be declared from it without a constructor.
 */
export abstract class Module<C = unknown> {
  readonly c: C

  constructor(c: C) {
    this.c = c
  }
}

/** `timeEmbProj` -> `time_emb_proj`: the one rule from field names to checkpoint keys. */
export const snake = (field: string): string => field.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase()

/** Every weight of a module by its checkpoint key, in the order of declaration. */
export function parameters(part: unknown, prefix = ""): Map<string, Param> {
  const found = new Map<string, Param>()
  const walk = (value: unknown, path: string): void => {
    if (value instanceof Param) found.set(path, value)
    else if (
      value instanceof Module ||
      Array.isArray(value) ||
      (typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype)
    ) {
      for (const [field, child] of Object.entries(value))
        if (field !== "c") walk(child, path === "" ? snake(field) : `${path}.${snake(field)}`)
    }
  }
  walk(part, prefix)
  return found
}

/** Names every weight of a network by its path; returns the network. */
export function bind<M extends Module>(net: M, prefix = ""): M {
  for (const [name, param] of parameters(net, prefix)) param.bind(name)
  return net
}

/** Shapes by checkpoint key: what a file must hold to fit this network. */
export const expected = (net: Module): Map<string, readonly number[]> =>
  new Map([...parameters(net)].map(([name, param]) => [name, param.shape]))

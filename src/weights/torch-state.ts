import { fail } from "../errors.ts"
import { PickledDict, PickledList, PickledTuple, type PickledValue } from "./pickle-values.ts"
import { TorchTensor } from "./torch-values.ts"

const NODE_LIMIT = 1_000_000
const TENSOR_LIMIT = 100_000
const DEPTH_LIMIT = 100
const NAME_LIMIT = 4096

/** The tensors of a pickle under their names, and what else it held. */
export interface TorchState {
  tensors: Map<string, TorchTensor>
  /** Names of entries that hold no tensor of the state dict. */
  dropped: string[]
}

/**
 * Tensors of a checkpoint's root value. Where the root has a `state_dict`, it is that dict's and the rest (optimiser, counters)
 * is dropped; otherwise all of the root's, nested ones under dotted names. Errors: TORCH_STATE, PICKLE_LIMIT.
 */
export function collectTensors(root: PickledValue, file: string): TorchState {
  if (!(root instanceof PickledDict)) bad(file, "its pickle holds no dict of tensors")
  const nested = root.entries.find(([key]) => key === "state_dict")?.[1]
  const walk = new Walk(file)
  if (nested instanceof PickledDict) {
    walk.dict(nested, "", 1)
    for (const [key] of root.entries) if (key !== "state_dict") walk.drop(String(key))
  } else walk.dict(root, "", 1)
  if (walk.tensors.size === 0) bad(file, "its pickle holds no tensors")
  return { tensors: walk.tensors, dropped: walk.dropped }
}

function bad(file: string, what: string): never {
  fail("TORCH_STATE", `${file}: ${what}`, {
    file,
    hint: "a checkpoint is a dict of tensors, or has one as state_dict",
  })
}

class Walk {
  readonly tensors = new Map<string, TorchTensor>()
  readonly dropped: string[] = []
  private readonly file: string
  private readonly open = new Set<PickledValue>()
  private nodes = 0

  constructor(file: string) {
    this.file = file
  }

  /** What is kept of a list of dropped names stays short. */
  drop(name: string): void {
    if (this.dropped.length < 1000) this.dropped.push(name.slice(0, NAME_LIMIT))
  }

  dict(dict: PickledDict, prefix: string, depth: number): void {
    const keys = new Set<string>()
    for (const [key, value] of dict.entries) {
      if (typeof key !== "string" && typeof key !== "number") {
        this.drop(`${prefix}?`)
        continue
      }
      if (keys.has(String(key)))
        bad(this.file, `the key ${JSON.stringify(`${prefix}${key}`)} stands in it twice`)
      keys.add(String(key))
      this.value(value, `${prefix}${key}`, depth)
    }
  }

  private value(value: PickledValue, name: string, depth: number): void {
    if (++this.nodes > NODE_LIMIT || depth > DEPTH_LIMIT) this.limit()
    if (name.length > NAME_LIMIT) bad(this.file, `a name of ${name.length} characters`)
    if (value instanceof TorchTensor) this.add(name, value)
    else if (value instanceof PickledDict) this.inside(value, () => this.dict(value, `${name}.`, depth + 1))
    else if (value instanceof PickledList || value instanceof PickledTuple)
      this.inside(value, () => {
        for (const [i, item] of value.items.entries()) this.value(item, `${name}.${i}`, depth + 1)
      })
    else this.drop(name)
  }

  private add(name: string, tensor: TorchTensor): void {
    if (name === "__metadata__" || name === "" || this.tensors.has(name))
      bad(this.file, `the name ${JSON.stringify(name)} cannot be kept`)
    this.tensors.set(name, tensor)
    if (this.tensors.size > TENSOR_LIMIT) this.limit(`holds more than ${TENSOR_LIMIT} tensors`)
  }

  /** Into a container, unless it is already being walked: a pickle can hold itself. */
  private inside(container: PickledValue, walk: () => void): void {
    if (this.open.has(container)) this.limit()
    this.open.add(container)
    walk()
    this.open.delete(container)
  }

  private limit(what = "is nested without end"): never {
    fail("PICKLE_LIMIT", `${this.file}: its pickle ${what}`, {
      file: this.file,
      hint: "the file is made to harm; find the model as .safetensors",
    })
  }
}

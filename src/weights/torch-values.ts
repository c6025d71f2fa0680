import { fail } from "../errors.ts"
import type { PickleMeaning } from "./pickle.ts"
import {
  describeValue,
  PickledDict,
  PickledGlobal,
  PickledLeaf,
  PickledList,
  PickledTuple,
  type PickledValue,
} from "./pickle-values.ts"
import { DTYPE_BITS, type Dtype, elements } from "./view.ts"

/** A run of numbers in the file, under the key that its bytes are stored by. */
export class TorchStorage extends PickledLeaf {
  override readonly kind = "storage"
  readonly key: string
  readonly dtype: Dtype
  /** Elements of the stored run. */
  readonly count: number
  /** First element of this view of it (files before torch 1.6 have such views). */
  readonly first: number
  readonly length: number

  constructor(key: string, dtype: Dtype, count: number, view = { first: 0, length: count }) {
    super()
    this.key = key
    this.dtype = dtype
    this.count = count
    this.first = view.first
    this.length = view.length
  }

  /** Bytes of the stored run. */
  get bytes(): number {
    return this.count * (DTYPE_BITS[this.dtype] / 8)
  }
}

/** A tensor as torch describes it: a storage, the first element in it, sizes and strides in elements. */
export class TorchTensor extends PickledLeaf {
  override readonly kind = "tensor"
  readonly storage: TorchStorage
  readonly offset: number
  readonly shape: readonly number[]
  readonly strides: readonly number[]

  constructor(storage: TorchStorage, offset: number, shape: readonly number[], strides: readonly number[]) {
    super()
    this.storage = storage
    this.offset = offset
    this.shape = shape
    this.strides = strides
  }
}

/** What the two file forms give: the pickle's root value, and where each storage's bytes begin. */
export interface TorchParts {
  root: PickledValue
  places: Map<string, number>
  /** Byte ranges whose checksums are not yet verified. */
  checksums: { offset: number; length: number; crc: number }[]
}

const STORAGES: Record<string, Dtype> = {
  FloatStorage: "F32",
  DoubleStorage: "F64",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
  ComplexFloatStorage: "C64",
}

type Call = (args: readonly PickledValue[], bad: Bad) => PickledValue
type Bad = (what: string) => never

/** The only calls there are; each makes data of data. */
const CALLS: Record<string, Call> = {
  "collections.OrderedDict": orderedDict,
  "torch._utils._rebuild_tensor": ([storage, offset, shape, strides, ...more], bad) =>
    more.length > 0 ? bad("a tensor of too many parts") : tensor(storage, offset, shape, strides, bad),
  "torch._utils._rebuild_tensor_v2": ([storage, offset, shape, strides, grad, hooks, ...more], bad) => {
    if (typeof grad !== "boolean" || !(hooks instanceof PickledDict) || more.length > 1)
      bad("a tensor of unknown parts")
    return tensor(storage, offset, shape, strides, bad)
  },
  "torch._utils._rebuild_parameter": ([data, grad, hooks, ...more], bad) => {
    if (!(data instanceof TorchTensor)) bad(`a parameter over ${describeValue(data)}`)
    if (typeof grad !== "boolean" || !(hooks instanceof PickledDict) || more.length > 0)
      bad("a parameter of unknown parts")
    return data as TorchTensor
  },
}

/**
 * What names and calls mean in a torch file: tensors, storages, OrderedDict and Parameter, nothing else.
 * Every storage met is noted in `storages` under its key.
 * Errors: PICKLE_GLOBAL for any other name, TORCH_TENSOR, TORCH_STORAGE.
 */
export function torchMeaning(file: string, storages: Map<string, TorchStorage>): PickleMeaning {
  const refuse = (code: string) => (what: string) =>
    fail(code, `${file}: its pickle has ${what}`, {
      file,
      hint: "the file is damaged or made to harm; find the model as .safetensors",
    })
  return {
    global(module, name) {
      const full = `${module}.${name}`
      const storage = module === "torch" && Object.hasOwn(STORAGES, name)
      if (!storage && !Object.hasOwn(CALLS, full)) refuseName(file, full)
      return new PickledGlobal(module, name)
    },
    reduce(callee, args) {
      const bad = refuse("TORCH_TENSOR")
      const full = `${callee.module}.${callee.name}`
      const call = Object.hasOwn(CALLS, full) ? CALLS[full] : undefined
      return call === undefined ? bad(`a call of ${full}`) : call(args.items, bad)
    },
    persistent(id) {
      const bad = refuse("TORCH_STORAGE")
      const found = storage(id, bad)
      const known = storages.get(found.key)
      if (known && (known.dtype !== found.dtype || known.count !== found.count))
        bad("one storage under two types")
      storages.set(found.key, found)
      return found
    },
  }
}

function refuseName(file: string, name: string): never {
  const shown = JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}...` : name)
  fail(
    "PICKLE_GLOBAL",
    `${file}: its pickle names ${shown}, which is no tensor, storage, OrderedDict or Parameter`,
    {
      file,
      hint: "such a file can hold a program, so none of it is used; find the model as .safetensors",
      details: { global: name },
    },
  )
}

function orderedDict(args: readonly PickledValue[], bad: Bad): PickledDict {
  const out = new PickledDict()
  if (args.length === 0) return out
  const [pairs, ...more] = args
  if (!(pairs instanceof PickledList) || more.length > 0) bad("an OrderedDict of unknown parts")
  for (const pair of pairs.items) {
    const items = pair instanceof PickledList || pair instanceof PickledTuple ? pair.items : []
    if (items.length !== 2) bad("an OrderedDict of no pairs")
    out.entries.push([items[0]!, items[1]!])
  }
  return out
}

const isCount = (value: PickledValue | undefined): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0

/** ("storage", type, key, device, elements), and in old files a sixth part: None or (key, first, elements) of a view. */
function storage(id: PickledValue, bad: Bad): TorchStorage {
  if (!(id instanceof PickledTuple)) bad(`${describeValue(id)} for a storage`)
  const [word, type, key, device, count, view, ...more] = id.items
  if (word !== "storage" || typeof key !== "string" || typeof device !== "string" || more.length > 0)
    bad("a storage of unknown parts")
  const named = type instanceof PickledGlobal && type.module === "torch" && Object.hasOwn(STORAGES, type.name)
  const dtype = named ? STORAGES[type.name] : undefined
  if (dtype === undefined) bad(`a storage of the type ${describeValue(type)}`)
  if (!isCount(count) || Number.isNaN(elements([count, DTYPE_BITS[dtype]]))) bad("a storage of no size")
  if (view === undefined || view === null) return new TorchStorage(key, dtype, count)
  const [, first, length] = view instanceof PickledTuple ? view.items : []
  if (!isCount(first) || !isCount(length) || first + length > count) bad("a view beyond its storage")
  return new TorchStorage(key, dtype, count, { first, length })
}

const MAX_AXES = 64

function counts(value: PickledValue | undefined, bad: Bad): readonly number[] {
  const items = value instanceof PickledTuple || value instanceof PickledList ? value.items : undefined
  if (items === undefined || items.length > MAX_AXES || !items.every(isCount))
    return bad("a tensor without sizes")
  return items
}

function tensor(
  storage: PickledValue | undefined,
  offset: PickledValue | undefined,
  size: PickledValue | undefined,
  stride: PickledValue | undefined,
  bad: Bad,
): TorchTensor {
  if (!(storage instanceof TorchStorage)) bad(`a tensor over ${describeValue(storage)}`)
  const shape = counts(size, bad)
  const strides = counts(stride, bad)
  const total = elements(shape)
  if (!isCount(offset) || shape.length !== strides.length || Number.isNaN(total)) bad("a tensor of no size")
  const last = shape.reduce((sum, n, i) => sum + (n - 1) * strides[i]!, offset)
  if (total === 0 ? offset > storage.length : !(last < storage.length)) bad("a tensor beyond its storage")
  return new TorchTensor(storage, offset, shape, strides)
}

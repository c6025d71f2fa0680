import { fail } from "../errors.ts"
import {
  type Dim,
  evalDim,
  type Graph,
  graphNodes,
  inputSpecs,
  mergeLayouts,
  nameOf,
  type StoredTensor,
  shareEqual,
  showShape,
  stage,
  toOnnx,
} from "../graph/index.ts"
import { Arranger, inPlaceOf, roomyPatches, withRoom } from "./branches.ts"
import type { CodeStore } from "./codes.ts"
import {
  type DeviceName,
  type Engine,
  type Feed,
  isRef,
  type Ref,
  type SessionSpec,
  type Value,
  value,
} from "./engine.ts"
import { gather, type ReadWeights } from "./gather.ts"
import {
  type Held,
  type HoldOptions,
  holdWeights,
  madeFrom,
  makeHeld,
  narrowWeights,
  type Patches,
  sourcesOf,
} from "./hold.ts"
import { padConvolutions, unfuseAttention } from "./mend.ts"
import { tryDevice } from "./trial.ts"

/** A weight as the runtime takes it: bytes of a file by absolute path, or in memory. */
export type Weights = ReadonlyMap<string, StoredTensor>

export interface CompileOptions {
  readonly device: DeviceName
  readonly threads?: number
  /**
   * Inputs that change seldom, slowest first (`[["context"], ["timestep"]]`): what follows from them alone is computed
   * once per change and kept in the engine.
   */
  readonly slow?: readonly (readonly string[])[]
  /** Builds the last session again for every run and gives its memory back after it: for networks that run seldom. */
  readonly fleeting?: boolean
  /** Reads weight files where the engine cannot map them, as in browsers; each network's weights pass through memory once. */
  readonly read?: ReadWeights
  /** Results will be kept in the engine (`Program.keep`). */
  readonly keeps?: boolean
  /** Changes of weights; they can be exchanged later (`Program.patch`), and none at all keeps that possible too. */
  readonly patches?: Patches
  /** Matrices that get room for factors beside them from the start, so that the first patch needs no other session. */
  readonly room?: ((weight: string) => boolean) | undefined
  /** Products in eight-bit integers where they are much faster; on the CPU alone. */
  readonly int8?: boolean
  /** Where codes of eight-bit weights are kept from one run to the next. */
  readonly store?: CodeStore
  /** What an earlier program of the same weights handed over. */
  readonly legacy?: Legacy | undefined
}

interface Part {
  /** Null while it is not built. */
  session: number | null
  readonly build: () => Promise<number>
  readonly inputs: readonly { name: string; shape: readonly Dim[] }[]
  readonly outputs: readonly string[]
}

/** What a program leaves to the next one of the same weights. */
export interface Legacy {
  /** Held weights that no patch touches. */
  readonly held: Readonly<Record<string, Ref>>
  /** Weights beside which it had room for factors. */
  readonly room: ReadonlySet<string>
}

interface Memo {
  readonly given: readonly unknown[]
  readonly kept: Record<string, Feed>
}

/** How many past results of a slow stage stay in the engine: prompts that alternate step by step. */
const memory = 4

/** A compiled graph: `run` takes arrays by input name and gives arrays by output name. */
export class Program {
  private readonly engine: Engine
  private readonly parts: readonly Part[]
  private readonly held: Held
  private readonly stored: Weights
  private readonly options: HoldOptions
  private readonly arranger: Arranger
  private patches: Patches | undefined
  private readonly memos: Memo[][]
  private readonly fleeting: boolean
  private released = false

  constructor(
    engine: Engine,
    parts: readonly Part[],
    held: Held,
    stored: Weights,
    options: HoldOptions & { arranger: Arranger },
  ) {
    this.engine = engine
    this.parts = parts
    this.held = held
    this.stored = stored
    this.options = options
    this.arranger = options.arranger
    this.patches = options.patches
    this.fleeting = options.fleeting ?? false
    this.memos = parts.map(() => [])
  }

  private get weights(): Record<string, Ref> {
    return this.held.weights
  }

  /**
   * Exchanges the patches of weights: only values whose patch differs are made anew, from the files, so nothing of
   * former patches stays behind. False where the program must be compiled anew: it does not hold a weight in question, or
   * no patch of weights is left, since a session that owns them computes other last bits than one that is handed them.
   */
  async patch(given: Patches): Promise<boolean> {
    if (this.released) fail("ENGINE_RELEASED", "this network was released", { blame: "here" })
    const next = given.changes.size === 0 ? undefined : this.arranger.arrange(given)
    const patches = inPlaceOf(this.patches, next)
    if (!this.patches || !patches) return patches === undefined
    const changed = differences(this.patches, patches)
    const made = madeFrom(this.held.made, changed)
    const reached = sourcesOf(made)
    for (const name of changed) if (!reached.has(name)) return false
    const old = this.giveUp([...made.keys()])
    const options = { ...this.options, patches }
    // factors of another rank have no room in those before
    const into = patches.beside ? {} : old
    try {
      Object.assign(this.weights, await makeHeld(this.engine, made, this.stored, options, into))
    } catch (error) {
      // the next run makes what is missing by the patches in force
      await this.free(Object.values(old))
      throw error
    }
    if (patches.beside) await this.free(Object.values(old))
    this.patches = patches
    for (const memo of this.memos.flatMap((memos) => memos.splice(0))) await this.forget(memo)
    return true
  }

  /** Takes held weights out of this program. */
  private giveUp(names: readonly string[]): Record<string, Ref> {
    const found = names.filter((name) => name in this.weights)
    const refs = Object.fromEntries(found.map((name) => [name, this.weights[name]!]))
    for (const name of found) delete this.weights[name]
    return refs
  }

  /**
   * Releases the program but for what another of the same weights can go on with. The engine does so while the other is
   * being traced: its calls are answered in order.
   */
  handOver(): Legacy {
    const touched = madeFrom(this.held.made, new Set(this.patches?.changes.keys()))
    const held = this.released
      ? {}
      : this.giveUp([...this.held.made.keys()].filter((name) => !touched.has(name)))
    this.release().catch(() => {}) // an engine that is gone says so to the next call
    return { held, room: this.patches?.beside ?? new Set() }
  }

  /**
   * Runs every stage whose inputs are other objects than at an earlier call: pass the same `Value` object to say that
   * nothing changed. @throws GRAPH_FEED when an input is missing or has another shape.
   */
  async run(inputs: Readonly<Record<string, Feed>>): Promise<Record<string, Value>> {
    const results = await this.results(inputs, [])
    return Object.fromEntries(
      Object.keys(results).flatMap((name) => (isRef(results[name]!) ? [] : [[name, value(results, name)]])),
    )
  }

  /** The same, but the named results stay in the engine; whoever takes them gives them back with `free`. */
  runKeeping(inputs: Readonly<Record<string, Feed>>, keep: readonly string[]): Promise<Record<string, Feed>> {
    return this.results(inputs, keep)
  }

  /** The same, but all results stay in the engine. */
  async keep(inputs: Readonly<Record<string, Feed>>): Promise<Record<string, Ref>> {
    const results = Object.entries(await this.results(inputs, this.parts.at(-1)!.outputs))
    return Object.fromEntries(results.flatMap(([name, feed]) => (isRef(feed) ? [[name, feed]] : [])))
  }

  async free(refs: readonly Ref[]): Promise<void> {
    await this.engine.free(refs.map(({ ref }) => ref))
  }

  private async results(
    inputs: Readonly<Record<string, Feed>>,
    keep: readonly string[],
  ): Promise<Record<string, Feed>> {
    if (this.released) fail("ENGINE_RELEASED", "this network was released", { blame: "here" })
    checkFeeds(this.parts, inputs, this.held.made)
    await this.ready()
    const known: Record<string, Feed> = { ...this.weights, ...inputs }
    const out: Record<string, Feed> = {}
    for (const [i, part] of this.parts.entries()) {
      const fast = i === this.parts.length - 1
      const results = fast
        ? await this.engine.run(await built(part), pick(known, part), keep)
        : await this.slow(i, known)
      Object.assign(known, results)
      for (const name of part.outputs) if (fast || !isRef(known[name]!)) out[name] = known[name]!
      if (fast && this.fleeting) await this.rest(part)
    }
    return out
  }

  /** Makes held weights again that a fleeting network has given back. */
  private async ready(): Promise<void> {
    const missing = new Map([...this.held.made].filter(([name]) => !(name in this.weights)))
    if (missing.size > 0)
      Object.assign(
        this.weights,
        await makeHeld(this.engine, missing, this.stored, { ...this.options, patches: this.patches }),
      )
  }

  private async rest(part: Part): Promise<void> {
    await this.drop(part)
    await this.free(Object.values(this.giveUp(Object.keys(this.weights))))
  }

  private async drop(part: Part): Promise<void> {
    const { session } = part
    part.session = null
    if (session !== null) await this.engine.release(session)
  }

  private async slow(i: number, known: Readonly<Record<string, Feed>>): Promise<Record<string, Feed>> {
    const part = this.parts[i]!
    const memos = this.memos[i]!
    const given = part.inputs.map(({ name }) => known[name])
    const at = memos.findIndex((m) => m.given.every((g, j) => g === given[j]))
    const memo =
      at >= 0
        ? memos.splice(at, 1)[0]!
        : { given, kept: await this.engine.run(await built(part), pick(known, part), part.outputs) }
    memos.push(memo)
    if (memos.length > memory) await this.forget(memos.shift()!)
    return memo.kept
  }

  private async forget(memo: Memo): Promise<void> {
    await this.engine.free(Object.values(memo.kept).flatMap((feed) => (isRef(feed) ? [feed.ref] : [])))
  }

  /** Gives the memory back; later runs fail. Safe to call twice. */
  async release(): Promise<void> {
    if (this.released) return
    this.released = true
    await Promise.all([
      ...this.memos.flat().map((memo) => this.forget(memo)),
      ...this.parts.map((part) => this.drop(part)),
      this.free(Object.values(this.weights)),
    ])
  }
}

const built = async (part: Part): Promise<number> => {
  part.session ??= await part.build()
  return part.session
}

/** Weights whose patches differ. */
function differences(a: Patches, b: Patches): Set<string> {
  const names = new Set([...a.changes.keys(), ...b.changes.keys()])
  return new Set([...names].filter((name) => a.changes.get(name)?.key !== b.changes.get(name)?.key))
}

const pick = (known: Readonly<Record<string, Feed>>, part: Part): Record<string, Feed> =>
  Object.fromEntries(part.inputs.map(({ name }) => [name, known[name]!]))

function checkFeeds(
  parts: readonly Part[],
  inputs: Readonly<Record<string, Feed>>,
  made: Held["made"],
): void {
  const sizes: Record<string, number> = {}
  const specs = parts
    .flatMap((p) => p.inputs)
    .filter(({ name }) => !made.has(name) && !parts.some((p) => p.outputs.includes(name)))
  for (const { name, shape } of specs) {
    const given = inputs[name] ?? fail("GRAPH_FEED", `input ${name} is missing`, { blame: "here" })
    shape.forEach((d, i) => {
      if (typeof d !== "number" && d.key === String(d) && /^\w+$/.test(d.key))
        sizes[d.key] ??= given.shape[i]!
    })
    const fits =
      given.shape.length === shape.length && shape.every((d, i) => fitsDim(d, given.shape[i]!, sizes))
    if (!fits)
      fail("GRAPH_FEED", `input ${name} is [${given.shape}], the network takes ${showShape(shape)}`, {
        blame: "here",
      })
  }
}

function fitsDim(d: Dim, size: number, sizes: Readonly<Record<string, number>>): boolean {
  if (typeof d === "number") return d === size
  // an expression such as 8*h8 binds no name by itself; the engine checks the rest
  return [...d.key.matchAll(/[a-z]\w*/g)].every(([name]) => sizes[name!] !== undefined)
    ? evalDim(d, sizes) === size
    : true
}

/** Builds sessions for a graph's stages; weight files are mapped by the engine, never read here. */
export async function compile(
  engine: Engine,
  graph: Graph,
  weights: Weights,
  options: CompileOptions,
): Promise<Program> {
  const { attention } = await tryDevice(engine, options.device)
  const arranger = new Arranger(graph, options.device)
  const { legacy } = options
  const own = options.patches && arranger.arrange(options.patches)
  const wanted = options.room && arranger.roomFor(options.room)
  const patches = roomyPatches(own, { left: legacy?.room, wanted })
  const roomy = withRoom(graph, patches)
  const fused = attention ? roomy : unfuseAttention(roomy)
  const whole = options.device === "webgpu" ? padConvolutions(fused) : fused
  const lean = shareEqual(mergeLayouts(whole))
  const int8 = options.int8 ? new Set((options.slow ?? []).flat()) : undefined
  const hold = { ...options, int8, patches, arranger, inherited: legacy?.held }
  const held = await holdWeights(engine, lean, weights, hold)
  const stages = options.slow ? stage(held.graph, rates(options.slow, held)).stages : [held.graph]
  const parts: Part[] = []
  const begun: (Promise<number> | null)[] = []
  try {
    for (const [i, part] of stages.entries()) {
      if (Object.keys(part.outputs).length === 0) continue
      const last = i === stages.length - 1
      const build = async () => engine.create(await specOf(part, held.stored, options, last))
      const session = last && options.fleeting ? null : build()
      begun.push(session)
      // the engine builds one stage while the next is written, but for weights that come through our own memory
      if (options.read) await session
      parts.push({ session: null, build, inputs: inputSpecs(part), outputs: Object.keys(part.outputs) })
    }
    for (const [i, session] of (await Promise.all(begun)).entries()) parts[i]!.session = session
  } catch (error) {
    for (const made of await Promise.allSettled(begun))
      if (made.status === "fulfilled" && made.value !== null) await engine.release(made.value)
    await engine.free(Object.values(held.weights).map(({ ref }) => ref))
    throw error
  }
  return new Program(engine, parts, held, weights, hold)
}

/** Held weights change least of all: what follows from them and the prompt alone is still made once per prompt. */
function rates(slow: readonly (readonly string[])[], held: Held): readonly (readonly string[])[] {
  const [first = [], ...rest] = slow
  return [[...first, ...Object.keys(held.weights)], ...rest]
}

async function specOf(
  part: Graph,
  weights: Weights,
  options: CompileOptions,
  last: boolean,
): Promise<SessionSpec> {
  const nodes = graphNodes(part)
  const used = new Map<string, StoredTensor>()
  for (const node of nodes) {
    const stored = node.op === "param" ? weights.get(nameOf(node)) : undefined
    if (stored) used.set(nameOf(node), stored)
  }
  const gathered = await gather(used, options.read)
  // GPUs promise sine and cosine to 2^-11 only, and a stage that runs once per step costs the CPU nothing
  const waves = !last && nodes.some((n) => n.op === "sin" || n.op === "cos")
  return {
    onnx: toOnnx(part, gathered.weights, narrowWeights(part, gathered.weights, options.device)),
    externals: gathered.externals,
    device: waves ? "cpu" : options.device,
    threads: options.threads,
    keep: last && !options.keeps ? [] : Object.keys(part.outputs),
  }
}

import { createHash } from "node:crypto"
import { appendFile, mkdir, open, readFile, truncate } from "node:fs/promises"
import { join } from "node:path"
import { fail } from "../errors.ts"
import { encodeImage } from "../image/codec.ts"
import type { Engine } from "../runtime/engine.ts"
import { type Progress, readCheckpoint, writeCheckpoint, writeWhole } from "./checkpoint.ts"
import { Crew } from "./crew.ts"
import { blockSize, Machine, type Numbers, type Sized } from "./machine.ts"
import { htmlReport } from "./report.ts"
import { averageShare } from "./schedule.ts"
import { type StepGraphs, type StepOptions, stepGraphs } from "./step.ts"
import type { Probe, RunOptions, Task, TrainStep } from "./task.ts"

export const configHash = (task: Task): string =>
  createHash("sha256")
    .update(JSON.stringify([task.name, task.settings]))
    .digest("hex")

/**
 * Trains until `task.steps`, one yield per step. The folder's newest good checkpoint is continued; killed at any
 * time and begun again, the run ends with the same weights and the same log, bit for bit (same machine, engine and
 * threads). Aborting stops after the step under way, with a checkpoint.
 * @throws TRAIN_DIVERGED, CHECKPOINT_CONFIG, CHECKPOINT_BROKEN
 */
export async function* train(engine: Engine, task: Task, options: RunOptions): AsyncGenerator<TrainStep> {
  const run = await Run.begin(engine, task, options)
  try {
    while (run.step < task.steps) {
      const began = performance.now()
      const numbers = await run.advance()
      yield run.report(numbers, (performance.now() - began) / 1000)
      if (options.signal?.aborted) {
        await run.checkpoint()
        return
      }
    }
  } finally {
    await run.close()
  }
}

/** Weights of the last checkpoint of a finished or running training: one of its averages, another slot, or as they are. */
export async function trainedWeights(
  folder: string,
  task: Task,
  slot: number | string | null,
): Promise<Map<string, Float32Array>> {
  const found = await readCheckpoint(join(folder, "checkpoints"), configHash(task))
  if (found === null)
    return fail("TRAIN_UNFINISHED", `${folder} holds no checkpoint`, { file: folder, hint: "train first" })
  const suffix = slot === null ? "" : typeof slot === "string" ? `.${slot}` : `.average ${slot}`
  return new Map(
    [...task.objective.parameters.keys()].map((name) => [name, found.state.get(`${name}${suffix}`)!]),
  )
}

/** How a task's graphs are made, for a width of channel blocks. */
export const stepOptions = (task: Task, block: number | null): StepOptions => ({
  optimizer: task.optimizer,
  clip: task.clip,
  accumulate: task.accumulate,
  replicas: task.replicas,
  recompute: task.recompute,
  scale: task.scale,
  averages: task.averages.length,
  frozen: task.frozen,
  held: new Set(task.held?.keys()),
  aliases: task.aliases,
  block,
  probes: task.probes,
})

class Run {
  step = 0
  private readonly task: Task
  private readonly options: RunOptions
  private readonly machine: Machine | Crew
  private readonly helpers: readonly Engine[]
  private readonly shapes: ReadonlyMap<string, readonly number[]>
  private readonly checkpoints: string
  private readonly log: string
  private logged = 0
  private window: Record<string, number> = {}
  private speed = 0
  private since = performance.now()

  private constructor(
    task: Task,
    options: RunOptions,
    machine: Machine | Crew,
    graphs: StepGraphs,
    helpers: readonly Engine[],
  ) {
    this.task = task
    this.options = options
    this.machine = machine
    this.helpers = helpers
    this.shapes = new Map(graphs.slots.flatMap((s) => s.parts.map((p) => [p.key, p.shape] as const)))
    this.checkpoints = join(options.folder, "checkpoints")
    this.log = join(options.folder, "log.jsonl")
  }

  static async begin(engine: Engine, task: Task, options: RunOptions): Promise<Run> {
    const graphs = options.graphs ?? stepGraphs(task.objective, stepOptions(task, await blockSize(engine)))
    await mkdir(join(options.folder, "samples"), { recursive: true })
    const found = await readCheckpoint(join(options.folder, "checkpoints"), configHash(task))
    const state = found?.state ?? (await task.first())
    const { machine, helpers } = await startMachine(engine, task, graphs, state, options)
    const run = new Run(task, options, machine, graphs, helpers)
    if (found) await run.restore(found.progress)
    else await writeWhole(run.log, "")
    return run
  }

  private async restore({ step, log, window }: Progress): Promise<void> {
    this.step = step
    this.logged = log
    this.window = { ...window }
    // lines after the checkpoint will be written again
    await truncate(this.log, log)
  }

  async advance(): Promise<Numbers> {
    const { task, machine } = this
    const parts = task.accumulate ?? 1
    const step = this.step + 1
    const shares = task.averages.map((decay) => averageShare(decay, step))
    let numbers: Numbers
    if (parts === 1) {
      const inputs = await task.batch(this.step)
      numbers = await machine.step(inputs, step, task.rate(step), shares, this.size(this.step))
    } else {
      const each: Numbers[] = []
      for (let part = 0; part < parts; part++) {
        const index = this.step * parts + part
        each.push(await (machine as Machine).accumulate(await task.batch(index), this.size(index)))
      }
      const means = Object.keys(each[0]!).map((key) => [key, each.reduce((s, n) => s + n[key]!, 0) / parts])
      numbers = { ...Object.fromEntries(means), ...(await machine.step({}, step, task.rate(step), shares)) }
    }
    this.step = step
    if (!Object.values(numbers).every(Number.isFinite))
      fail("TRAIN_DIVERGED", `${task.name}: step ${step} gave ${JSON.stringify(numbers)}`, {
        blame: "here",
        hint: "lower the learning rate and begin from the last checkpoint before it",
      })
    await this.after(numbers)
    return numbers
  }

  /** The loss of a batch whose size is not the first. */
  private size(index: number): Sized | undefined {
    const { sizes } = this.task
    const name = sizes?.of(index)
    if (!sizes || name === undefined || name === sizes.first) return undefined
    return { name, make: () => sizes.loss(name) }
  }

  /** What falls due after a step; the checkpoint last, so that it covers the lines written before it. */
  private async after(numbers: Numbers): Promise<void> {
    const { every } = this.options
    const last = this.step === this.task.steps
    const due = (n: number) => n > 0 && this.step % n === 0
    for (const [key, v] of Object.entries(numbers)) this.window[key] = (this.window[key] ?? 0) + v
    this.window.count = (this.window.count ?? 0) + 1
    if (due(every.log) || last) await this.writeWindow()
    const validation = (due(every.validate) || last) && this.task.validate
    if (validation) {
      const found = await this.task.validate!(this.probe)
      await this.line({ step: this.step, validation: found })
    }
    if ((due(every.sample) || last) && this.task.sample) await this.sample()
    if (due(every.checkpoint) || last) await this.checkpoint()
    if (validation || last) await this.writeReport()
  }

  private readonly probe: Probe = (name, inputs, average) => this.machine.probe(name, inputs, average)

  private async writeWindow(): Promise<void> {
    const { count, ...sums } = this.window
    const means = Object.fromEntries(
      Object.entries(sums).map(([key, v]) => [key, Number((v / count!).toPrecision(7))]),
    )
    this.window = {}
    await this.line({ step: this.step, rate: this.task.rate(this.step), ...means })
  }

  private async line(entry: Record<string, unknown>): Promise<void> {
    const text = `${JSON.stringify(entry)}\n`
    await appendFile(this.log, text)
    this.logged += Buffer.byteLength(text)
  }

  private async sample(): Promise<void> {
    const picture = await this.task.sample!(this.probe)
    const name = `${String(this.step).padStart(9, "0")}.png`
    await writeWhole(
      join(this.options.folder, "samples", name),
      await encodeImage(picture, { format: "png" }),
    )
  }

  async checkpoint(): Promise<void> {
    const handle = await open(this.log, "r")
    await handle.sync()
    await handle.close()
    await this.keepTime()
    const progress = { step: this.step, config: configHash(this.task), log: this.logged, window: this.window }
    await writeCheckpoint(
      this.checkpoints,
      await this.machine.read(),
      this.shapes,
      progress,
      this.options.keep,
    )
  }

  /** Adds the time since the last call to `time.json`, which no result depends on. */
  private async keepTime(): Promise<void> {
    const path = join(this.options.folder, "time.json")
    const before = await readFile(path, "utf8")
      .then(JSON.parse)
      .catch(() => ({ seconds: 0 }))
    const now = performance.now()
    await writeWhole(path, `${JSON.stringify({ seconds: before.seconds + (now - this.since) / 1000 })}\n`)
    this.since = now
  }

  private async writeReport(): Promise<void> {
    const lines = (await readFile(this.log, "utf8")).split("\n").filter(Boolean)
    const entries = lines.map((l) => JSON.parse(l) as Record<string, unknown>)
    await writeWhole(join(this.options.folder, "report.html"), htmlReport(this.task, entries))
  }

  report(numbers: Numbers, seconds: number): TrainStep {
    const now = this.task.samplesPerStep / seconds
    this.speed = this.speed === 0 ? now : 0.95 * this.speed + 0.05 * now
    const { steps } = this.task
    return {
      step: this.step,
      steps,
      loss: numbers.loss,
      rate: this.task.rate(this.step),
      samplesPerSecond: this.speed,
      secondsLeft: ((steps - this.step) * this.task.samplesPerStep) / this.speed,
    }
  }

  async close(): Promise<void> {
    await this.machine.close()
    for (const helper of this.helpers) await helper.close()
  }
}

/** One network on the engine given, or replicas on engines of their own. */
async function startMachine(
  engine: Engine,
  task: Task,
  graphs: StepGraphs,
  state: ReadonlyMap<string, Float32Array>,
  { threads, helper }: RunOptions,
): Promise<{ machine: Machine | Crew; helpers: readonly Engine[] }> {
  const { optimizer, held, replicas = 1 } = task
  if (replicas === 1)
    return { machine: await Machine.start(engine, graphs, optimizer, state, { threads, held }), helpers: [] }
  if (!helper || task.sizes || task.accumulate)
    return fail("TRAIN_CONFIG", `${task.name}: replicas need engines of their own and batches of one size`, {
      hint: "set replicas to 1",
    })
  const helpers = Array.from({ length: replicas }, helper)
  return { machine: await Crew.start(helpers, graphs, optimizer, state, { held }), helpers }
}

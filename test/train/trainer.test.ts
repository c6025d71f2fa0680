import { createHash } from "node:crypto"
import { existsSync } from "node:fs"
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { nodeEngine } from "../../src/runtime/node.ts"
import { threadEngine } from "../../src/runtime/thread.ts"
import { readCheckpoint } from "../../src/train/checkpoint.ts"
import type { RunOptions, Task } from "../../src/train/task.ts"
import { configHash, train, trainedWeights } from "../../src/train/trainer.ts"
import { tinyTask } from "./tiny-task.ts"

const engine = nodeEngine()
let root = ""
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "aquatint-train-"))
})
afterAll(async () => {
  await engine.close()
  await rm(root, { recursive: true, force: true })
})

const every = { checkpoint: 10, log: 5, validate: 20, sample: 0 }
async function run(folder: string, task: Task, options: Partial<RunOptions> = {}, until = Infinity) {
  let last: number | undefined
  for await (const s of train(engine, task, { folder, every, threads: 1, ...options })) {
    last = s.loss
    if (s.step >= until) break
  }
  return last
}
const hashOf = async (folder: string, task: Task) => {
  const hash = createHash("sha256")
  for (const [name, data] of await trainedWeights(folder, task, null))
    hash.update(name).update(new Uint8Array(data.buffer))
  return hash.digest("hex")
}

describe("training", () => {
  test("lowers the loss, and leaves log, report and two checkpoints", async () => {
    const folder = join(root, "plain")
    const task = tinyTask(60, { validate: async () => ({ score: 1 }) })
    await run(folder, task)
    const lines = (await readFile(join(folder, "log.jsonl"), "utf8")).trim().split("\n")
    const entries = lines.map((l) => JSON.parse(l) as Record<string, number>)
    const losses = entries.filter((e) => "loss" in e)
    expect(losses).toHaveLength(12)
    expect(losses.at(-1)!.loss).toBeLessThan(losses[0]!.loss! * 0.8)
    expect(entries.filter((e) => "validation" in e)).toHaveLength(3)
    expect(await readdir(join(folder, "checkpoints"))).toEqual(["step-000000050", "step-000000060"])
    expect(await readFile(join(folder, "report.html"), "utf8")).toContain("validation: score")
  })

  test.each([1, 2])(
    "stopped anywhere and begun again, ends with the same weights and log (%i batches a step)",
    async (accumulate) => {
      const task = tinyTask(40, { accumulate })
      const [whole, parts] = [join(root, `whole${accumulate}`), join(root, `parts${accumulate}`)]
      await run(whole, task)
      for (const until of [3, 13, 14, 20, 27, 31]) await run(parts, task, {}, until)
      await run(parts, task)
      expect(await hashOf(parts, task)).toBe(await hashOf(whole, task))
      expect(await readFile(join(parts, "log.jsonl"), "utf8")).toBe(
        await readFile(join(whole, "log.jsonl"), "utf8"),
      )
    },
  )

  test("replicas that share each batch find what one network finds, and resume to the last bit", async () => {
    const built = new URL("../../dist/runtime/thread-child.js", import.meta.url)
    const helper = existsSync(built) ? () => threadEngine(built) : () => nodeEngine()
    const [one, two] = [tinyTask(40), tinyTask(40, { replicas: 2, settings: { replicas: 2 } })]
    const [single, whole, parts] = ["single", "crew", "crew parts"].map((name) => join(root, name)) as [
      string,
      string,
      string,
    ]
    await run(single, one)
    await run(whole, two, { helper })
    for (const until of [3, 14, 31]) await run(parts, two, { helper }, until)
    await run(parts, two, { helper })
    expect(await hashOf(parts, two)).toBe(await hashOf(whole, two))
    const [a, b] = [await trainedWeights(single, one, null), await trainedWeights(whole, two, null)]
    for (const [name, data] of a) {
      const distance = Math.max(...data.map((v, i) => Math.abs(v - b.get(name)![i]!)))
      expect(distance).toBeLessThan(1e-4)
    }
  })

  test("replicas without engines of their own are refused", async () => {
    await expect(run(join(root, "alone"), tinyTask(4, { replicas: 2 }))).rejects.toThrow(
      /engines of their own/,
    )
  })

  test("an abort leaves a checkpoint of the step it stopped at", async () => {
    const task = tinyTask(40)
    const [whole, parts] = [join(root, "whole"), join(root, "aborted")]
    await run(whole, task)
    const stop = new AbortController()
    for await (const s of train(engine, task, { folder: parts, every, threads: 1, signal: stop.signal }))
      if (s.step === 17) stop.abort()
    expect(await readdir(join(parts, "checkpoints"))).toContain("step-000000017")
    await run(parts, task)
    expect(await hashOf(parts, task)).toBe(await hashOf(whole, task))
    expect(await readFile(join(parts, "log.jsonl"), "utf8")).toBe(
      await readFile(join(whole, "log.jsonl"), "utf8"),
    )
  })

  test("a loss that is not a number stops it, and names the step", async () => {
    const task = tinyTask(20, { rate: (step) => (step > 5 ? 1e30 : 0.01) })
    await expect(run(join(root, "diverged"), task)).rejects.toMatchObject({ code: "TRAIN_DIVERGED" })
  })

  test("a folder of other settings is refused", async () => {
    const folder = join(root, "settings")
    await run(folder, tinyTask(20))
    const other = tinyTask(20, { settings: { seed: 2 } })
    await expect(run(folder, other)).rejects.toMatchObject({ code: "CHECKPOINT_CONFIG" })
  })
})

describe("torn checkpoints", () => {
  const task = tinyTask(20)
  const good = () => join(root, "good")
  beforeAll(() => run(good(), task))

  const damaged = async (name: string, damage: (checkpoints: string) => Promise<void>) => {
    const folder = join(root, name)
    await cp(good(), folder, { recursive: true })
    await damage(join(folder, "checkpoints"))
    return readCheckpoint(join(folder, "checkpoints"), configHash(task)).finally(() =>
      rm(folder, { recursive: true }),
    )
  }
  const files = ["state.safetensors", "manifest.json"]
  const place = (n: number, length: number) =>
    Math.floor((Math.abs(Math.sin(n * 78.233)) * 43758.5453) % length)

  test.each(files)("%s cut at 25 places: the one before is used, and the reason told", async (file) => {
    const { length } = await readFile(join(good(), "checkpoints/step-000000020", file))
    for (let n = 0; n < 25; n++) {
      const found = await damaged("cut", (c) => truncate(join(c, "step-000000020", file), place(n, length)))
      expect(found!.progress.step).toBe(10)
      expect(found!.refused).toHaveLength(1)
      expect(found!.refused[0]!.why).toMatch(/step-000000020: /)
    }
  })

  test("one changed byte anywhere in the state is noticed", async () => {
    const path = join(good(), "checkpoints/step-000000020/state.safetensors")
    const bytes = await readFile(path)
    for (let n = 0; n < 25; n++) {
      const found = await damaged("flip", async (c) => {
        const changed = Uint8Array.from(bytes)
        changed[place(n, bytes.length)]! ^= 1 << (n % 8)
        await writeFile(join(c, "step-000000020/state.safetensors"), changed)
      })
      expect(found!.progress.step).toBe(10)
    }
  })

  test("with none left to read it is an error, never a fresh start", async () => {
    const all = damaged("none", async (c) => {
      for (const step of await readdir(c)) await truncate(join(c, step, "state.safetensors"), 100)
    })
    await expect(all).rejects.toMatchObject({ code: "CHECKPOINT_BROKEN" })
  })

  test("training goes on from the one before", async () => {
    const folder = join(root, "onward")
    await cp(good(), folder, { recursive: true })
    await truncate(join(folder, "checkpoints/step-000000020/state.safetensors"), 50)
    await run(folder, task)
    expect(await hashOf(folder, task)).toBe(await hashOf(good(), task))
  })
})

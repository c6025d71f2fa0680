import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { streamOf } from "../../src/train/init.ts"
import { writeTinyData, writeTinyModel } from "./tiny.ts"

/*
 * Trainings killed at any moment end with the very bits of one left alone. Fifty kills of each:
 * AQUATINT_KILLS=50 npx vitest run test/train/kill.test.ts
 */
const byHand = Number(process.env.AQUATINT_KILLS ?? 0)
const patience = { timeout: byHand ? 3_600_000 : 240_000 }

let root = ""
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "aquatint-kill-"))
})
afterAll(() => rm(root, { recursive: true, force: true }))

type Start = (folder: string) => ChildProcess
const ended = (p: ChildProcess) => new Promise<number | null>((done) => p.once("exit", done))

/** Kills -9 some time after the first sign of life. @returns whether it was still alive then */
async function killed(start: Start, folder: string, wait: number): Promise<boolean> {
  const p = start(folder)
  const end = ended(p)
  await Promise.race([new Promise((go) => p.stderr!.once("data", go)), end])
  await new Promise((go) => setTimeout(go, wait))
  p.kill("SIGKILL")
  return (await end) === null
}

/** Kills a training as often as there are waits, lets it end, and tells how many kills met it alive. */
async function often(start: Start, folder: string, waits: readonly number[]): Promise<number> {
  let count = 0
  for (const wait of waits) if (await killed(start, folder, wait)) count++
  expect(await ended(start(folder))).toBe(0)
  return count
}

/** Waits up to a longest one, drawn anew for every run by hand. */
const waits = (count: number, longest: number): number[] => {
  const stream = streamOf(byHand ? Date.now() % 1e6 : 1, "waits")
  return Array.from(stream.normal(count), (v) => (Math.abs(v) / 2) * longest)
}

test("the trainer: weights, averages and log", patience, async () => {
  const child = join(import.meta.dirname, "kill-child.mjs")
  const kills = byHand || 6
  const steps = 60 * kills
  const start: Start = (folder) =>
    spawn(process.execPath, [child, folder, String(steps)], { stdio: ["ignore", "ignore", "pipe"] })
  const results = async (folder: string) => {
    const last = join(folder, "checkpoints", `step-${String(steps).padStart(9, "0")}`)
    const manifest = JSON.parse(await readFile(join(last, "manifest.json"), "utf8")) as {
      files: Record<string, { sha256: string }>
    }
    return [manifest.files["state.safetensors"]!.sha256, await readFile(join(folder, "log.jsonl"), "utf8")]
  }
  expect(await ended(start(join(root, "alone")))).toBe(0)
  const alive = await often(start, join(root, "often"), waits(kills, 150))
  expect(alive).toBeGreaterThan(kills / 2)
  expect(await results(join(root, "often"))).toEqual(await results(join(root, "alone")))
})

test("`aquatint train`: the file it leaves", patience, async () => {
  const [model, data] = [join(root, "model"), join(root, "data")]
  await writeTinyModel(model)
  await writeTinyData(data)
  const kills = byHand || 3
  const settings = { steps: 40 * kills, batch: 2, resolution: 16, "checkpoint-every": 3, "sample-steps": 2 }
  const options = Object.entries({ ...settings, "sample-every": 50, "log-every": 1, seed: 4 })
  const program = join(import.meta.dirname, "..", "..", "dist", "bin", "aquatint.js")
  const start: Start = (folder) =>
    spawn(
      process.execPath,
      [program, "train", "lora", "-m", model, "-d", data, "-o", folder, "--rank", "2"].concat(
        options.flatMap(([name, value]) => [`--${name}`, String(value)]),
      ),
      { stdio: ["ignore", "ignore", "pipe"] },
    )
  const results = async (folder: string) => {
    const files = (await readdir(folder)).filter((f) => f.endsWith(".safetensors")).sort()
    expect(files.length).toBeGreaterThan(0)
    const bytes = await Promise.all(files.map((f) => readFile(join(folder, f))))
    return bytes.map((b) => createHash("sha256").update(b).digest("hex"))
  }
  expect(await ended(start(join(root, "lora alone")))).toBe(0)
  const alive = await often(start, join(root, "lora often"), waits(kills, 4000))
  expect(alive).toBeGreaterThan(0)
  expect(await results(join(root, "lora often"))).toEqual(await results(join(root, "lora alone")))
})

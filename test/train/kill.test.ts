import { type ChildProcess, spawn } from "node:child_process"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"

const child = join(import.meta.dirname, "kill-child.mjs")
const steps = 240
let root = ""
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "aquatint-kill-"))
})
afterAll(() => rm(root, { recursive: true, force: true }))

const start = (folder: string): ChildProcess =>
  spawn(process.execPath, [child, folder, String(steps)], { stdio: ["ignore", "pipe", "inherit"] })
const ended = (p: ChildProcess) => new Promise<number | null>((done) => p.once("exit", done))

/** Kills -9 some time after the first step, at a moment that differs from call to call. */
async function killed(folder: string, wait: number): Promise<number | null> {
  const p = start(folder)
  const end = ended(p)
  await Promise.race([new Promise((go) => p.stdout!.once("data", go)), end])
  await new Promise((go) => setTimeout(go, wait))
  p.kill("SIGKILL")
  return end
}

const results = async (folder: string) => {
  const last = join(folder, "checkpoints", `step-${String(steps).padStart(9, "0")}`)
  const manifest = JSON.parse(await readFile(join(last, "manifest.json"), "utf8")) as {
    files: Record<string, { sha256: string }>
  }
  return [manifest.files["state.safetensors"]!.sha256, await readFile(join(folder, "log.jsonl"), "utf8")]
}

test("killed six times at any moment, a training ends with the weights and the log of one left alone", async () => {
  const [alone, often] = [join(root, "alone"), join(root, "often")]
  expect(await ended(start(alone))).toBe(0)
  for (const wait of [3, 41, 87, 150, 22, 120]) await killed(often, wait)
  expect(await ended(start(often))).toBe(0)
  expect(await results(often)).toEqual(await results(alone))
})

import { existsSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { DeviceName, Engine } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { spawnEngine } from "../../src/runtime/spawn.ts"
import { hasChromium, openPage, type TestPage } from "../web/browser.ts"
import { checks, conform, type Outcome } from "./suite.ts"

/** One suite, many engines. A runner whose program or driver is missing here is left out of the list. */
interface Runner {
  name: string
  limit: number
  outcomes(): Promise<Outcome[]>
}

const golden = resolve(import.meta.dirname, "../golden/models")
const read = (path: string) => readFile(join(golden, path))
const locate = (path: string) => join(golden, path)

const inNode =
  (start: () => Engine, device: DeviceName, { only = "", mapped = true } = {}) =>
  async () => {
    const engine = start()
    try {
      return await conform({ engine, device, read, ...(mapped ? { locate } : {}) }, only)
    } finally {
      await engine.close()
    }
  }

const child = new URL("../../dist/runtime/child.js", import.meta.url)
const vulkan = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
]
const driver = vulkan.find((path) => existsSync(path))
const loader = ["x86_64-linux-gnu", "aarch64-linux-gnu"].some((arch) =>
  existsSync(`/usr/lib/${arch}/libvulkan.so.1`),
)
// a GPU in software takes seconds per kernel: some ops and the smallest networks, the U-Net once
const few = "op (add|where|matmul|softmax)|odd channels|sd1-odd text"

function softwareGpu(): Engine {
  Object.assign(process.env, { VK_ICD_FILENAMES: driver, XDG_RUNTIME_DIR: tmpdir() })
  return spawnEngine(child)
}

let browser: TestPage | undefined
beforeAll(async () => {
  if (hasChromium) browser = await openPage()
}, 120_000)
afterAll(() => browser?.close())
const inBrowser = (device: "wasm" | "webgpu", only?: string) => () =>
  browser!.page.evaluate(([device, only]) => window.conform(device, only), [device, only] as const)

const built = existsSync(child)
const runners: Runner[] = [
  { name: "this process", limit: 2e-5, outcomes: inNode(nodeEngine, "cpu") },
  {
    name: "this process, weights in memory",
    limit: 2e-5,
    outcomes: inNode(nodeEngine, "cpu", { only: "sd", mapped: false }),
  },
  ...(built
    ? [{ name: "a child process", limit: 2e-5, outcomes: inNode(() => spawnEngine(child), "cpu") }]
    : []),
  ...(built && driver && loader
    ? [
        {
          name: "WebGPU in software",
          limit: 1e-3,
          outcomes: inNode(softwareGpu, "webgpu", { only: `${few}|sd1-odd U` }),
        },
      ]
    : []),
  ...(hasChromium
    ? [
        { name: "Chromium, WebAssembly", limit: 2e-5, outcomes: inBrowser("wasm") },
        { name: "Chromium, WebGPU in software", limit: 1e-3, outcomes: inBrowser("webgpu", few) },
      ]
    : []),
]

describe.each(runners)("$name", ({ limit, outcomes }) => {
  test("computes every op and the golden networks alike", { timeout: 400_000 }, async () => {
    const got = await outcomes()
    expect(got.length).toBeGreaterThan(5)
    expect(got.filter(({ error }) => !(error < limit))).toEqual([])
  })
})

test("the suite covers ops and networks", () => {
  expect(Object.keys(checks).length).toBeGreaterThan(40)
})

test.runIf(hasChromium)("the bundler finds nothing of Node's in the browser build", () => {
  expect(browser!.bundled.warnings).toEqual([])
  expect(browser!.bundled.files.filter((f) => f.endsWith(".wasm")).length).toBe(2)
})

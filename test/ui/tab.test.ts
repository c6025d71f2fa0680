import { mkdtempSync, rmSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join, normalize } from "node:path"
import { type Browser, chromium, type Page } from "playwright-core"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { decodeImage, readMetadata, StableDiffusion } from "../../src/index.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { chromiumPath, hasChromium, softwareGpu } from "../web/browser.ts"
import { audit, setSteps } from "./serve.ts"

const models = join(import.meta.dirname, "../golden/models")
const ask = { prompt: "a lighthouse at sunset", steps: 4, seed: 7, width: 72, height: 64 }
const types: Record<string, string> = {
  html: "text/html",
  js: "text/javascript",
  css: "text/css",
  svg: "image/svg+xml",
  wasm: "application/wasm",
  webmanifest: "application/manifest+json",
}

/** A plain file server, as any web space is: no headers of its own, nothing but files. */
async function serve(folder: string): Promise<{ url: string; close(): void }> {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname))
    const from = path.startsWith("/models/") ? join(models, path.slice(8)) : join(folder, path)
    const file = from.endsWith("/") ? `${from}index.html` : from
    const bytes = await readFile(file).catch(() => null)
    const type = types[file.split(".").at(-1)!] ?? "application/octet-stream"
    response.writeHead(bytes ? 200 : 404, { "content-type": type, "content-length": bytes?.length ?? 0 })
    response.end(request.method === "HEAD" ? undefined : (bytes ?? undefined))
  })
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready))
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close }
}

/** Writes the request into the page's own fields, draws, and takes the file out of the page. */
async function drawThere(page: Page, timeout = 120_000): Promise<Uint8Array> {
  await setSteps(page, ask.steps)
  await page.getByLabel("Seed", { exact: true }).fill(String(ask.seed))
  await page.getByText("Own", { exact: true }).click()
  await page.getByLabel("Width", { exact: true }).fill(String(ask.width))
  await page.getByLabel("Height", { exact: true }).fill(String(ask.height))
  await page.fill("#prompt", ask.prompt)
  // counted by the opened model's own vocabulary
  await page.locator(".counter", { hasText: "/38" }).waitFor()
  await page.locator("button.main").click()
  await page.getByRole("status").filter({ hasText: "The picture is finished." }).waitFor({ timeout })
  const image = page.locator(`.plate img[alt="Picture: ${ask.prompt}"]`)
  await image.waitFor()
  const download = page.waitForEvent("download")
  await page.getByRole("button", { name: "Save" }).click()
  return new Uint8Array(await readFile(await (await download).path()))
}

/** Makes the newest picture twice as large without drawing, and takes that file out of the page. */
async function enlargeThere(page: Page): Promise<void> {
  await page.getByRole("button", { name: "More", exact: true }).click()
  await page.getByRole("button", { name: "Enlarge", exact: true }).click()
  await page.getByText("Nothing is drawn").waitFor()
  await page.getByText(`Result: ${2 * ask.width} × ${2 * ask.height}`).waitFor()
  await page.getByRole("button", { name: "Enlarge", exact: true }).click()
  await page.locator(`.plate img[width="${2 * ask.width}"]`).waitFor()
  const download = page.waitForEvent("download")
  await page.getByRole("button", { name: "Save" }).click()
  const file = new Uint8Array(await readFile(await (await download).path()))
  const { width, height } = await decodeImage(file)
  expect([width, height]).toEqual([2 * ask.width, 2 * ask.height])
  // it says how it was made, and by a machine, as the one that it came from does
  const { parameters, xmp } = await readMetadata(file)
  expect(parameters).toContain(`Seed: ${ask.seed}`)
  expect(xmp).toContain("trainedAlgorithmicMedia")
}

describe.runIf(hasChromium)("the page without a server, in Chromium", () => {
  let folder: string
  let server: Awaited<ReturnType<typeof serve>>
  let browser: Browser
  let want: Uint8ClampedArray
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "aquatint-tab-"))
    const path = "../../scripts/ui.mjs"
    const { buildUi } = (await import(path)) as { buildUi(kind: "tab", out: string): Promise<void> }
    await buildUi("tab", folder)
    server = await serve(folder)
    browser = await chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox"] })
    const engine = nodeEngine()
    const sd = await StableDiffusion.load(join(models, "sd1-odd"), { engine, cache: null })
    const { images } = await sd.generate(ask)
    want = images[0]!.picture.data
    await engine.close()
  }, 180_000)
  afterAll(async () => {
    await browser?.close()
    server?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const off = async (file: Uint8Array) => {
    const { data, width, height } = await decodeImage(file)
    expect([width, height]).toEqual([ask.width, ask.height])
    return data.reduce((sum, v, i) => sum + Math.abs(v - want[i]!), 0) / want.length
  }

  test("a model's folder is opened, kept, and draws what the command line draws; then without a network", {
    timeout: 240_000,
  }, async () => {
    const context = await browser.newContext({ locale: "en", acceptDownloads: true })
    const page = await context.newPage()
    const complaints: string[] = []
    page.on("console", (m) => m.type() === "error" && complaints.push(m.text()))
    page.on("pageerror", (e) => complaints.push(String(e)))
    await page.goto(`${server.url}?device=wasm`)
    await page.waitForFunction(() => crossOriginIsolated, undefined, { timeout: 60_000 })
    await page.getByRole("heading", { name: "A model for this page" }).waitFor()
    expect(await audit(page)).toEqual([])
    const chosen = page.waitForEvent("filechooser")
    await page.getByRole("button", { name: /Choose a model folder/ }).click()
    await (await chosen).setFiles(join(models, "sd1-odd"))
    await page.locator("#prompt").waitFor({ timeout: 60_000 })
    expect(await off(await drawThere(page))).toBeLessThan(1)
    expect(complaints).toEqual([])
    await enlargeThere(page)

    await context.setOffline(true)
    server.close()
    try {
      await page.reload()
      await page.getByRole("button", { name: "sd1-odd", exact: true }).click({ timeout: 60_000 })
      await page.locator("#prompt").waitFor({ timeout: 60_000 })
      await page.locator(`.plate img[alt="Picture: ${ask.prompt}"]`).waitFor()
      expect(await off(await drawThere(page))).toBeLessThan(1)
      expect(complaints).toEqual([])
    } finally {
      await context.close()
      // the next test asks a server again
      server = await serve(folder)
    }
  })

  test("a model behind an address is fetched once and used offline; a wrong one is answered with a reason", {
    timeout: 240_000,
  }, async () => {
    const context = await browser.newContext({ locale: "en", acceptDownloads: true })
    const page = await context.newPage()
    await page.goto(`${server.url}?device=wasm`)
    await page.waitForFunction(() => crossOriginIsolated, undefined, { timeout: 60_000 })
    const fetchFrom = async (name: string) => {
      await page.getByLabel("Address of a model").fill(`${server.url}models/${name}`)
      await page.getByRole("button", { name: "Fetch" }).click()
    }
    await fetchFrom("nothing-here")
    await page.getByRole("alert").waitFor({ timeout: 60_000 })
    await fetchFrom("sd1-odd")
    await page.locator("#prompt").waitFor({ timeout: 60_000 })
    await context.setOffline(true)
    server.close()
    await page.reload()
    await page.getByRole("button", { name: "sd1-odd", exact: true }).click({ timeout: 60_000 })
    await page.locator("#prompt").waitFor({ timeout: 60_000 })
    expect(await off(await drawThere(page))).toBeLessThan(1)
    await context.close()
    server = await serve(folder)
  })

  // a GPU in software takes seconds for each kernel: `AQUATINT_WEBGPU=1 npx vitest run test/ui/tab.test.ts`
  test.runIf(process.env.AQUATINT_WEBGPU)("draws with WebGPU", { timeout: 900_000 }, async () => {
    const gpu = await chromium.launch({ executablePath: chromiumPath, args: softwareGpu })
    const context = await gpu.newContext({ locale: "en", acceptDownloads: true })
    const page = await context.newPage()
    await page.goto(`${server.url}?device=webgpu`)
    await page.waitForFunction(() => crossOriginIsolated, undefined, { timeout: 120_000 })
    const chosen = page.waitForEvent("filechooser")
    await page.getByRole("button", { name: /Choose a model folder/ }).click()
    await (await chosen).setFiles(join(models, "sd1-odd"))
    await page.locator("#prompt").waitFor({ timeout: 300_000 })
    expect(await off(await drawThere(page, 800_000))).toBeLessThan(1)
    await gpu.close()
  })
})

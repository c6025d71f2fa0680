import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join, normalize } from "node:path"
import { type Browser, chromium, type Page } from "playwright-core"
import { build, type Rolldown } from "vite"

/** Debian's Chromium; tests in browsers are left out where it is missing. */
export const chromiumPath = "/usr/bin/chromium"
export const hasChromium = existsSync(chromiumPath)

const types: Record<string, string> = {
  html: "text/html",
  js: "text/javascript",
  wasm: "application/wasm",
  json: "application/json",
}

/** The test page as a bundler makes it for users, and what the bundler had to say. */
export async function bundle(outDir: string): Promise<{ files: string[]; warnings: string[] }> {
  const warnings: string[] = []
  const made = (await build({
    root: import.meta.dirname,
    configFile: false,
    logLevel: "silent",
    base: "./",
    build: {
      outDir,
      emptyOutDir: true,
      target: "es2022",
      minify: false,
      reportCompressedSize: false,
      rolldownOptions: {
        input: join(import.meta.dirname, "page.html"),
        checks: { pluginTimings: false },
        onwarn: (warning) => warnings.push(warning.message),
      },
    },
  })) as Rolldown.RolldownOutput
  return { files: made.output.map((f) => f.fileName), warnings }
}

/** Serves the bundle, test/golden and the embedded model on a port of this machine, isolated so that pages may share memory. */
async function serve(folder: string): Promise<{ url: string; close(): void }> {
  const golden = join(import.meta.dirname, "../golden")
  const embedded = join(import.meta.dirname, "../../assets/embedded")
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname))
    const from = path.startsWith("/golden/") ? golden : path.startsWith("/embedded/") ? embedded : null
    const file = from ? join(from, path.slice(path.indexOf("/", 1))) : join(folder, path)
    const bytes = await readFile(file).catch(() => null)
    response.writeHead(bytes ? 200 : 404, {
      "content-type": types[file.split(".").at(-1)!] ?? "application/octet-stream",
      "content-length": bytes?.length ?? 0,
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
    })
    response.end(bytes ?? undefined)
  })
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

export interface TestPage {
  page: Page
  url: string
  bundled: Awaited<ReturnType<typeof bundle>>
  /** What the page wrote to its console as errors, and what it threw. */
  complaints: string[]
  close(): Promise<void>
}

/** What Chromium is started with for WebGPU in software. */
export const softwareGpu = [
  "--no-sandbox",
  "--disable-gpu-sandbox",
  "--enable-unsafe-webgpu",
  "--enable-features=Vulkan",
  "--use-vulkan=swiftshader",
  "--use-webgpu-adapter=swiftshader",
  "--ignore-gpu-blocklist",
]

/** The test page in Chromium, with WebGPU in software. */
export async function openPage(): Promise<TestPage> {
  const folder = mkdtempSync(join(tmpdir(), "aquatint-web-"))
  let server: Awaited<ReturnType<typeof serve>> | undefined
  let browser: Browser | undefined
  const close = async () => {
    await browser?.close()
    server?.close()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    const bundled = await bundle(folder)
    server = await serve(folder)
    browser = await chromium.launch({
      executablePath: chromiumPath,
      args: softwareGpu,
    })
    const page = await browser.newPage()
    const complaints: string[] = []
    page.on("console", (m) => m.type() === "error" && complaints.push(m.text()))
    page.on("pageerror", (e) => complaints.push(String(e)))
    await page.goto(`${server.url}/page.html`)
    return { page, url: server.url, bundled, complaints, close }
  } catch (error) {
    await close()
    throw error
  }
}

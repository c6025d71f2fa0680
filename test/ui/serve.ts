import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"
import { chromiumPath, hasChromium } from "../web/browser.ts"

const root = join(import.meta.dirname, "../..")
const program = join(root, "dist/bin/aquatint.js")

/** The page is tested as it is built and served: both must be there. */
export const canServe = hasChromium && existsSync(program) && existsSync(join(root, "dist/ui/index.html"))

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

export interface Wrong {
  id: string
  where: string[]
}

export interface House {
  url: string
  /** A page of its own, with what it complained about. */
  open(options?: BrowserContextOptions, view?: string): Promise<{ page: Page; complaints: string[] }>
  api<T>(path: string): Promise<T>
  close(): Promise<void>
}

async function listen(child: ChildProcess): Promise<string> {
  let said = ""
  child.stderr!.on("data", (chunk) => (said += chunk))
  return new Promise((done, failed) => {
    let out = ""
    child.stdout!.on("data", (chunk) => {
      out += chunk
      const found = /listens on (\S+)/.exec(out)
      if (found) done(found[1]!)
    })
    child.on("exit", (code) => failed(new Error(`the server ended with ${code}: ${said}`)))
  })
}

/** The real server with a small model of random weights, and a browser to visit it with. */
export async function openHouse(models = ["sd1-odd", "sd1-tiny"]): Promise<House> {
  const data = mkdtempSync(join(tmpdir(), "aquatint-ui-"))
  const args = [
    program,
    "serve",
    "--port",
    "0",
    "--data",
    data,
    ...models.flatMap((model) => ["-m", join(root, "test/golden/models", model)]),
  ]
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] })
  let browser: Browser | undefined
  const close = async () => {
    await browser?.close()
    const ended = new Promise((done) => child.once("exit", done))
    if (child.exitCode === null && child.kill("SIGTERM")) await ended
    rmSync(data, { recursive: true, force: true, maxRetries: 5 })
  }
  try {
    const url = await listen(child)
    browser = await chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox"] })
    const open: House["open"] = async (options = {}, view = "") => {
      const context = await browser!.newContext({
        locale: "en",
        viewport: { width: 1280, height: 900 },
        ...options,
      })
      const page = await context.newPage()
      page.setDefaultTimeout(60_000)
      const complaints: string[] = []
      page.on("console", (m) => m.type() === "error" && complaints.push(m.text()))
      page.on("pageerror", (e) => complaints.push(String(e)))
      await page.goto(`${url}/#/${view}`)
      await page.locator("main > *").first().waitFor()
      return { page, complaints }
    }
    const api = async <T>(path: string) => (await (await fetch(url + path)).json()) as T
    return { url, open, api, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** What axe-core finds wrong with the page as it stands. */
export async function audit(page: Page): Promise<Wrong[]> {
  // run by the debugger, which the page's content policy does not bind
  await page.evaluate(axeSource)
  return page.evaluate(async () => {
    const { axe } = window as unknown as {
      axe: { run(): Promise<{ violations: { id: string; nodes: { target: string[] }[] }[] }> }
    }
    const { violations } = await axe.run()
    return violations.map(({ id, nodes }) => ({ id, where: nodes.map((n) => n.target.join(" ")) }))
  })
}

/** Writes a prompt, presses the button, and waits for the picture. */
export async function draw(page: Page, prompt: string): Promise<void> {
  await page.fill("#prompt", prompt)
  await page.locator("button.main").click()
  await page.locator(`.plate img[alt="Picture: ${prompt}"]`).waitFor()
}

/** Unfolds the settings with all of their parts and sets how many steps are drawn. */
export async function setSteps(page: Page, steps: number): Promise<void> {
  const unfold = page.getByRole("button", { name: "Settings", exact: true })
  if ((await unfold.getAttribute("aria-expanded")) !== "true") await unfold.click()
  const part = page.locator("details", { hasText: "Drawing" })
  if ((await part.getAttribute("open")) === null) await part.locator("summary").click()
  await page.getByLabel("Steps", { exact: true }).fill(String(steps))
}

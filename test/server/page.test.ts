import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { chromium } from "playwright-core"
import { expect, test } from "vitest"
import { audit } from "../ui/serve.ts"
import { chromiumPath, hasChromium } from "../web/browser.ts"
import { ask, model, serve } from "./harness.ts"

test.runIf(hasChromium)("the built page is served under its own rules and talks to the server", async () => {
  const data = mkdtempSync(join(tmpdir(), "aquatint-page-"))
  const server = await serve(["--data", data, "-m", model, "--role", "api"])
  const browser = await chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox"] })
  try {
    const page = await browser.newPage()
    const wrong: string[] = []
    page.on("console", (message) => message.type() === "error" && wrong.push(message.text()))
    page.on("pageerror", (error) => wrong.push(error.message))
    const asked = page.waitForResponse((response) => response.url().endsWith("/api/models"))
    await page.goto(server.url)
    expect((await asked).status()).toBe(200)
    await page.waitForSelector("textarea", { timeout: 20_000 })
    // the page's own fetches pass the origin check; a page of another origin does not
    const own = await page.evaluate(async () => (await fetch("/api/session", { method: "DELETE" })).status)
    expect(own).toBe(204)
    expect(wrong).toEqual([])
    expect((await ask(`${server.url}/health`)).status).toBe(200)
  } finally {
    await browser.close()
    await server.stop()
    rmSync(data, { recursive: true })
  }
})

test.runIf(hasChromium)("a server with tokens asks for one, and knows who has shown it", async () => {
  const data = mkdtempSync(join(tmpdir(), "aquatint-door-"))
  const token = "ann-secret-0123456789"
  const server = await serve(["--data", data, "-m", model, "--role", "api", "--token", `ann:${token}`])
  const browser = await chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox"] })
  try {
    const page = await (await browser.newContext({ locale: "de" })).newPage()
    page.setDefaultTimeout(60_000)
    await page.goto(server.url)
    await page.getByRole("heading", { name: "Bitte ein Token" }).waitFor()
    expect(await audit(page)).toEqual([])
    await page.getByLabel("Token", { exact: true }).fill("not-the-right-one")
    await page.getByRole("button", { name: "Eintreten" }).click()
    await page.getByRole("alert").filter({ hasText: "Dieses Token kennt der Server nicht." }).waitFor()
    expect(await audit(page)).toEqual([])
    await page.getByLabel("Token", { exact: true }).fill(token)
    await page.getByRole("button", { name: "Eintreten" }).click()
    await page.locator("#prompt").waitFor()
    await page.reload()
    await page.locator("#prompt").waitFor()
  } finally {
    await browser.close()
    await server.stop()
    rmSync(data, { recursive: true })
  }
})

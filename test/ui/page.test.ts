import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Page } from "playwright-core"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { decodeImage, encodeImage } from "../../src/index.ts"
import { audit, canServe, draw, type House, openHouse, setSteps } from "./serve.ts"

interface ImageRecord {
  id: string
  prompt: string
  sha256: string
  seed: number
  url: string
  width: number
  request: {
    model?: string
    loras?: object[]
    steps?: number
    strength?: number
    maskBlur?: number
    mask?: object
    width?: number
  }
}

describe.runIf(canServe)("the page, in Chromium, on the real server", { timeout: 180_000 }, () => {
  let house: House
  let folder: string
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "aquatint-ui-files-"))
    house = await openHouse()
  }, 60_000)
  afterAll(async () => {
    await house?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const newest = async () => (await house.api<{ images: ImageRecord[] }>("/api/images")).images[0]!
  const bytesOf = async ({ url }: ImageRecord) =>
    new Uint8Array(await (await fetch(house.url + url)).arrayBuffer())
  const done = (page: Page) => page.context().close()

  test("a sentence and one button make a picture, and all is said aloud", async () => {
    const { page, complaints } = await house.open()
    expect(await page.locator("main").locator("input, select").count()).toBe(0)
    await page.fill("#prompt", "a red fox")
    await page.locator(".counter", { hasText: "5/38" }).waitFor()
    await draw(page, "a red fox")
    await page.getByRole("status").filter({ hasText: "The picture is finished." }).waitFor()
    const image = page.locator(".plate img")
    await expect.poll(() => image.evaluate((i: HTMLImageElement) => i.naturalWidth)).toBe(64)
    await expect.poll(async () => (await newest()).prompt).toBe("a red fox")
    await page.reload()
    await page.locator('.plate img[alt="Picture: a red fox"]').waitFor()
    expect(complaints).toEqual([])
    await done(page)
  })

  test("weights by the keyboard, then Ctrl+Enter", async () => {
    const { page } = await house.open()
    await page.fill("#prompt", "a red fox")
    await page.locator("#prompt").evaluate((box: HTMLTextAreaElement) => box.setSelectionRange(2, 5))
    await page.keyboard.press("Control+ArrowUp")
    await page.keyboard.press("Control+ArrowUp")
    await expect.poll(() => page.inputValue("#prompt")).toBe("a (red:1.2) fox")
    await page.keyboard.press("Control+Enter")
    await page.locator('.plate img[alt="Picture: a (red:1.2) fox"]').waitFor()
    await done(page)
  })

  test("a picture under way is cancelled; waiting ones change places", async () => {
    const { page } = await house.open()
    // many pictures of many steps: it runs until it is told to stop
    const long = { prompt: "one", steps: 150, width: 256, height: 256, count: 16 }
    await fetch(`${house.url}/api/jobs`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(long),
    })
    const rows = page.locator(".queue-row")
    await page.locator(".queue-row.running, .progress").first().waitFor()
    for (const prompt of ["two", "three"]) {
      await page.fill("#prompt", prompt)
      await page.locator("button.main").click()
      await rows.filter({ hasText: prompt }).waitFor()
    }
    await page.getByRole("button", { name: "Move up: three" }).click()
    const names = async () => (await page.locator(".queue-row .line:first-child").allTextContents()).join()
    await expect.poll(names).toBe("one,three,two")
    await page.getByRole("button", { name: "Cancel: two" }).click()
    await expect.poll(names).toBe("one,three")
    await page.getByRole("button", { name: "Cancel: one" }).click()
    // what comes next is on the plate by itself
    await page.locator('.plate img[alt="Picture: three"]').waitFor()
    const states = async () => {
      const { jobs } = await house.api<{ jobs: { state: string; request: { prompt: string } }[] }>(
        "/api/jobs",
      )
      return ["one", "two", "three"].map((prompt) => jobs.find((j) => j.request.prompt === prompt)?.state)
    }
    await expect.poll(states).toEqual(["cancelled", "cancelled", "done"])
    await done(page)
  })

  test("reuse takes over everything: the same file comes out again", async () => {
    const { page } = await house.open()
    await setSteps(page, 6)
    await page.getByRole("button", { name: "Roll a seed" }).click()
    await draw(page, "hills in mist")
    const first = await newest()
    await page.goto(`${house.url}/#/print/${first.id}`)
    await page.getByText(String(first.seed)).first().waitFor()
    await page.getByRole("button", { name: "Reuse" }).click()
    await expect.poll(() => page.inputValue("#prompt")).toBe("hills in mist")
    await page.locator("button.main").click()
    await expect.poll(async () => (await newest()).id).not.toBe(first.id)
    expect((await newest()).sha256).toBe(first.sha256)
    await done(page)
  })

  test("a part is painted over and drawn anew; the rest stays", async () => {
    const { page } = await house.open()
    await draw(page, "a calm sea")
    const before = await newest()
    await page.getByRole("button", { name: "Repaint" }).click()
    const box = (await page.locator(".mask canvas").boundingBox())!
    const at = (x: number, y: number) => [box.x + x * box.width, box.y + y * box.height] as const
    await page.getByLabel("Brush size").fill("16")
    await page.getByLabel("Soft edge").fill("2")
    await page.mouse.move(...at(0.2, 0.2))
    await page.mouse.down()
    await page.mouse.move(...at(0.3, 0.2), { steps: 4 })
    await page.mouse.up()
    await page.getByRole("button", { name: "Undo" }).click()
    await page.getByRole("button", { name: "Redo" }).click()
    await page.getByRole("button", { name: "Repaint" }).last().click()
    await expect.poll(async () => (await newest()).id, { timeout: 90_000 }).not.toBe(before.id)
    const after = await newest()
    expect(after.request).toMatchObject({ maskBlur: 2, strength: 0.85 })
    const [old, made] = await Promise.all([before, after].map(async (i) => decodeImage(await bytesOf(i))))
    const off = (x: number, y: number) => {
      const i = 3 * (y * old!.width + x)
      return Math.abs(old!.data[i]! - made!.data[i]!) + Math.abs(old!.data[i + 1]! - made!.data[i + 1]!)
    }
    expect(off(60, 60)).toBe(0)
    expect([off(14, 12), off(16, 14), off(18, 12)].some((d) => d > 0)).toBe(true)
    await done(page)
  })

  test("the brush is moved and pressed by keys alone", async () => {
    const { page } = await house.open({}, `edit/${(await newest()).id}`)
    await page.locator(".mask canvas").focus()
    await page.keyboard.press("ArrowLeft")
    const painted = () =>
      page.locator(".mask canvas").evaluate((c: HTMLCanvasElement) =>
        c
          .getContext("2d")!
          .getImageData(0, 0, c.width, c.height)
          .data.some((v) => v > 0),
      )
    // keys do nothing before the picture is there
    await expect
      .poll(async () => {
        await page.keyboard.press("Space")
        return painted()
      })
      .toBe(true)
    await done(page)
  })

  test("a dropped file is the start; extending and enlarging give larger pictures", async () => {
    const { page } = await house.open()
    const file = join(folder, "start.png")
    writeFileSync(file, await bytesOf(await newest()))
    const chosen = page.waitForEvent("filechooser")
    await page.getByRole("button", { name: "Picture", exact: true }).click()
    await (await chosen).setFiles(file)
    await page.getByLabel("How much is redrawn").fill("0.4")
    await draw(page, "the same, at night")
    const made = await newest()
    expect(made.request.strength).toBe(0.4)
    await page.goto(`${house.url}/#/extend/${made.id}`)
    await page.getByLabel("Right").fill("64")
    await page.getByRole("button", { name: "Extend" }).click()
    await expect.poll(async () => (await newest()).request.width, { timeout: 90_000 }).toBe(128)
    await page.goto(`${house.url}/#/enlarge/${made.id}`)
    await page.getByText("1.5").click()
    // what a model of small pictures is not trusted with unasked
    await page.getByLabel("How", { exact: true }).selectOption("Drawn anew by the model")
    await page.getByRole("button", { name: "Enlarge" }).click()
    await expect.poll(async () => (await newest()).request.width, { timeout: 90_000 }).toBe(96)
    await done(page)
  })

  test("the gallery is searched; what is deleted can be taken back; two are compared", async () => {
    const { page } = await house.open({}, "gallery")
    const tiles = page.locator(".tile")
    await page.getByLabel("Search prompts").fill("hills mist")
    await expect.poll(() => tiles.count()).toBe(2)
    await page.getByRole("button", { name: "Select" }).click()
    for (const box of await page.getByRole("checkbox").all()) await box.check()
    await page.getByRole("button", { name: "Delete" }).click()
    await expect.poll(() => tiles.count()).toBe(0)
    await page.getByRole("button", { name: "Undo" }).click()
    await expect.poll(() => tiles.count()).toBe(2)
    for (const box of await page.getByRole("checkbox").all()) await box.check()
    await page.getByRole("button", { name: "Compare two" }).click()
    await page.getByText("Same settings throughout.").waitFor()
    await page.getByLabel("Divider between the two pictures").press("ArrowRight")
    await done(page)
  })

  test("what is left to the model is told by number, here and in the grid", async () => {
    const { page } = await house.open()
    await page.getByRole("button", { name: "Settings", exact: true }).click()
    await page.locator("details", { hasText: "Drawing" }).locator("summary").click()
    const told = () => page.locator(".slider.resting output").allTextContents()
    expect(await told()).toEqual(["20 · model's choice", "7.5 · model's choice"])
    await page.goto(`${house.url}/#/grid`)
    const values = () => Promise.all([0, 1].map((i) => page.getByLabel("Values").nth(i).inputValue()))
    expect(await values()).toEqual(["10, 20, 30", "4, 7.5, 11.5"])
    await page.getByLabel("Down", { exact: true }).selectOption("size")
    expect(await values()).toEqual(["10, 20, 30", "64x64, 64x80, 80x64"])
    await page.getByLabel("Values").first().fill("3")
    expect(await values()).toEqual(["3", "64x64, 64x80, 80x64"])
    await page.getByLabel("Values").first().fill("")
    await page.getByText("Write values for both directions").waitFor()
    await done(page)
  })

  test("an embedding counts as many tokens as it has vectors", async () => {
    const { page } = await house.open()
    await page.fill("#prompt", "a webui fox")
    await page.locator(".counter", { hasText: "6/38" }).waitFor()
    await done(page)
  })

  test("a large photo is drawn at its model's size, or at its own if its reader says so", async () => {
    const { page, complaints } = await house.open()
    const file = join(folder, "photo.png")
    const data = new Uint8ClampedArray(3 * 1200 * 800).map((_, i) => (i * 7) % 251)
    writeFileSync(file, await encodeImage({ width: 1200, height: 800, channels: 3, data }, { format: "png" }))
    const chosen = page.waitForEvent("filechooser")
    await page.getByRole("button", { name: "Picture", exact: true }).click()
    await (await chosen).setFiles(file)
    await page.getByText("Drawn at 80 × 64").waitFor()
    await page.getByLabel("Keep its size, 1200 × 800").check()
    await page.getByText("Drawn at 1200 × 800").waitFor()
    await page.getByLabel("Keep its size, 1200 × 800").uncheck()
    await setSteps(page, 2)
    await draw(page, "a photo of hills")
    expect((await newest()).request).toMatchObject({ width: 80, height: 64, strength: 0.75 })
    await page.getByRole("button", { name: "Paint a part of it" }).click()
    await page.getByText("Drawn at 80 × 64").waitFor()
    await page.locator(".mask canvas").focus()
    await page.keyboard.press("Space")
    const before = await newest()
    await page.getByRole("button", { name: "Repaint" }).last().click()
    await expect.poll(async () => (await newest()).id, { timeout: 90_000 }).not.toBe(before.id)
    const painted = await newest()
    expect([painted.width, painted.request.width, painted.request.strength]).toEqual([80, 80, 0.85])
    expect(complaints).toEqual([])
    await done(page)
  })

  test("a grid draws every combination with one seed", async () => {
    const { page } = await house.open({}, "grid")
    await page.fill("#prompt", "a teapot")
    await page.getByLabel("Values").first().fill("1, 2")
    await page.getByLabel("Down", { exact: true }).selectOption("")
    await page.getByRole("button", { name: "Draw 2 pictures" }).click()
    await expect.poll(() => page.locator(".sheet tbody a img").count(), { timeout: 90_000 }).toBe(2)
    const { images } = await house.api<{ images: ImageRecord[] }>("/api/images?search=teapot")
    expect(images.map((i) => i.request.steps).sort()).toEqual([1, 2])
    expect(new Set(images.map((i) => i.seed)).size).toBe(1)
    await done(page)
  })

  test("how it works: tokens with their numbers, and every step of the picture", async () => {
    const { page } = await house.open()
    await setSteps(page, 40)
    await page.getByText("Own", { exact: true }).click()
    await page.getByLabel("Width", { exact: true }).fill("256")
    await page.getByLabel("Height", { exact: true }).fill("256")
    await draw(page, "a fox")
    await page.goto(`${house.url}/#/how/${(await newest()).id}`)
    // as the model's own vocabulary cuts and numbers them
    await expect.poll(() => page.locator(".tokens li").allTextContents()).toEqual(["a160", "fo238", "x183"])
    await page.getByText("32 x 32 latents to 256 x 256 pixels").waitFor()
    await page.getByLabel("Step to look at").waitFor()
    const last = async () => Number(await page.getByLabel("Step to look at").getAttribute("max"))
    await expect.poll(last).toBeGreaterThan(1)
    await page.getByRole("button", { name: "Draw it again and watch" }).click()
    await page.locator(".lit canvas").waitFor()
    expect(await page.locator(".words-row .chip").allTextContents()).toEqual(["a", "fox"])
    // every step now, not only those that were seen going by
    await expect.poll(last).toBeGreaterThan(10)
    const lit = (canvas: HTMLCanvasElement) => {
      const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height)
      const shades = data.filter((_, i) => i % 4 === 3)
      return [Math.min(...shades), Math.max(...shades) > 0]
    }
    await expect.poll(() => page.locator(".lit canvas").evaluate(lit)).toEqual([0, true])
    await done(page)
  })

  test("a prompt that is markup is shown as it is", async () => {
    const { page, complaints } = await house.open()
    const prompt = `<img src="x" onerror="document.title='owned'"><b>bold</b>`
    await page.fill("#prompt", prompt)
    await page.locator("button.main").click()
    await expect.poll(async () => (await newest()).prompt).toBe(prompt)
    for (const view of ["gallery", `print/${(await newest()).id}`, `how/${(await newest()).id}`]) {
      await page.goto(`${house.url}/#/${view}`)
      await page.locator("main h1").first().waitFor({ state: "attached" })
    }
    await page.getByText(prompt).first().waitFor()
    expect(await page.title()).not.toBe("owned")
    expect(await page.locator("main b, main img[src=x]").count()).toBe(0)
    expect(complaints).toEqual([])
    await done(page)
  })

  test("another site's page can queue nothing and read nothing", async () => {
    const other = createServer((_, response) => response.end("<title>elsewhere</title>"))
    await new Promise<void>((ready) => other.listen(0, "127.0.0.1", ready))
    const { page } = await house.open()
    await page.goto(`http://127.0.0.1:${(other.address() as AddressInfo).port}/`)
    const count = async () => (await house.api<{ jobs: object[] }>("/api/jobs?limit=200")).jobs.length
    const before = await count()
    const tried = await page.evaluate(async (url) => {
      const body = JSON.stringify({ prompt: "not asked for" })
      const send = (init: RequestInit) =>
        fetch(`${url}/api/jobs`, { method: "POST", body, ...init }).then(
          (response) => response.type,
          () => "refused",
        )
      const read = await fetch(`${url}/api/images`).then(
        (response) => response.text(),
        () => "refused",
      )
      return [
        read,
        await send({ headers: { "content-type": "application/json" } }),
        await send({ mode: "no-cors", headers: { "content-type": "text/plain" } }),
      ]
    }, house.url)
    // the last one goes out, and its answer is kept from the page by its own resource policy
    expect(tried).toEqual(["refused", "refused", "refused"])
    expect(await count()).toBe(before)
    await done(page)
    other.close()
  })

  test("an upscaler enlarges from the page; a picture with a start picture is reused with it", async () => {
    const { page } = await house.open()
    const { images } = await house.api<{ images: ImageRecord[] }>("/api/images?limit=200")
    const started = images.find(({ request }) => request.strength === 0.4)!
    await page.goto(`${house.url}/#/print/${started.id}`)
    await page.getByRole("button", { name: "Reuse" }).click()
    await page.getByRole("button", { name: /Its start picture/ }).waitFor()
    await page.locator("button.main").click()
    await expect.poll(async () => (await newest()).id, { timeout: 90_000 }).not.toBe(images[0]!.id)
    const again = await newest()
    expect(again.sha256).toBe(started.sha256)
    await page.goto(`${house.url}/#/enlarge/${again.id}`)
    await page.getByLabel("How", { exact: true }).selectOption("compact-x4")
    await page.getByRole("button", { name: "Enlarge" }).click()
    await expect.poll(async () => (await newest()).id, { timeout: 90_000 }).not.toBe(again.id)
    const large = await newest()
    expect([large.prompt, large.seed, large.width]).toEqual([again.prompt, again.seed, 2 * again.width])
    await done(page)
  })

  test("a style is chosen from those of the server, and goes with the picture", async () => {
    const { page } = await house.open()
    await setSteps(page, 2)
    await page.locator("details", { hasText: "Model" }).first().locator("summary").click()
    await page.getByLabel("Model", { exact: true }).selectOption("sd1-tiny")
    await page.getByLabel("Styles (LoRA)").selectOption("style")
    await page.getByLabel("Weight of style").fill("0.5")
    await draw(page, "a styled boat")
    const { request } = await newest()
    expect(request).toMatchObject({ model: "sd1-tiny", loras: [{ id: "style", weight: 0.5 }] })
    await done(page)
  })

  test("German, by the browser's language and by the button", async () => {
    const { page } = await house.open({ locale: "de-DE" })
    await page.getByRole("button", { name: "Zeichnen", exact: true }).waitFor()
    await expect.poll(() => page.locator("html").getAttribute("lang")).toBe("de")
    await page.getByRole("button", { name: "Einstellungen" }).click()
    await page.getByText("Was fehlen soll").waitFor()
    await page.getByRole("button", { name: "EN, English" }).click()
    await page.getByText("What to avoid").waitFor()
    await page.reload()
    await page.getByRole("button", { name: "Generate", exact: true }).waitFor()
    await done(page)
  })

  test("on a phone nothing is wider than the screen, and the button is in reach", {
    timeout: 240_000,
  }, async () => {
    const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, locale: "de" }
    const { page } = await house.open(phone)
    const button = (await page.locator("button.main").boundingBox())!
    expect(button.y + button.height).toBeLessThan(844 - 56)
    const { id } = await newest()
    for (const view of ["", "gallery", `print/${id}`, `edit/${id}`, `extend/${id}`, "grid", `how/${id}`]) {
      await page.goto(`${house.url}/#/${view}`)
      await page.locator("main h1").first().waitFor({ state: "attached" })
      expect(await page.evaluate(() => document.documentElement.scrollWidth), view).toBeLessThanOrEqual(390)
    }
    await done(page)
  })

  test.each(["light", "dark"] as const)(
    "axe finds nothing wrong, %s",
    { timeout: 240_000 },
    async (colorScheme) => {
      const { page } = await house.open({ colorScheme, reducedMotion: "reduce" })
      const { id } = await newest()
      const views = [
        "",
        "gallery",
        `print/${id}`,
        `edit/${id}`,
        `extend/${id}`,
        `enlarge/${id}`,
        `compare/${id}`,
        "grid",
      ]
      for (const view of [...views, `how/${id}`]) {
        await page.goto(`${house.url}/#/${view}`)
        await page.locator("main h1").first().waitFor({ state: "attached" })
        await page.waitForTimeout(200)
        expect(await audit(page), view || "create").toEqual([])
      }
      await page.goto(`${house.url}/#/`)
      await setSteps(page, 3)
      expect(await audit(page), "settings").toEqual([])
      await page.fill("#prompt", "")
      await page.locator("button.main").click()
      await page.locator(".toast").waitFor()
      expect(await audit(page), "a note").toEqual([])
      await page.goto(`${house.url}/#/print/nothing`)
      await page.getByText("not there any more").waitFor()
      expect(await audit(page), "nothing there").toEqual([])
      await done(page)
    },
  )
})

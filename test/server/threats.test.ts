import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { inspect } from "../../src/index.ts"
import { jsonLog } from "../../src/server/log.ts"
import { Models } from "../../src/server/models.ts"
import { ask, type JobReply, model, over, program, root, serve } from "./harness.ts"
import { type Local, local, post } from "./local.ts"

/** What docs/security.md names and no other file tests. */

const scratch = mkdtempSync(join(tmpdir(), "aquatint-threats-"))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const small = { prompt: "a fox", steps: 1, width: 64, height: 64 }

test("every threat of docs/security.md names tests that there are", () => {
  const rows = readFileSync(join(root, "docs/security.md"), "utf8").match(/^\| S\d+ \|.*$/gm)!
  expect(rows.map((row) => /S\d+/.exec(row)![0])).toEqual(Array.from({ length: 21 }, (_, i) => `S${i + 1}`))
  for (const row of rows) {
    const named = [...row.matchAll(/`([^`]+\.test\.ts)`((?: ?“[^”]+”,?)+)/g)]
    expect([row.slice(0, 40), named.length > 0]).toEqual([row.slice(0, 40), true])
    for (const [, file, names] of named) {
      const text = readFileSync(join(root, file!), "utf8")
      for (const [, name] of names!.matchAll(/“([^”]+)”/g))
        expect([file, name, text.includes(name!)]).toEqual([file, name, true])
    }
  }
})

describe("a folder of models", () => {
  let models: Models
  beforeAll(async () => {
    const folder = join(scratch, "models")
    mkdirSync(folder)
    for (const name of ["model.ckpt", "model.pt", "model.bin", "model.onnx"])
      writeFileSync(join(folder, name), "\x80\x02cos\nsystem\n(S'touch owned'\ntR.")
    cpSync(model, join(folder, "with-code"), { recursive: true })
    const config = join(folder, "with-code", "model_index.json")
    const asked = { ...JSON.parse(readFileSync(config, "utf8")), auto_map: { AutoModel: "pipeline.Model" } }
    writeFileSync(config, JSON.stringify(asked))
    writeFileSync(
      join(folder, "with-code", "pipeline.py"),
      `open(${JSON.stringify(join(scratch, "owned"))}, "w")`,
    )
    cpSync(model, join(folder, "only-onnx"), { recursive: true })
    rmSync(join(folder, "only-onnx", "unet", "diffusion_pytorch_model.safetensors"))
    writeFileSync(join(folder, "only-onnx", "unet", "model.onnx"), "\x08\x07")
    models = await Models.find({ folders: [folder], models: [] })
  })

  test("offers no pickles and no ONNX files, and the interfaces convert nothing", async () => {
    expect(models.ids).toEqual(["with-code"])
    expect(models.refused.map(({ path }) => path.split("/").at(-1))).toEqual(["only-onnx"])
    const server = await local()
    const { paths } = (await (await server.fetch("/openapi.json")).json()) as { paths: object }
    expect(Object.keys(paths).filter((path) => /convert|pull|install|download|train/.test(path))).toEqual([])
    await server.close()
  })

  test("with a program in it offers the weights; the program is never run, and told of", () => {
    expect(models.programs).toEqual([{ id: "with-code", files: ["pipeline.py"] }])
    expect(existsSync(join(scratch, "owned"))).toBe(false)
  })

  test("whose weights were changed by one bit is another model, in every picture", async () => {
    const changed = join(scratch, "one-bit")
    cpSync(model, changed, { recursive: true })
    const file = join(changed, "unet", "diffusion_pytorch_model.safetensors")
    const bytes = readFileSync(file)
    bytes[bytes.length - 2]! ^= 1
    writeFileSync(file, bytes)
    expect((await inspect(changed)).hashes).not.toEqual((await inspect(model)).hashes)
    const server = await serve(["--data", join(scratch, "bit"), "-m", changed, "-m", model])
    const hashOf = async (name: string) => {
      const { body } = await ask<JobReply>(`${server.url}/api/jobs`, { ...small, model: name })
      return /Model hash: (\w+)/.exec((await over(server.url, body.id)).images[0]!.infotext)![1]
    }
    expect(await hashOf("one-bit")).not.toBe(await hashOf("sd1-odd"))
    await server.stop()
  })
})

describe("requests", () => {
  let server: Local
  beforeAll(async () => {
    server = await local()
  })
  afterAll(() => server.close())

  test("in crumbs, with a boundary of megabytes, or of a thousand parts are refused", async () => {
    const crumb = new Uint8Array([32])
    const crumbs = new ReadableStream<Uint8Array>({ pull: (to) => to.enqueue(crumb) })
    const send = (body: BodyInit, type: string, path = "/v1/images/edits") =>
      server.fetch(path, {
        method: "POST",
        body,
        headers: { "content-type": type },
        duplex: "half",
      } as RequestInit)
    expect((await send(crumbs, "application/json", "/api/jobs")).status).toBe(413)
    const wide = `multipart/form-data; boundary=${"x".repeat(10_000_000)}`
    expect((await send("--x--", wide)).status).toBe(400)
    const parts = Array.from(
      { length: 1000 },
      (_, i) => `--b\r\nContent-Disposition: form-data; name="n${i}"\r\n\r\n1\r\n`,
    )
    const many = await send(`${parts.join("")}--b--\r\n`, "multipart/form-data; boundary=b")
    expect([400, 422]).toContain(many.status)
  })

  test("delete and restore by ids alone", async () => {
    for (const name of ["../../etc/passwd", "..%2f..", "%2e%2e", "C:\\x", "a\0b", "．．／x", "CON", "x."]) {
      const part = encodeURIComponent(name)
      for (const [method, path] of [
        ["DELETE", `images/${part}`],
        ["POST", `images/${part}/restore`],
        ["POST", `images/${part}/study`],
        ["DELETE", `jobs/${part}`],
        ["GET", `jobs/${part}/study`],
      ] as const) {
        const { status } = await server.fetch(`/api/${path}`, {
          ...(method === "POST" ? post({}) : {}),
          method,
        })
        expect([path, status]).toEqual([path, 404])
      }
    }
  })
})

test("log lines stay lines, whatever is written into them", () => {
  const lines: string[] = []
  const log = jsonLog((line) => lines.push(line))
  log.error("x", { reason: 'a\n{"level":"info"}\u001b[31m\u202ered\u2028\u0085', path: "😀".repeat(300) })
  expect(lines.length).toBe(1)
  expect(lines[0]!.match(/\n/g)!.length).toBe(1)
  expect(lines[0]).not.toMatch(/\p{Cc}(?!$)|\p{Cf}|\p{Zl}/u)
  expect(lines[0]!.length).toBeLessThan(1500)
})

test("secrets, prompts and paths are in no answer and no log line", async () => {
  const canary = "canary-0123456789-abcdef"
  const env = { AWS_SECRET_ACCESS_KEY: canary, AQUATINT_TOKEN: `${canary}-token` }
  const server = await serve(["--data", join(scratch, "secrets"), "-m", model], env)
  const headers = { authorization: `Bearer ${canary}-token` }
  const { body } = await ask<JobReply>(
    `${server.url}/api/jobs`,
    { ...small, prompt: `a ${canary} fox` },
    { headers },
  )
  const done = await over(server.url, body.id, 60, headers)
  const file = await (await fetch(server.url + done.images[0]!.url, { headers })).text()
  for (const word of ["-token", scratch, root]) expect(file.includes(word)).toBe(false)
  const answers = [
    "/api/info",
    "/api/models",
    "/api/jobs",
    "/metrics",
    "/openapi.json",
    "/sdapi/v1/options",
    "/x",
  ]
  for (const path of answers) {
    const text = await (await fetch(server.url + path, { headers })).text()
    for (const word of [`${canary}-token`, scratch, root])
      expect([path, text.includes(word)]).toEqual([path, false])
  }
  await server.stop()
  expect(server.errors()).not.toContain(canary)
  const database = ["--database", `postgres://u:${canary}@127.0.0.1:1/x`]
  const failed = spawnSync(process.execPath, [program, "serve", "-m", model, ...database], {
    timeout: 60_000,
  })
  expect(failed.status).not.toBe(0)
  expect(String(failed.stderr)).not.toContain(canary)
})

test("packages are pinned, checked by their sums, and run nothing when they are installed", () => {
  const read = (name: string) => JSON.parse(readFileSync(join(root, name), "utf8"))
  const { dependencies, devDependencies } = read("package.json") as Record<string, Record<string, string>>
  for (const [name, range] of Object.entries({ ...dependencies, ...devDependencies }))
    expect([name, range]).toEqual([name, expect.stringMatching(/^\d+\.\d+\.\d+(-[\w.]+)?$/)])
  const { packages } = read("package-lock.json") as { packages: Record<string, { integrity?: string }> }
  for (const [name, { integrity }] of Object.entries(packages))
    if (name) expect([name, integrity]).toEqual([name, expect.stringMatching(/^sha512-/)])
  expect(readFileSync(join(root, "scripts/go.mjs"), "utf8")).toContain('"--ignore-scripts"')
})

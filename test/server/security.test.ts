import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { encodeImage } from "../../src/index.ts"
import { claim, type Database, finish, newId } from "../../src/store/index.ts"
import { model, program, root, serve } from "./harness.ts"
import { type Local, local, post } from "./local.ts"

/** The threats of a server that others can reach, each with what must happen. */

const small = { prompt: "a fox", steps: 1, width: 64, height: 64 }
const codeOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string } }).error.code

describe("without a token", () => {
  let server: Local
  beforeAll(async () => {
    server = await local({ hosts: ["pictures.example"], cors: ["https://friend.example"] })
  })
  afterAll(() => server.close())

  test.each([
    ["localhost:7860", 200],
    ["127.0.0.1:7860", 200],
    ["[::1]:7860", 200],
    ["192.168.1.5:7860", 200],
    ["pictures.example", 200],
    ["evil.example", 421],
    ["localhost.evil.example", 421],
    ["127.0.0.1.nip.io", 421],
    ["", 421],
    ["localhost@evil.example", 421],
  ])("the name %j is answered with %i", async (host, status) => {
    expect((await server.fetch("/health", { headers: { host } })).status).toBe(status)
  })

  test("other sites' pages are refused, and no CORS header is sent unless they are named", async () => {
    for (const origin of ["https://evil.example", "null", "http://localhost:9999", "file://"]) {
      const response = await server.fetch("/api/jobs", post(small, { origin }))
      expect([origin, response.status]).toEqual([origin, 403])
      expect(response.headers.get("access-control-allow-origin")).toBeNull()
    }
    const cross = await server.fetch("/api/jobs", { headers: { "sec-fetch-site": "cross-site" } })
    expect(cross.status).toBe(403)
    const own = await server.fetch("/api/jobs", { headers: { origin: "http://localhost:7860" } })
    expect(own.status).toBe(200)
    expect(own.headers.get("access-control-allow-origin")).toBeNull()
    const friend = await server.fetch("/api/jobs", { headers: { origin: "https://friend.example" } })
    expect(friend.headers.get("access-control-allow-origin")).toBe("https://friend.example")
    const preflight = await server.fetch("/api/jobs", {
      method: "OPTIONS",
      headers: { origin: "https://friend.example" },
    })
    expect(preflight.status).toBe(204)
  })

  test("forms that a page can send without asking are no requests", async () => {
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "multipart/form-data; boundary=x",
    ]) {
      const response = await server.fetch("/api/jobs", post(small, { "content-type": type }))
      expect([type, response.status]).toEqual([type, 415])
    }
  })

  test("answers are not sniffed, framed or scripted", async () => {
    const { headers } = await server.fetch("/api/info")
    expect(headers.get("x-content-type-options")).toBe("nosniff")
    expect(headers.get("x-frame-options")).toBe("DENY")
    expect(headers.get("content-security-policy")).toContain("default-src 'self'")
    expect(headers.get("content-security-policy")).not.toContain("script-src 'self' 'unsafe-inline'")
  })

  test("too much is refused before it is understood", async () => {
    const deep = `{"prompt":${"[".repeat(100_000)}${"]".repeat(100_000)}}`
    expect((await server.fetch("/api/jobs", post(deep))).status).toBe(400)
    expect((await server.fetch("/api/jobs", post({ ...small, prompt: "x".repeat(8193) }))).status).toBe(400)
    expect((await server.fetch("/api/jobs", post("x".repeat(49 * 1024 * 1024)))).status).toBe(413)
    expect((await server.fetch("/v1/images/generations", post("x".repeat(2 * 1024 * 1024)))).status).toBe(413)
    const lies = post("{}", { "content-length": "99999999999" })
    expect((await server.fetch("/api/jobs", lies)).status).toBe(413)
    for (const body of ["", "null", "[]", "{", '"x"', '{"__proto__":{}}', "\xff"])
      expect((await server.fetch("/api/jobs", post(body))).status).toBe(400)
  })

  test("picture bombs are refused by their header", async () => {
    const png = Buffer.from(
      await encodeImage(
        { width: 8, height: 8, channels: 3, data: new Uint8ClampedArray(192) },
        { format: "png" },
      ),
    )
    png.writeUInt32BE(50_000, 16)
    png.writeUInt32BE(50_000, 20)
    const send = (bytes: Uint8Array, type = "image/png") =>
      server.fetch("/api/uploads", {
        method: "POST",
        body: bytes as Uint8Array<ArrayBuffer>,
        headers: { "content-type": type },
      })
    const bomb = await send(png)
    expect([413, 422]).toContain(bomb.status)
    expect((await send(Buffer.from("<svg onload=alert(1)>"))).status).toBe(422)
    expect((await send(Buffer.from("x"), "image/svg+xml")).status).toBe(415)
    expect((await send(Buffer.alloc(33 * 1024 * 1024))).status).toBe(413)
  })

  test("names and ids are never paths, in any parameter", async () => {
    const names = [
      "../../etc/passwd",
      "..%2f..%2fetc%2fpasswd",
      "%2e%2e/%2e%2e/x",
      "..\\..\\x",
      "/etc/passwd",
      "C:\\x",
      "\\\\host\\x",
      "CON",
      "a\0b",
      "．．／x",
      "x.",
      `${"0".repeat(25)}i`,
      "00000000000000000000000000.png",
    ]
    for (const name of names) {
      const part = encodeURIComponent(name)
      for (const path of ["jobs/*", "jobs/*/events", "images/*", "images/*/file", "images/*/thumbnail"]) {
        const { status } = await server.fetch(`/api/${path.replace("*", part)}`)
        expect([path, name, status]).toEqual([path, name, 404])
      }
      const model = await server.fetch("/api/jobs", post({ ...small, model: name }))
      expect([name, model.status]).toEqual([name, 422])
      const init = await server.fetch("/api/jobs", post({ ...small, init: { upload: name } }))
      expect([name, init.status]).toEqual([name, 400])
      expect((await server.fetch(`/${part}`)).status).toBe(404)
    }
  })

  test("addresses are not fetched", async () => {
    for (const url of [
      "http://127.0.0.1:1/x.png",
      "https://169.254.169.254/",
      "file:///etc/passwd",
      "http://[::]/",
    ]) {
      const init = await server.fetch("/api/jobs", post({ ...small, init: { data: url } }))
      expect([url, init.status]).toEqual([url, 422])
      const a1111 = await server.fetch("/sdapi/v1/img2img", post({ ...small, init_images: [url] }))
      expect([url, a1111.status]).toEqual([url, 422])
    }
  })

  test("errors say nothing of this machine", async () => {
    const texts = await Promise.all(
      [
        server.fetch("/api/jobs", post({ ...small, model: "x" })),
        server.fetch("/api/jobs", post("{")),
        server.fetch("/api/images/x"),
        server.fetch("/nothing"),
        server.fetch("/api/models"),
        server.fetch("/api/info"),
      ].map(async (response) => (await response).text()),
    )
    for (const text of texts) {
      expect(text).not.toContain(server.folder)
      expect(text).not.toContain(root)
      expect(text).not.toMatch(/node_modules|\.ts:\d/)
    }
  })

  test("prompts stay text: markup, escapes and formulas come back as they were", async () => {
    const prompt = '<img src=x onerror=alert(1)> \u001b[31m =cmd|"/c" \u202e'
    const response = await server.fetch("/api/jobs", post({ ...small, prompt }))
    expect(response.headers.get("content-type")).toBe("application/json")
    expect(((await response.json()) as { request: { prompt: string } }).request.prompt).toBe(prompt)
  })
})

/** A picture that is recorded without being drawn. */
async function record(db: Database, files: Local["service"]["files"], owner: string): Promise<void> {
  const job = (await claim(db, { worker: "w", lease: 60_000, models: ["sd1-odd"] }))!
  const file = `${newId()}.png`
  const bytes = await encodeImage(
    { width: 8, height: 8, channels: 3, data: new Uint8ClampedArray(192) },
    { format: "png" },
  )
  await files.put(file, bytes)
  expect(job.owner).toBe(owner)
  const facts = {
    number: 0,
    format: "png",
    width: 8,
    height: 8,
    bytes: bytes.length,
    sha256: "0",
    seed: 1,
    infotext: "",
  }
  await finish(db, { id: job.id, attempt: job.attempts, worker: "w" }, job, [
    { ...facts, file, thumbnail: file },
  ])
}

describe("with tokens", () => {
  const secrets = { ann: "ann-secret-0123456789", bob: "bob-secret-0123456789" }
  let server: Local
  beforeAll(async () => {
    const tokens = Object.entries(secrets).map(([name, secret]) => ({ name, secret }))
    server = await local({ tokens })
  })
  afterAll(() => server.close())
  const as = (name: keyof typeof secrets) => ({ authorization: `Bearer ${secrets[name]}` })

  test("every route but the open ones needs one", async () => {
    const { paths } = (await (await server.fetch("/openapi.json")).json()) as {
      paths: Record<string, Record<string, { security?: unknown[] }>>
    }
    let checked = 0
    for (const [path, methods] of Object.entries(paths))
      for (const [method, { security }] of Object.entries(methods)) {
        const { status } = await server.fetch(path.replace(/\{\w+\}/g, newId()), {
          method: method.toUpperCase(),
        })
        if (security) expect([path, status]).not.toEqual([path, 401])
        else expect([method, path, status]).toEqual([method, path, 401])
        checked++
      }
    expect(checked).toBeGreaterThan(40)
  })

  test("wrong ones are refused; Basic and the page's cookie do as well", async () => {
    const status = async (headers: Record<string, string>) =>
      (await server.fetch("/api/jobs", { headers })).status
    expect(await status({ authorization: "Bearer wrong" })).toBe(401)
    expect(await status({ authorization: `Bearer ${secrets.ann}x` })).toBe(401)
    expect(
      await status({ authorization: `Basic ${Buffer.from(`x:${secrets.ann}`).toString("base64")}` }),
    ).toBe(200)
    const login = await server.fetch("/api/session", post({ token: secrets.bob }))
    const cookie = login.headers.get("set-cookie")!
    expect(cookie).toMatch(/HttpOnly; SameSite=Strict/)
    const value = cookie.split(";")[0]!
    expect(await status({ cookie: value })).toBe(200)
    expect(await status({ cookie: value.replace("=", `=${Buffer.from("ann").toString("base64url")}`) })).toBe(
      401,
    )
    expect((await server.fetch("/api/session", post({ token: "wrong" }))).status).toBe(401)
    expect(await (await server.fetch("/api/session")).json()).toEqual({ required: true, client: null })
  })

  test("one owner's jobs and pictures are nothing to another", async () => {
    const made = await server.fetch("/api/jobs", post(small, as("ann")))
    const { id } = (await made.json()) as { id: string }
    await record(server.db, server.service.files, "ann")
    const waiting = (await (await server.fetch("/api/jobs", post(small, as("ann")))).json()) as { id: string }
    const job = (await (await server.fetch(`/api/jobs/${id}`, { headers: as("ann") })).json()) as {
      images: { id: string }[]
    }
    const image = job.images[0]!.id
    const paths = [
      `jobs/${id}`,
      `jobs/${id}/events`,
      `images/${image}`,
      `images/${image}/file`,
      `images/${image}/thumbnail`,
    ]
    for (const path of paths) {
      expect([path, (await server.fetch(`/api/${path}`, { headers: as("ann") })).status]).toEqual([path, 200])
      expect([path, (await server.fetch(`/api/${path}`, { headers: as("bob") })).status]).toEqual([path, 404])
    }
    const bob = (path: string, init: RequestInit) =>
      server.fetch(`/api/${path}`, { ...init, headers: { ...init.headers, ...as("bob") } })
    expect((await bob(`jobs/${waiting.id}`, { method: "DELETE" })).status).toBe(404)
    expect((await bob(`jobs/${waiting.id}/move`, post({ to: "first" }))).status).toBe(404)
    expect((await bob(`images/${image}`, { method: "DELETE" })).status).toBe(404)
    expect((await bob(`images/${image}/restore`, post({}))).status).toBe(404)
    expect((await bob("jobs", post({ ...small, init: { image } }))).status).toBe(422)
    expect((await (await bob("jobs", {})).json()) as object).toEqual({ jobs: [], next: null })
    expect((await (await bob("images", {})).json()) as object).toEqual({ images: [], next: null })
    const still = await server.fetch(`/api/jobs/${waiting.id}`, { headers: as("ann") })
    expect(((await still.json()) as { state: string }).state).toBe("queued")
  })

  test("a request cannot say whose it is", async () => {
    const response = await server.fetch("/api/jobs", post({ ...small, owner: "ann" }, as("bob")))
    expect(await codeOf(response)).toBe("REQUEST_SCHEMA")
  })
})

describe("the program", () => {
  const start = (args: readonly string[], env: Record<string, string> = {}) => {
    const data = mkdtempSync(join(tmpdir(), "aquatint-start-"))
    const options = { env: { ...process.env, ...env }, timeout: 60_000 }
    const { status, stderr } = spawnSync(
      process.execPath,
      [program, "serve", "--data", data, "-m", model, ...args],
      options,
    )
    rmSync(data, { recursive: true })
    return { status, stderr: String(stderr) }
  }

  test.each([["0.0.0.0"], ["::"], ["192.168.0.1"]])("does not listen on %s without a token", (host) => {
    const { status, stderr } = start(["--host", host])
    expect(status).toBe(2)
    expect(stderr).toContain("error[SERVE_TOKEN]")
  })

  test("takes no token that can be guessed, and says which database is none", () => {
    expect(start(["--token", "short"]).stderr).toContain("error[SERVE_TOKEN]")
    expect(start(["--database", "mysql://x/y"]).stderr).toContain("error[DATABASE_URL]")
  })

  test("lets clients go that are slow to say what they want", async () => {
    const data = mkdtempSync(join(tmpdir(), "aquatint-slow-"))
    const server = await serve(["--data", data, "-m", model, "--role", "api"])
    const { port } = new URL(server.url)
    const socket = connect(Number(port), "127.0.0.1")
    socket.write("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    const began = Date.now()
    await new Promise((done) =>
      socket
        .once("close", done)
        .on("error", () => {})
        .resume(),
    )
    expect(Date.now() - began).toBeLessThan(50_000)
    await server.stop()
    rmSync(data, { recursive: true })
  })
})

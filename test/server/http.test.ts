import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { encodeImage, type Picture, readMetadata } from "../../src/index.ts"
import { ask, events, type JobReply, model, over, root, type Served, serve } from "./harness.ts"

/**
 * Asks every 20 ms until its input ends, then prints how many milliseconds each answer took: the server's, and that of
 * a server in a process of its own that does nothing else, which is what the machine itself takes.
 */
const probing = `
const { fork } = await import("node:child_process")
const { port } = await new Promise((done) => {
  const bare = "require('http').createServer((q, r) => r.end('{}')).listen(0, '127.0.0.1', function () { process.send(this.address()) })"
  const child = fork("-e", [bare], { execArgv: [] })
  child.once("message", done)
  process.once("exit", () => child.kill())
})
const asked = [process.argv[1], "http://127.0.0.1:" + port]
const times = asked.map(() => []); let on = true
process.stdin.resume().on("end", () => (on = false))
while (on) {
  for (const [i, url] of asked.entries()) {
    const began = performance.now()
    const response = await fetch(url)
    await response.text()
    times[i].push(response.status === 200 ? performance.now() - began : 1e9)
  }
  await new Promise((done) => setTimeout(done, 20))
}
console.log(JSON.stringify(times))
process.exit()`

/** The server's own interface, from queueing to the gallery, on the built program. */

const scratch = mkdtempSync(join(tmpdir(), "aquatint-http-"))
let server: Served
let api: string
beforeAll(async () => {
  const models = ["-m", model, "--models", join(root, "test/golden/models")]
  server = await serve(["--data", scratch, ...models, "--queue-limit", "30"])
  api = `${server.url}/api`
})
afterAll(async () => {
  expect(await server.stop()).toBe(0)
  rmSync(scratch, { recursive: true })
})

const small = { prompt: "a fox", steps: 2, width: 64, height: 64, seed: 1 }
const submit = async (more: object = {}, headers: Record<string, string> = {}) =>
  ask<JobReply>(`${api}/jobs`, { ...small, ...more }, { headers })
const draw = async (more: object = {}) => over(server.url, (await submit(more)).body.id)
const remove = <T>(path: string) => ask<T>(`${api}/${path}`, undefined, { method: "DELETE" })
const grey = (side: number): Picture => ({
  width: side,
  height: side,
  channels: 3,
  data: new Uint8ClampedArray(3 * side * side).fill(128),
})
const upload = async (bytes: Uint8Array, type = "image/png") => {
  const body = bytes as Uint8Array<ArrayBuffer>
  const response = await fetch(`${api}/uploads`, { method: "POST", body, headers: { "content-type": type } })
  return { status: response.status, body: (await response.json()) as { id: string; error: { code: string } } }
}

describe("jobs", () => {
  test("are accepted, drawn and shown in the gallery; the same request makes the same bytes", async () => {
    const { status, headers, body } = await submit({ count: 2, group: "g" })
    expect(status).toBe(202)
    expect(headers.get("location")).toBe(`/api/jobs/${body.id}`)
    expect(body.request).toMatchObject({ ...small, count: 2, model: "sd1-odd" })
    const done = await over(server.url, body.id)
    expect(done).toMatchObject({ state: "done", attempts: 1, progress: 1, position: null, error: null })
    expect(done.images.map((image) => image.seed)).toEqual([1, 2])
    const again = await draw(done.request)
    expect(again.images.map((image) => image.sha256)).toEqual(done.images.map((image) => image.sha256))
    const file = new Uint8Array(await (await fetch(server.url + done.images[0]!.url)).arrayBuffer())
    expect((await readMetadata(file)).parameters).toBe(done.images[0]!.infotext)
    const thumbnail = await fetch(server.url + done.images[0]!.thumbnail)
    expect(thumbnail.headers.get("content-type")).toBe("image/webp")
    const listed = await ask<{ jobs: JobReply[] }>(`${api}/jobs?group=g&state=done`)
    expect(listed.body.jobs.map((job) => job.id)).toEqual([again, done].slice(1).map((job) => job.id))
  })

  test("tell how they go, with previews, until they are over", async () => {
    const { body } = await submit({ steps: 60 })
    const seen: string[] = []
    let end: Record<string, unknown> = {}
    for await (const { event, data } of events(await fetch(`${api}/jobs/${body.id}/events`))) {
      seen.push(event)
      if (event === "preview") expect(data.image).toMatch(/^data:image\/png;base64,iVBOR/)
      if (event === "end") end = data
    }
    expect(seen[0]).toBe("state")
    expect(seen).toContain("progress")
    expect(seen).toContain("preview")
    expect(seen.at(-1)).toBe("end")
    expect(end).toMatchObject({ id: body.id, state: "done" })
  })

  test("wait in an order that their owner changes, and end when they are cancelled", async () => {
    const leave = new AbortController()
    const stream = events(await fetch(`${api}/events`, { signal: leave.signal }))
    const long = await submit({ steps: 150, width: 256, height: 256, count: 16 })
    await expect
      .poll(async () => (await ask<JobReply>(`${api}/jobs/${long.body.id}`)).body.state)
      .toBe("running")
    const [a, b, c] = [await submit(), await submit(), await submit()]
    expect([a, b, c].map((job) => job.body.position)).toEqual([1, 2, 3])
    const moved = await ask<JobReply>(`${api}/jobs/${c!.body.id}/move`, { to: "first" })
    expect(moved.body.position).toBe(1)
    const before = await ask<JobReply>(`${api}/jobs/${b!.body.id}/move`, { before: a!.body.id })
    expect(before.body.position).toBe(2)
    const first = await remove<JobReply>(`jobs/${a!.body.id}`)
    expect(first.body.state).toBe("cancelled")
    const began = Date.now()
    expect((await remove<JobReply>(`jobs/${long.body.id}`)).body.state).toBe("cancelled")
    expect((await over(server.url, c!.body.id)).state).toBe("done")
    expect(Date.now() - began).toBeLessThan(20_000)
    expect((await over(server.url, b!.body.id)).state).toBe("done")
    expect((await ask(`${api}/jobs/${a!.body.id}/move`, { to: "last" })).status).toBe(409)
    const told: string[] = []
    for await (const { event, data } of stream) {
      if (event === "state") told.push(`${data.state}`)
      if (event === "images" && told.filter((state) => state === "done").length === 2) break
    }
    leave.abort()
    expect(told).toContain("cancelled")
  })

  test("start from pictures that were sent or drawn before", async () => {
    const sent = await upload(await encodeImage(grey(64), { format: "png" }))
    expect(sent.status).toBe(201)
    const from = await draw({ init: { upload: sent.body.id }, strength: 0.5, steps: 4 })
    expect(from.state).toBe("done")
    const data = Buffer.from(await encodeImage(grey(64), { format: "png" })).toString("base64")
    const inline = await draw({ init: { data }, strength: 0.5, steps: 4 })
    expect(inline.images[0]!.sha256).toBe(from.images[0]!.sha256)
    expect(JSON.stringify(inline.request)).not.toContain(data)
    const next = await draw({ init: { image: from.images[0]!.id }, steps: 4 })
    expect(next.state).toBe("done")
    const missing = await submit({ init: { upload: "0".repeat(26) } })
    expect([missing.status, missing.body.error!.code]).toEqual([422, "INPUT_UNKNOWN"])
  })

  test("of other models and formats are drawn in turn", async () => {
    const made = await Promise.all(
      ["sd1-tiny", "sd1-odd", "sd2-tiny", "sd1-odd"].map((name, i) =>
        draw({ model: name, format: (["png", "jpeg", "webp"] as const)[i % 3] }),
      ),
    )
    expect(made.map((job) => job.state)).toEqual(["done", "done", "done", "done"])
  })

  test("that cannot be are refused at once, with a place", async () => {
    for (const [more, status, code] of [
      [{ steps: 0 }, 400, "REQUEST_SCHEMA"],
      [{ prompt: 7 }, 400, "REQUEST_SCHEMA"],
      [{ bogus: 1 }, 400, "REQUEST_SCHEMA"],
      [{ width: 65 }, 422, "REQUEST_SIZE"],
      [{ width: 4096, height: 4096 }, 422, "REQUEST_SIZE"],
      [{ sampler: "nonsense" }, 422, "SAMPLER"],
      [{ model: "../../etc/passwd" }, 422, "MODEL_UNKNOWN"],
      [{ model: "sd1-inpaint" }, 422, "REQUEST_INIT"],
      [{ mask: { data: "iVBO" } }, 422, "REQUEST_MASK"],
      [{ init: { data: "http://localhost/x.png" } }, 422, "IMAGE_URL"],
      [{ init: { data: "AAAA" } }, 422, "IMAGE_FORMAT"],
      [{ loras: [{ id: "x" }] }, 422, "REQUEST_LORA"],
    ] as const) {
      const reply = await submit(more)
      expect([JSON.stringify(more), reply.status, reply.body.error?.code]).toEqual([
        JSON.stringify(more),
        status,
        code,
      ])
    }
    expect((await ask(`${api}/jobs/${"0".repeat(26)}`)).status).toBe(404)
    expect((await ask(`${api}/jobs/..%2f..%2fetc`)).status).toBe(404)
  })

  test("sent again with their key are one job", async () => {
    const headers = { "idempotency-key": "once" }
    const all = await Promise.all(Array.from({ length: 10 }, () => submit({}, headers)))
    expect(new Set(all.map((reply) => reply.body.id)).size).toBe(1)
    expect(all.map((reply) => reply.status).sort()).toEqual([...Array(9).fill(200), 202])
    expect((await submit({ seed: 2 }, headers)).status).toBe(422)
  })
})

test("ten times too much is answered with 429; health stays quick and nothing accepted is lost", {
  timeout: 180_000,
}, async () => {
  // asked by a process of its own: this one is busy with asking too much
  const probe = spawn(process.execPath, ["--input-type=module", "-e", probing, `${server.url}/health`], {
    stdio: "pipe",
  })
  let times = ""
  probe.stdout.on("data", (text: Buffer) => (times += text))
  const replies = await Promise.all(Array.from({ length: 300 }, (_, seed) => submit({ seed, steps: 1 })))
  const accepted = replies.filter((reply) => reply.status === 202)
  const refused = replies.filter((reply) => reply.status === 429)
  expect(accepted.length + refused.length).toBe(300)
  expect(refused.length).toBeGreaterThan(200)
  expect(Number(refused[0]!.headers.get("retry-after"))).toBeGreaterThan(0)
  for (const reply of accepted) expect((await over(server.url, reply.body.id, 150)).state).toBe("done")
  probe.stdin.end()
  await new Promise((done) => probe.once("close", done))
  const [own, bare] = (JSON.parse(times) as number[][]).map((all) => {
    const sorted = all.sort((a, b) => a - b)
    expect(sorted.length).toBeGreaterThan(20)
    return [0.5, 0.9, 0.99].map((share) => Math.round(sorted[Math.floor(share * sorted.length)]!))
  })
  if (process.env.AQUATINT_FIGURES)
    console.log(`health, ms at 50, 90, 99 %: ${own}; a server with nothing to do: ${bare}`)
  // the bar is 100 ms at 99 % (docs/reliability.md); a test machine's cores may be somebody else's for a while
  expect(own![1]).toBeLessThan(100 + 3 * bare![1]!)
})

test("a picture is drawn again to see where its words looked, and what each step made of it", async () => {
  const made = await draw({ steps: 4, width: 72, height: 64, sampler: "euler" })
  const asked = await ask<JobReply>(`${api}/images/${made.images[0]!.id}/study`, {})
  expect([asked.status, asked.body.request.kind]).toEqual([202, "study"])
  const done = await over(server.url, asked.body.id)
  expect([done.state, done.images]).toEqual(["done", []])
  interface Study {
    width: number
    height: number
    words: { text: string; peak: number; values: string }[]
    steps: { step: number; image: string }[]
  }
  const { body } = await ask<Study>(`${api}/jobs/${done.id}/study`)
  expect([body.width * body.height, body.steps.map(({ step }) => step)]).toEqual([
    Buffer.from(body.words[0]!.values, "base64").length,
    [1, 2, 3, 4],
  ])
  expect(
    body.words.every(({ peak, values }) => peak > 0 && Buffer.from(values, "base64").includes(255)),
  ).toBe(true)
  expect((await ask(`${api}/jobs/${made.id}/study`)).status).toBe(404)
  expect((await ask(`${api}/images/${"0".repeat(26)}/study`, {})).status).toBe(404)
})

test("pictures are searched, deleted and restored", async () => {
  const made = await draw({ prompt: "Unusual Heron", seed: 4242 })
  const image = made.images[0]!
  type Page = { images: { id: string; deleted: number | null }[]; next: string | null }
  const find = async (query: string) => (await ask<Page>(`${api}/images?${query}`)).body
  expect((await find("search=heron%20unusual")).images.map((one) => one.id)).toEqual([image.id])
  expect((await find("search=4242")).images.length).toBe(1)
  expect((await find("search=nothing%25")).images).toEqual([])
  const page = await find("limit=2")
  expect(page.images.length).toBe(2)
  expect((await find(`limit=2&after=${page.next}`)).images[0]!.id).not.toBe(page.images[0]!.id)
  const gone = await remove<{ deleted: number }>(`images/${image.id}`)
  expect(gone.body.deleted).toBeGreaterThan(0)
  expect((await find("search=heron")).images).toEqual([])
  expect((await find("deleted=true")).images.map((one) => one.id)).toContain(image.id)
  expect((await ask(`${api}/images/${image.id}/restore`, {})).body).toMatchObject({ deleted: null })
  const { body } = await ask<{ request: object }>(`${api}/images/${image.id}`)
  expect((await draw(body.request)).images[0]!.sha256).toBe(image.sha256)
})

test("the server tells what it has", async () => {
  const info = (await ask<{ samplers: { id: string; label: string }[]; limits: object }>(`${api}/info`)).body
  expect(info.samplers).toContainEqual({ id: "euler-a", label: "Euler a" })
  expect(info).toMatchObject({ defaultModel: "sd1-odd", limits: { queue: 30 } })
  const { models } = (await ask<{ models: { id: string; default: boolean }[] }>(`${api}/models`)).body
  expect(models[0]).toMatchObject({ id: "sd1-odd", family: "sd1", width: 64, default: true, setAside: null })
  expect((await ask(`${api}/tokens`, { text: "a (red:1.2) fox" })).body).toEqual({
    tokens: 5,
    limit: 38,
    chunks: 1,
    perChunk: 38,
    pieces: [
      { id: 160, text: "a", end: true, weight: 1, chunk: 0 },
      { id: 199, text: "re", end: false, weight: 1.2, chunk: 0 },
      { id: 163, text: "d", end: true, weight: 1.2, chunk: 0 },
      { id: 238, text: "fo", end: false, weight: 1, chunk: 0 },
      { id: 183, text: "x", end: true, weight: 1, chunk: 0 },
    ],
  })
  expect((await ask(`${api}/tokens`, { text: "a ".repeat(40) })).body).toMatchObject({
    tokens: 40,
    limit: 76,
    chunks: 2,
  })
  const named = await ask(`${api}/tokens`, { text: "a ".repeat(40), model: "sd1-tiny" })
  expect(named.body).toMatchObject({ tokens: 40, limit: 75, perChunk: 75 })
  expect((await ask(`${api}/tokens`, { text: "a", model: "nobody" })).status).toBe(422)
  expect(await (await fetch(`${server.url}/metrics`)).text()).toContain('aquatint_jobs{state="done"}')
})

import { createHash } from "node:crypto"
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest"
import { findInLibrary, listLibrary, pullModel, removeFromLibrary } from "../src/index.ts"
import { download } from "../src/weights/hub/download.ts"
import { diffusersFiles } from "../src/weights/hub/huggingface.ts"

/** Servers that speak the hub's and Civitai's protocol, with a store of content on another host, as theirs is. */
const files = new Map<string, Buffer>()
const seen: { url: string; range?: string; token?: string; host: "hub" | "store" }[] = []
/** Bytes after which the store breaks the connection, one entry per request; none left means no break. */
let breaks: number[] = []
let ranges = true
let spoilt = false
let etag = '"one"'
let [hub, store]: (Server | undefined)[] = []
let root: string

const sha256 = (data: Buffer) => createHash("sha256").update(data).digest("hex")
const addressOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
const listen = (answer: (q: IncomingMessage, r: ServerResponse) => void): Promise<Server> =>
  new Promise((done) => {
    const server = createServer(answer).listen(0, "127.0.0.1", () => done(server))
  })
const note = (q: IncomingMessage, host: "hub" | "store") =>
  seen.push({ url: q.url!, range: q.headers.range, token: q.headers.authorization, host })

function serveContent(q: IncomingMessage, r: ServerResponse): void {
  note(q, "store")
  const data = files.get(decodeURIComponent(q.url!.slice(1)))!
  const from = Number(/bytes=(\d+)-/.exec(q.headers.range ?? "")?.[1] ?? 0)
  const fresh = q.headers["if-range"] !== undefined && q.headers["if-range"] !== etag
  if (ranges && from >= data.length && from > 0) return void r.writeHead(416).end()
  const part = ranges && from > 0 && !fresh
  const body = part ? data.subarray(from) : data
  r.writeHead(part ? 206 : 200, { etag, "content-length": body.length })
  const stop = breaks.shift()
  if (stop === undefined) return void r.end(spoilt ? Buffer.alloc(body.length) : body)
  r.write(body.subarray(0, stop), () => setTimeout(() => r.destroy(), 20))
}

function serveHub(q: IncomingMessage, r: ServerResponse): void {
  note(q, "hub")
  const json = (value: unknown) =>
    r.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value))
  if (q.url!.startsWith("/api/models/org/closed"))
    return void r.writeHead(q.headers.authorization ? 200 : 401).end("{}")
  if (q.url!.startsWith("/api/models/org/model/revision/main"))
    return void json({
      sha: "a".repeat(40),
      siblings: [...files].map(([rfilename, data]) =>
        rfilename.endsWith(".safetensors")
          ? { rfilename, size: data.length, lfs: { sha256: sha256(data), size: data.length } }
          : { rfilename, size: data.length, blobId: createHash("sha1").update(data).digest("hex") },
      ),
    })
  const path = /^\/org\/model\/resolve\/a+\/(.+)$/.exec(q.url!)?.[1]
  if (path)
    return void r
      .writeHead(302, { location: `${addressOf(store!)}/${encodeURIComponent(decodeURIComponent(path))}` })
      .end()
  if (q.url === "/api/v1/model-versions/77")
    return void json({
      id: 77,
      name: "v1",
      baseModel: "SD 1.5",
      trainedWords: ["etching"],
      model: { name: "Etching style", type: "LORA" },
      files: [
        {
          name: "../../etching.safetensors",
          primary: true,
          downloadUrl: `${addressOf(hub!)}/api/download/models/77`,
          hashes: { SHA256: sha256(files.get("unet/diffusion_pytorch_model.safetensors")!).toUpperCase() },
        },
      ],
    })
  if (q.url === "/api/download/models/77")
    return void r
      .writeHead(307, {
        location: `${addressOf(store!)}/${encodeURIComponent("unet/diffusion_pytorch_model.safetensors")}`,
      })
      .end()
  r.writeHead(404).end()
}

beforeAll(async () => {
  store = await listen(serveContent)
  hub = await listen(serveHub)
})
afterAll(() => {
  hub?.close()
  store?.close()
})

const variables = [
  "HF_ENDPOINT",
  "CIVITAI_ENDPOINT",
  "HF_HOME",
  "HF_HUB_CACHE",
  "HF_TOKEN",
  "AQUATINT_MODELS",
  "CIVITAI_TOKEN",
]
const before = Object.fromEntries(variables.map((v) => [v, process.env[v]]))
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "aquatint-hub-"))
  process.env.HF_ENDPOINT = process.env.CIVITAI_ENDPOINT = addressOf(hub!)
  process.env.HF_HOME = join(root, "hf")
  process.env.AQUATINT_MODELS = join(root, "models")
  process.env.HF_TOKEN = process.env.CIVITAI_TOKEN = "secret"
  delete process.env.HF_HUB_CACHE
  seen.length = 0
  breaks = []
  ranges = true
  spoilt = false
  etag = '"one"'
  files.clear()
  const weights = Buffer.alloc(300_000, "weights ")
  for (const [name, data] of [
    ["model_index.json", "{}"],
    ["unet/config.json", "{}"],
    ["unet/diffusion_pytorch_model.safetensors", weights],
    ["unet/diffusion_pytorch_model.bin", "pickle"],
    ["safety_checker/model.safetensors", "no"],
    ["tokenizer/merges.txt", "#version"],
  ] as const)
    files.set(name, Buffer.from(data))
})
afterEach(async () => {
  for (const [name, value] of Object.entries(before))
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  await rm(root, { recursive: true, force: true })
})

test("a hub model arrives whole in the hub's own cache, and its token stays with the hub", async () => {
  const path = await pullModel("org/model")
  const weights = join(path, "unet", "diffusion_pytorch_model.safetensors")
  expect(await readFile(weights)).toEqual(files.get("unet/diffusion_pytorch_model.safetensors"))
  expect(await readlink(weights)).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/)
  expect((await readdir(path)).sort()).toEqual(["model_index.json", "tokenizer", "unet"])
  expect(seen.filter((s) => s.host === "hub").every((s) => s.token === "Bearer secret")).toBe(true)
  expect(seen.filter((s) => s.host === "store").map((s) => s.token)).toEqual(
    seen.filter((s) => s.host === "store").map(() => undefined),
  )
  const asked = seen.length
  await pullModel("org/model")
  expect(seen.slice(asked).map((s) => s.url)).toEqual(["/api/models/org/model/revision/main?blobs=true"])
  expect((await listLibrary()).map((e) => [e.name, e.kind, e.where])).toEqual([["org/model", "model", "hub"]])
  expect(await removeFromLibrary("org/model")).toBeGreaterThan(300_000)
  expect(await listLibrary()).toEqual([])
  expect(existsSync(join(root, "hf", "hub", "models--org--model"))).toBe(false)
})

const target = () => join(root, "file.safetensors")
const weights = () => files.get("unet/diffusion_pytorch_model.safetensors")!
const address = () => `${addressOf(store!)}/${encodeURIComponent("unet/diffusion_pytorch_model.safetensors")}`
const fast = { pause: 1, retries: 6 }

test("broken connections go on where they broke", async () => {
  breaks = [1000, 70_000, 0, 100_000]
  const { sha256: hash } = await download(
    { url: address(), sha256: sha256(weights()), bytes: weights().length },
    target(),
    fast,
  )
  expect(hash).toBe(sha256(weights()))
  expect(seen.length).toBe(5)
  expect(seen.at(-1)!.range).toMatch(/^bytes=\d{6}-$/)
  expect(await readdir(root)).toEqual(["file.safetensors"])
})

test("a run that was given up goes on at the next call, unless the file has changed since", async () => {
  breaks = [50_000]
  await expect(download({ url: address() }, target(), { retries: 0 })).rejects.toMatchObject({
    code: "DOWNLOAD_FAILED",
  })
  expect((await readdir(root)).sort()).toEqual(["file.safetensors.part", "file.safetensors.part.json"])
  etag = '"two"'
  files.set("unet/diffusion_pytorch_model.safetensors", Buffer.alloc(200_000, "other "))
  await download({ url: address() }, target(), fast)
  expect(await readFile(target())).toEqual(weights())
})

test("a server without ranges starts over", async () => {
  ranges = false
  breaks = [50_000]
  await download({ url: address(), bytes: weights().length }, target(), fast)
  expect(await readFile(target())).toEqual(weights())
})

test("wrong bytes are refused and not kept", async () => {
  spoilt = true
  await expect(download({ url: address(), sha256: sha256(weights()) }, target(), fast)).rejects.toMatchObject(
    { code: "DOWNLOAD_HASH" },
  )
  expect(await readdir(root)).toEqual([])
  await writeFile(`${target()}.part`, Buffer.alloc(10))
  spoilt = false
  await download({ url: address(), sha256: sha256(weights()) }, target(), fast)
  expect(await readFile(target())).toEqual(weights())
})

test("an abort keeps what has come", async () => {
  const stop = new AbortController()
  const run = download({ url: address() }, target(), {
    ...fast,
    signal: stop.signal,
    progress: () => stop.abort(),
  })
  await expect(run).rejects.toMatchObject({ name: "AbortError" })
  expect(existsSync(target())).toBe(false)
  await download({ url: address() }, target(), fast)
  expect(await readFile(target())).toEqual(weights())
})

test("what cannot be fetched says why", async () => {
  const refused = async (name: string, code: string) =>
    expect(pullModel(name), name).rejects.toMatchObject({ code })
  await refused("org/nothing", "DOWNLOAD_NOT_FOUND")
  await refused("org/model:unet/other.safetensors", "DOWNLOAD_NOT_FOUND")
  await refused("org/model:unet/diffusion_pytorch_model.bin", "MODEL_PICKLE")
  await refused("../..", "MODEL_NAME")
  await refused("a sentence", "MODEL_NAME")
  delete process.env.HF_TOKEN
  await refused("org/closed", "DOWNLOAD_REFUSED")
  process.env.HF_ENDPOINT = "http://127.0.0.1:9"
  await refused("org/model", "DOWNLOAD_FAILED")
})

test("a Civitai file lands in the library under its own name alone, with its origin", async () => {
  const path = await pullModel("urn:air:sd1:lora:civitai:5@77")
  expect(path).toBe(join(root, "models", "loras", "__.._etching.safetensors"))
  expect(await readFile(path)).toEqual(weights())
  const [entry] = await listLibrary()
  expect(entry).toMatchObject({
    kind: "lora",
    where: "library",
    origin: { source: "civitai:77", words: ["etching"] },
  })
  await removeFromLibrary(entry!.name)
  expect(await readdir(join(root, "models", "loras"))).toEqual([])
})

test("folders of other programs are read in place and never changed", async () => {
  const put = async (path: string) => {
    await mkdir(join(root, "webui", path, ".."), { recursive: true })
    await writeFile(join(root, "webui", path), "x")
  }
  for (const path of [
    "models/Stable-diffusion/sub/one.safetensors",
    "models/Lora/two.safetensors",
    "embeddings/three.pt",
    "models/ESRGAN/four.pth",
  ])
    await put(path)
  const found = await listLibrary([join(root, "webui")])
  expect(found.map((e) => [e.name, e.kind])).toEqual([
    ["four", "upscaler"],
    ["one", "model"],
    ["three", "embedding"],
    ["two", "lora"],
  ])
  expect((await findInLibrary("ONE.safetensors", { trees: [join(root, "webui")] }))?.kind).toBe("model")
  process.env.AQUATINT_TREES = [join(root, "webui"), join(root, "nowhere")].join(delimiter)
  await put("models/VAE/two.safetensors")
  await expect(findInLibrary("two")).rejects.toMatchObject({ code: "MODEL_AMBIGUOUS" })
  expect((await findInLibrary("two", { kind: "vae" }))?.path).toContain("VAE")
  expect((await findInLibrary("one", { kind: "model" }))?.where).toBe("tree")
  await expect(removeFromLibrary("one")).rejects.toMatchObject({ code: "MODEL_FOREIGN" })
  delete process.env.AQUATINT_TREES
  await expect(removeFromLibrary("one")).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" })
})

test("one set of weights is chosen", () => {
  const names = (list: string[], variant?: string) =>
    diffusersFiles(
      ["model_index.json", ...list].map((rfilename) => ({ rfilename })),
      { id: "a/b", variant },
    ).map((s) => s.rfilename.split("/").at(-1))
  const both = ["unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"]
  expect(names(both)).toEqual(["model_index.json", "diffusion_pytorch_model.safetensors"])
  expect(names(both, "fp16")).toEqual(["model_index.json", "diffusion_pytorch_model.fp16.safetensors"])
  const sharded = [1, 2].map((n) => `unet/diffusion_pytorch_model.fp16-0000${n}-of-00002.safetensors`)
  expect(names([...sharded, "unet/diffusion_pytorch_model.safetensors.index.fp16.json"])).toHaveLength(4)
})

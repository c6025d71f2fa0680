import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { decodeImage, encodeImage, loadUpscaler } from "../../src/index.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { ask, type JobReply, over, program, root, type Served, serve } from "./harness.ts"

/** Files beside the models: LoRAs, embeddings and upscalers, by every interface, as the command line uses them. */

const golden = join(root, "test/golden")
const scratch = mkdtempSync(join(tmpdir(), "aquatint-beside-"))
let server: Served
beforeAll(async () => {
  const model = join(golden, "models/sd1-tiny")
  server = await serve(["--data", scratch, "-m", model, "--upscalers", join(golden, "upscalers")])
})
afterAll(async () => {
  await server.stop()
  rmSync(scratch, { recursive: true })
})

const small = { prompt: "a fox", steps: 2, seed: 4, width: 64, height: 64 }
const pixels = async (file: Uint8Array) => (await decodeImage(file)).data
const fileOf = async ({ images }: JobReply) =>
  Buffer.from(await (await fetch(server.url + images[0]!.url)).arrayBuffer())

async function draw(body: object): Promise<JobReply> {
  const { status, body: job } = await ask<JobReply>(`${server.url}/api/jobs`, body)
  expect([status, job.error ?? null]).toEqual([202, null])
  const done = await over(server.url, job.id)
  expect(done.state).toBe("done")
  return done
}

/** What the command line draws with the same settings. */
const drawn = (args: readonly string[]) => {
  const out = join(scratch, "drawn.png")
  const size = ["--steps", "2", "--seed", "4", "-W", "64", "-H", "64", "-m", join(golden, "models/sd1-tiny")]
  execFileSync(process.execPath, [program, ...args, ...size, "-o", out], { stdio: "pipe" })
  return readFileSync(out)
}

test("all of them are listed by id", async () => {
  const { body } = await ask<Record<string, { id: string }[]>>(`${server.url}/api/models`)
  const ids = (kind: string) => body[kind]!.map(({ id }) => id)
  expect(ids("loras")).toContain("style")
  expect(ids("embeddings")).toContain("single")
  expect(ids("upscalers")).toContain("compact-x4")
  // the server reads no pickles
  expect(ids("upscalers")).not.toContain("compact-x2")
  expect(JSON.stringify(body)).not.toContain(root)
})

test("a job without LoRAs says nothing of them; one with names them and their weights", async () => {
  const [plain, none, styled] = [
    await draw(small),
    await draw({ ...small, loras: [] }),
    await draw({ ...small, loras: [{ id: "style", weight: 0.5 }] }),
  ]
  expect(none.images[0]!.sha256).toBe(plain.images[0]!.sha256)
  expect(none.images[0]!.infotext).toBe(plain.images[0]!.infotext)
  expect(none.images[0]!.infotext).not.toMatch(/lora/i)
  expect(none.request).not.toHaveProperty("loras")
  expect(styled.images[0]!.infotext).toContain("<lora:style:0.5>")
  expect(styled.images[0]!.sha256).not.toBe(plain.images[0]!.sha256)
})

test("OpenAI's clients name LoRAs in the prompt", async () => {
  const made = async (prompt: string) => {
    const body = { prompt, size: "64x64", seed: 4, steps: 2, response_format: "b64_json" }
    const reply = await ask<{ data: { b64_json: string }[] }>(`${server.url}/v1/images/generations`, body)
    expect(reply.status).toBe(200)
    return pixels(Buffer.from(reply.body.data[0]!.b64_json, "base64"))
  }
  const styled = await made("a fox <lora:style:0.5>")
  expect(styled).not.toEqual(await made("a fox"))
  expect(styled).toEqual(
    await pixels(await fileOf(await draw({ ...small, prompt: "a fox <lora:style:0.5>" }))),
  )
})

test("an embedding is used where the prompt names it, as the command line does", async () => {
  const prompt = "a picture of single"
  const made = await draw({ ...small, prompt })
  const plain = await draw({ ...small, prompt: "a picture of another" })
  const file = await fileOf(made)
  expect(file).not.toEqual(await fileOf(plain))
  expect(await pixels(file)).toEqual(
    await pixels(drawn([prompt, "--embedding", join(golden, "embeddings/single.safetensors")])),
  )
  expect(await pixels(file)).not.toEqual(await pixels(drawn([prompt])))
  // three vectors take three places, where the model that is asked has the words
  const { body } = await ask<{ tokens: number; pieces: { text: string }[] }>(`${server.url}/api/tokens`, {
    text: "webui, single",
    model: "sd1-tiny",
  })
  expect([body.tokens, body.pieces.map((p) => p.text)]).toEqual([5, ["webui", "", "", ",", "single"]])
  const listed = await ask<{ loaded: object }>(`${server.url}/sdapi/v1/embeddings`)
  expect(Object.keys(listed.body.loaded)).toContain("single")
})

test("a network of the ESRGAN family enlarges: by our interface, by A1111's, and between two passes", async () => {
  const source = await draw(small)
  const { body } = await ask<JobReply>(`${server.url}/api/enlarge`, {
    picture: { image: source.images[0]!.id },
    factor: 2,
    upscaler: "compact-x4",
  })
  const large = await over(server.url, body.id)
  const file = await fileOf(large)
  const engine = nodeEngine()
  const net = await loadUpscaler(join(golden, "upscalers/compact-x4.safetensors"), { engine })
  expect(net.factor).toBe(4)
  const want = await net.enlarge(await decodeImage(await fileOf(source)), 128, 128)
  await net.release()
  await engine.close()
  const got = await decodeImage(file)
  expect([got.width, got.height]).toEqual([128, 128])
  expect(got.data).toEqual(want.data)
  // it is still the same prompt's picture, and says how it was made
  expect(large.images[0]).toMatchObject({ seed: 4, infotext: source.images[0]!.infotext })

  const upscalers = await ask<{ name: string }[]>(`${server.url}/sdapi/v1/upscalers`)
  expect(upscalers.body.map(({ name }) => name)).toContain("compact-x4")
  const extra = await ask<{ image: string }>(`${server.url}/sdapi/v1/extra-single-image`, {
    image: (await fileOf(source)).toString("base64"),
    upscaler_1: "compact-x4",
    upscaling_resize: 2,
  })
  expect(extra.status).toBe(200)
  expect(await pixels(Buffer.from(extra.body.image, "base64"))).toEqual(want.data)

  const hires = { scale: 2, upscaler: "compact-x4", strength: 0.5 }
  const twice = await draw({ ...small, hires })
  expect(twice.images[0]!.infotext).toContain("Hires upscaler: compact-x4")
  const line = ["a fox", "--hires-scale", "2", "--hires-strength", "0.5"]
  const same = drawn([...line, "--hires-upscaler", join(golden, "upscalers/compact-x4.safetensors")])
  expect(await pixels(await fileOf(twice))).toEqual(await pixels(same))
})

test("names that are none of these are refused, paths among them", async () => {
  const picture = await encodeImage(
    { width: 8, height: 8, channels: 3, data: new Uint8ClampedArray(192) },
    { format: "png" },
  )
  const data = Buffer.from(picture).toString("base64")
  const path = join(golden, "upscalers/compact-x4.safetensors")
  for (const upscaler of ["nonesuch", "../upscalers/real-x2.pth", "/etc/passwd", "C:\\x"]) {
    const own = await ask(`${server.url}/api/enlarge`, { picture: { data }, upscaler })
    expect([upscaler, own.status]).toEqual([upscaler, 422])
    const hires = await ask(`${server.url}/api/jobs`, { ...small, hires: { upscaler } })
    expect([upscaler, hires.status]).toEqual([upscaler, 422])
  }
  // the end of a path is a name, which is looked up like any other
  expect((await ask(`${server.url}/api/enlarge`, { picture: { data }, upscaler: path })).status).toBe(202)
})

import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import OpenAI, { toFile } from "openai"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { decodeImage, encodeImage, type Picture, readMetadata } from "../../src/index.ts"
import { ask, type JobReply, model, over, program, root, type Served, serve } from "./harness.ts"

/** The clients of other programs, against the built server and a model of random weights. */

const scratch = mkdtempSync(join(tmpdir(), "aquatint-clients-"))
let server: Served
beforeAll(async () => {
  server = await serve(["--data", scratch, "-m", model, "--models", join(root, "test/golden/models")])
})
afterAll(async () => {
  await server.stop()
  rmSync(scratch, { recursive: true })
})

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")
const plate = (width: number, height: number, channels: 3 | 4, alpha = 255): Picture => ({
  width,
  height,
  channels,
  data: Uint8ClampedArray.from({ length: width * height * channels }, (_, i) =>
    channels === 4 && i % 4 === 3 ? alpha : (i * 7) % 256,
  ),
})
const png = async (picture: Picture) => Buffer.from(await encodeImage(picture, { format: "png" }))
/** What the command line draws with the same settings. */
const drawn = (args: readonly string[]) => {
  const out = join(scratch, "drawn.png")
  execFileSync(process.execPath, [program, ...args, "-m", model, "-o", out], { stdio: "pipe" })
  return readFileSync(out)
}

describe("openai", () => {
  const client = () => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 })
  const extra = { seed: 7, steps: 3 } as object

  test("generates what the command line draws", async () => {
    const { data } = await client().images.generate({
      model: "gpt-image-1",
      prompt: "a lighthouse",
      size: "64x64" as "auto",
      ...extra,
    })
    const bytes = Buffer.from(data![0]!.b64_json!, "base64")
    expect(sha256(bytes)).toBe(
      sha256(drawn(["a lighthouse", "--seed", "7", "--steps", "3", "-W", "64", "-H", "64"])),
    )
  })

  test("several pictures, other formats, addresses", async () => {
    const { data, output_format } = await client().images.generate({
      prompt: "a tree",
      n: 2,
      size: "64x64" as "auto",
      output_format: "webp",
      response_format: "url",
      ...extra,
    })
    expect(output_format).toBe("webp")
    expect(data!.length).toBe(2)
    const response = await fetch(data![1]!.url!)
    expect(response.headers.get("content-type")).toBe("image/webp")
    const bytes = new Uint8Array(await response.arrayBuffer())
    expect((await readMetadata(bytes)).parameters).toContain("Seed: 8")
    expect((await fetch(data![1]!.url!.replace(/key=./, "key=_"))).status).toBe(404)
  })

  test("streams partial pictures, then the whole one", async () => {
    const stream = await client().images.generate({
      prompt: "a fox",
      size: "64x64" as "auto",
      stream: true,
      partial_images: 2,
      ...{ seed: 7, steps: 60 },
    })
    const types: string[] = []
    let last = ""
    for await (const event of stream) {
      types.push(event.type)
      last = event.b64_json
    }
    expect(types.at(-1)).toBe("image_generation.completed")
    expect(types.slice(0, -1).every((type) => type === "image_generation.partial_image")).toBe(true)
    expect(types.length).toBeGreaterThan(1)
    expect(types.length).toBeLessThan(4)
    expect((await decodeImage(Buffer.from(last, "base64"))).width).toBe(64)
  })

  test("edits where the mask is transparent, and makes variations", async () => {
    const image = await toFile(await png(plate(64, 64, 3)), "image.png", { type: "image/png" })
    const mask = await toFile(await png(plate(64, 64, 4, 0)), "mask.png", { type: "image/png" })
    const edited = await client().images.edit({ image, mask, prompt: "a bird", ...extra })
    expect((await decodeImage(Buffer.from(edited.data![0]!.b64_json!, "base64"))).width).toBe(64)
    const list = await client().images.edit({ image: [image], prompt: "a bird", ...extra })
    expect(list.data![0]!.b64_json).not.toBe(edited.data![0]!.b64_json)
    const other = await client().images.createVariation({ image, n: 1, ...extra })
    expect(other.data!.length).toBe(1)
  })

  test("refusals are the client's own errors", async () => {
    const refused = (more: object) => client().images.generate({ prompt: "x", ...more })
    await expect(refused({ size: "63x64" })).rejects.toMatchObject({ status: 422, code: "REQUEST_SIZE" })
    await expect(refused({ model: "no/such" })).rejects.toMatchObject({ status: 422, code: "MODEL_UNKNOWN" })
    await expect(refused({ n: 11 })).rejects.toMatchObject({ status: 422 })
    const models = await client().models.list()
    expect(models.data.map((m) => m.id)).toContain("sd1-odd")
  })
})

describe("MCP", () => {
  const walk = async (client: Client) => {
    const { tools } = await client.listTools()
    expect(tools.map((tool) => tool.name).sort()).toEqual(["edit", "generate", "list_models"])
    const listed = await client.callTool({ name: "list_models", arguments: {} })
    expect(JSON.stringify(listed.content)).toContain("sd1-odd")
    const settings = { prompt: "a ship", width: 64, height: 64, steps: 2, seed: 3 }
    const made = await client.callTool({ name: "generate", arguments: settings })
    const [image, facts] = made.content as { type: string; data: string; mimeType: string; text: string }[]
    expect(image).toMatchObject({ type: "image", mimeType: "image/png" })
    const { images } = JSON.parse(facts!.text) as { images: { id: string }[] }
    const edited = await client.callTool({
      name: "edit",
      arguments: { ...settings, prompt: "a red ship", image: images[0]!.id },
    })
    expect((edited.content as { type: string }[])[0]!.type).toBe("image")
    const wrong = await client.callTool({ name: "generate", arguments: { ...settings, width: 65 } })
    expect(wrong.isError).toBe(true)
    expect(JSON.stringify(wrong.content)).toContain("REQUEST_SIZE")
    return sha256(Buffer.from(image!.data, "base64"))
  }
  let first: string

  test("over HTTP", async () => {
    const client = new Client({ name: "test", version: "1" })
    await client.connect(new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`)))
    first = await walk(client)
    await client.close()
  })

  test("over stdio, with the same bytes", async () => {
    const client = new Client({ name: "test", version: "1" })
    const data = join(scratch, "stdio")
    const args = [program, "serve", "--mcp", "--port", "0", "--data", data, "-m", model]
    await client.connect(new StdioClientTransport({ command: process.execPath, args, stderr: "ignore" }))
    expect(await walk(client)).toBe(first)
    await client.close()
  })
})

/** Requests as SillyTavern's server sends them (src/endpoints/stable-diffusion.js, with its extension's bodies). */
describe("SillyTavern", () => {
  const at = (path: string) => `${server.url}/sdapi/v1/${path}`
  const auth = { headers: { authorization: `Basic ${Buffer.from(":").toString("base64")}` } }
  /** Its whole form, with the address and password that it sends along. */
  const form = () => ({
    url: server.url,
    auth: "",
    prompt: "best quality, a castle",
    negative_prompt: "lowres",
    sampler_name: "DPM++ 2M",
    scheduler: "Karras",
    steps: 3,
    cfg_scale: 7,
    width: 64,
    height: 64,
    restore_faces: false,
    enable_hr: false,
    hr_upscaler: "Latent",
    hr_scale: 2,
    denoising_strength: 0.7,
    hr_second_pass_steps: 0,
    seed: 5,
    override_settings: { CLIP_stop_at_last_layers: 1, sd_vae: undefined, forge_additional_modules: [] },
    override_settings_restore_afterwards: true,
    clip_skip: 1,
    save_images: true,
    send_images: true,
    do_not_save_grid: false,
    do_not_save_samples: false,
    n_iter: 1,
    s_churn: 0,
    s_tmax: null,
  })

  test("fills its menus", async () => {
    const get = async (path: string) =>
      (await ask<{ name: string; title: string }[]>(at(path), undefined, auth)).body
    expect((await get("upscalers")).map((x) => x.name)).toContain("None")
    expect((await get("latent-upscale-modes")).map((x) => x.name)).toContain("Latent (bicubic)")
    expect(Array.isArray(await get("sd-vae"))).toBe(true)
    expect((await get("samplers")).map((x) => x.name)).toContain("DPM++ 2M SDE")
    expect((await get("schedulers")).map((x) => x.name)).toContain("karras")
    expect((await get("sd-models")).map((x) => x.title)).toContain("sd1-tiny")
  })

  test("changes the model and waits for progress to be nothing", async () => {
    expect((await ask(at("options"), { sd_model_checkpoint: "sd1-tiny" }, auth)).status).toBe(200)
    expect((await ask(at("options"))).body.sd_model_checkpoint).toBe("sd1-tiny")
    const { body } = await ask<{ progress: number; state: { job_count: number } }>(at("progress"))
    expect([body.progress, body.state.job_count]).toEqual([0, 0])
    await ask(at("options"), { sd_model_checkpoint: "sd1-odd" })
    expect((await ask(at("options"), { sd_model_checkpoint: "nothing" })).status).toBe(422)
  })

  test("draws", async () => {
    const { status, body } = await ask<{ images: string[]; info: string }>(at("txt2img"), form(), auth)
    expect(status).toBe(200)
    const bytes = Buffer.from(body.images[0]!, "base64")
    const line = ["best quality, a castle", "-n", "lowres", "--sampler", "DPM++ 2M", "--schedule", "karras"]
    const rest = ["--steps", "3", "--cfg", "7", "-W", "64", "-H", "64", "--seed", "5", "--rng", "cuda"]
    const same = await decodeImage(drawn([...line, ...rest]))
    expect((await decodeImage(bytes)).data).toEqual(same.data)
    const info = JSON.parse(body.info)
    expect(info).toMatchObject({ seed: 5, steps: 3, all_seeds: [5], sampler_name: "DPM++ 2M" })
    expect(info.infotexts[0]).toContain("best quality, a castle")
    const png = await ask<{ info: string; parameters: { Seed: number } }>(at("png-info"), {
      image: `data:image/png;base64,${body.images[0]}`,
    })
    expect(png.body.info).toBe(info.infotexts[0])
    expect(png.body.parameters.Seed).toBe(5)
  })

  test("interrupts", async () => {
    const long = ask<{ images: string[] }>(
      at("txt2img"),
      { ...form(), steps: 150, width: 256, height: 256 },
      auth,
    )
    const running = async () =>
      (await ask<{ state: { sampling_steps: number } }>(at("progress"))).body.state.sampling_steps
    await expect.poll(running, { timeout: 20_000, interval: 50 }).toBeGreaterThan(0)
    // without a body, as it sends it
    expect((await fetch(at("interrupt"), { method: "POST", ...auth })).status).toBe(200)
    expect((await long).body.images).toEqual([])
  })

  test("a sampler that nobody knows is refused", async () => {
    const { status, body } = await ask(at("txt2img"), { ...form(), sampler_name: "No such" })
    expect(status).toBe(422)
    expect(body.detail).toContain("Sampler not found")
  })
})

describe("AUTOMATIC1111's other clients", () => {
  const at = (path: string) => `${server.url}/sdapi/v1/${path}`
  const small = { prompt: "a cat", width: 64, height: 64, steps: 2, seed: 3 }
  const tiny = { ...small, override_settings: { sd_model_checkpoint: "sd1-tiny" } }
  const pixels = async (image: string) => (await decodeImage(Buffer.from(image, "base64"))).data

  test("draw with LoRAs that the prompt names, of those there are", async () => {
    const { body: list } = await ask<{ name: string; alias: string; path: string }[]>(at("loras"))
    expect(list).toContainEqual(expect.objectContaining({ name: "style", path: "style" }))
    expect(JSON.stringify(list)).not.toContain(root)
    const drawn = async (prompt: string) => {
      const { status, body } = await ask<{ images: string[] }>(at("txt2img"), { ...tiny, prompt })
      expect(status).toBe(200)
      return pixels(body.images[0]!)
    }
    const [plain, styled] = [await drawn("a cat"), await drawn("a cat <lora:style:0.8>")]
    expect(styled).not.toEqual(plain)
    const job = { ...small, model: "sd1-tiny", rng: "cuda", sampler: "Euler", syntax: "plain", cfg: 7 }
    const made = await ask<JobReply>(`${server.url}/api/jobs`, {
      ...job,
      loras: [{ id: "style", weight: 0.8 }],
    })
    const done = await over(server.url, made.body.id)
    const file = Buffer.from(await (await fetch(server.url + done.images[0]!.url)).arrayBuffer())
    expect((await decodeImage(file)).data).toEqual(styled)
    for (const name of ["nowhere", "../../../../etc/hostname", "/etc/hostname"]) {
      const { status, body } = await ask(at("txt2img"), { ...tiny, prompt: `a <lora:${name}:1>` })
      expect([status, body.error]).toEqual([422, "REQUEST_LORA"])
    }
    const foreign = await ask(at("txt2img"), { ...small, prompt: "a cat <lora:xl:1>" })
    expect(foreign.status).toBe(422)
  })

  test("are told what is not done here", async () => {
    for (const more of [
      { enable_hr: true, hr_checkpoint_name: "other" },
      { restore_faces: true },
      { tiling: true },
      { styles: ["x"] },
      { script_name: "x/y/z plot" },
      { alwayson_scripts: { controlnet: { args: [] } } },
      { refiner_checkpoint: "xl", refiner_switch_at: 0.8 },
      { override_settings: { eta_noise_seed_delta: 31337 } },
      { override_settings: { sd_vae: "other.safetensors" } },
    ]) {
      const { status, body } = await ask(at("txt2img"), { ...small, ...more })
      expect([JSON.stringify(more), status, body.error]).toEqual([
        JSON.stringify(more),
        422,
        "REQUEST_UNSUPPORTED",
      ])
    }
    expect((await ask(at("interrogate"), { image: "", model: "clip" })).status).toBe(422)
  })

  test("draw a second pass and variations, as the command line does", async () => {
    const hr = { enable_hr: true, hr_scale: 1.5, hr_upscaler: "Latent (bicubic)", denoising_strength: 0.6 }
    const { status, body } = await ask<{ images: string[] }>(at("txt2img"), { ...small, ...hr })
    expect(status).toBe(200)
    expect((await ask(at("txt2img"), { ...small, ...hr, hr_upscaler: "/etc/passwd" })).status).toBe(422)
    const vary = { subseed: 9, subseed_strength: 0.4 }
    const varied = await ask<{ images: string[]; info: string }>(at("txt2img"), { ...small, ...vary })
    expect(JSON.parse(varied.body.info)).toMatchObject({ seed: 3, subseed: 9, subseed_strength: 0.4 })
    const plain = await ask<{ images: string[] }>(at("txt2img"), small)
    expect(varied.body.images[0]).not.toBe(plain.body.images[0])
    // last, as it holds this process up while the server lets idle connections go
    const line = ["a cat", "--sampler", "Euler", "--cfg", "7", "--steps", "2", "--seed", "3", "--rng", "cuda"]
    const second = ["--hires-scale", "1.5", "--hires-upscaler", "latent-bicubic", "--hires-strength", "0.6"]
    const size = ["-W", "64", "-H", "64"]
    const same = await decodeImage(drawn([...line, ...size, ...second]))
    expect([same.width, await pixels(body.images[0]!)]).toEqual([96, same.data])
  })

  test("enlarge, look for new files and give memory back", async () => {
    expect((await ask<{ name: string }[]>(at("upscalers"))).body.map(({ name }) => name)).toContain("Lanczos")
    const image = (await png(plate(24, 16, 3))).toString("base64")
    const extra = (more: object) => ask<{ image: string }>(at("extra-single-image"), { image, ...more })
    const size = async (more: object) => {
      const { status, body } = await extra(more)
      expect(status).toBe(200)
      const { width, height } = await decodeImage(Buffer.from(body.image, "base64"))
      return [width, height]
    }
    expect(await size({ upscaler_1: "Lanczos", upscaling_resize: 4 })).toEqual([96, 64])
    expect(await size({ upscaler_1: "None", upscaling_resize: 4 })).toEqual([24, 16])
    const to = { resize_mode: 1, upscaling_resize_w: 64, upscaling_resize_h: 64, upscaler_1: "Nearest" }
    expect(await size({ ...to, upscaling_crop: true })).toEqual([64, 64])
    expect(await size({ ...to, upscaling_crop: false })).toEqual([96, 64])
    expect((await extra({ upscaler_1: "R-ESRGAN 9x" })).status).toBe(422)
    expect((await extra({ upscaler_1: "Lanczos", gfpgan_visibility: 1 })).status).toBe(422)
    const batch = { imageList: [{ data: image, name: "a.png" }], upscaler_1: "Lanczos" }
    const made = await ask<{ images: string[] }>(at("extra-batch-images"), batch)
    expect(made.body.images.length).toBe(1)
    for (const name of ["refresh-checkpoints", "refresh-loras", "unload-checkpoint", "reload-checkpoint"])
      expect((await fetch(at(name), { method: "POST" })).status).toBe(200)
    expect((await ask<{ images: string[] }>(at("txt2img"), small)).body.images.length).toBe(1)
  })
})

/** Requests as Open WebUI's server sends them (backend/open_webui/routers/images.py). */
describe("Open WebUI", () => {
  const at = (path: string) => `${server.url}/sdapi/v1/${path}`
  const auth = { headers: { authorization: "" } }

  test("reads the settings, writes all of them back with another model, and draws", async () => {
    const options = (await ask(at("options"), undefined, auth)).body
    const back = { ...options, sd_model_checkpoint: "sd1-tiny", something_of_its_own: [1] }
    expect((await ask(at("options"), back, auth)).status).toBe(200)
    const body = { prompt: "a cat", batch_size: 2, width: 64, height: 64, steps: 2, negative_prompt: "dog" }
    const reply = await ask<{ images: string[]; info: string }>(at("txt2img"), body, auth)
    expect(reply.body.images.length).toBe(2)
    expect(JSON.parse(reply.body.info)).toMatchObject({ sd_model_name: "sd1-tiny", batch_size: 2 })
    expect((await ask(at("options"))).body.something_of_its_own).toEqual([1])
    await ask(at("options"), { sd_model_checkpoint: "sd1-odd" })
  })

  test("img2img with a mask", async () => {
    const picture = (await png(plate(64, 64, 3))).toString("base64")
    const half = (
      await png({ width: 64, height: 64, channels: 1, data: new Uint8ClampedArray(4096).fill(255, 2048) })
    ).toString("base64")
    const body = {
      prompt: "a cat",
      init_images: [picture],
      denoising_strength: 0.5,
      steps: 4,
      width: 64,
      height: 64,
      seed: 1,
    }
    const plain = await ask<{ images: string[] }>(at("img2img"), body)
    const masked = await ask<{ images: string[] }>(at("img2img"), { ...body, mask: half, mask_blur: 2 })
    expect([plain.status, masked.status]).toEqual([200, 200])
    expect(plain.body.images[0]).not.toBe(masked.body.images[0])
  })

  test("as an OpenAI engine", async () => {
    const body = {
      model: "dall-e-2",
      prompt: "a cat",
      n: 1,
      size: "64x64",
      response_format: "b64_json",
      steps: 2,
    }
    const { status, body: reply } = await ask<{ data: { b64_json: string }[] }>(
      `${server.url}/v1/images/generations`,
      body,
    )
    expect(status).toBe(200)
    expect(reply.data[0]!.b64_json.length).toBeGreaterThan(100)
  })
})

import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { decodeImage, encodeImage, readMetadata, version } from "../src/index.ts"

const root = join(import.meta.dirname, "..")
const program = join(root, "dist", "bin", "aquatint.js")
const model = join(root, "test", "golden", "models", "sd1-odd")
const scratch = mkdtempSync(join(tmpdir(), "aquatint-cli-"))
afterAll(() => rmSync(scratch, { recursive: true }))

interface Ran {
  code: number | null
  out: Buffer
  err: string
  seconds: number
}

function aquatint(
  args: readonly string[],
  signalAfter?: number,
  env: Record<string, string> = {},
): Promise<Ran> {
  const began = performance.now()
  const child = spawn(process.execPath, [program, ...args], {
    cwd: scratch,
    env: { ...process.env, XDG_CACHE_HOME: join(scratch, "cache"), ...env },
  })
  const out: Buffer[] = []
  let err = ""
  child.stdout.on("data", (b: Buffer) => out.push(b))
  child.stderr.on("data", (b: Buffer) => (err += b))
  if (signalAfter !== undefined) setTimeout(() => child.kill("SIGINT"), signalAfter)
  return new Promise((done) =>
    child.on("close", (code) =>
      done({ code, out: Buffer.concat(out), err, seconds: (performance.now() - began) / 1000 }),
    ),
  )
}

/** Sources of the command line; those of the page and of browsers are built apart. */
function* sources(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* sources(path)
    else if (entry.name.endsWith(".ts") && !/\.test\.ts$|web/.test(entry.name)) yield path
  }
}

test("every program that a module starts beside itself is among the built ones", () => {
  const named = [...sources(join(root, "src"))].flatMap((path) =>
    [...readFileSync(path, "utf8").matchAll(/new URL\("\.\/([\w-]+\.js)", import\.meta\.url\)/g)].map(
      (m) => m[1]!,
    ),
  )
  expect(named).toContain("thread-child.js")
  const missing = named.filter((name) => !existsSync(join(dirname(program), name)))
  expect(missing).toEqual([])
})

const draw = ["--model", model, "--steps", "2", "--seed", "3", "-W", "64", "-H", "64"]

describe("generate", () => {
  test("JSON holds paths, seeds, timings and hashes, and stdout nothing else", async () => {
    const { code, out, err } = await aquatint(["a red fox", ...draw, "--json", "-o", "fox.png"])
    expect(err).toBe("")
    expect(code).toBe(0)
    const json = JSON.parse(out.toString())
    expect(json.images).toEqual([
      {
        path: join(scratch, "fox.png"),
        seed: 3,
        width: 64,
        height: 64,
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    ])
    expect(Object.keys(json.timings)).toEqual(["load", "text", "denoise", "decode", "total"])
    expect(json.model).toEqual({
      name: "sd1-odd",
      family: "sd1",
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    expect([json.device, json.dtype]).toEqual(["cpu", "fp32"])
  })

  test("every format carries parameters and the mark that a machine made it", async () => {
    for (const name of ["a.png", "a.jpg", "a.webp"]) {
      const { code } = await aquatint(["a (red:1.2) fox", ...draw, "-n", "blurry", "-o", name])
      expect(code).toBe(0)
      const { parameters, xmp } = await readMetadata(readFileSync(join(scratch, name)))
      expect(parameters).toContain("a (red:1.2) fox\nNegative prompt: blurry\nSteps: 2, ")
      expect(parameters).toContain(`Version: aquatint ${version}`)
      expect(xmp).toContain("http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia")
    }
  })

  test("a picture in eight-bit integers says so, and is repeated so", async () => {
    const first = await aquatint(["a red fox", ...draw, "--dtype", "int8", "--json", "-o", "int8.png"])
    expect(JSON.parse(first.out.toString()).dtype).toBe("int8")
    const bytes = readFileSync(join(scratch, "int8.png"))
    expect((await readMetadata(bytes)).parameters).toContain("Compute type: int8")
    const again = await aquatint(["--from", "int8.png", "--model", model, "--json", "-o", "int8-again.png"])
    expect(again.code).toBe(0)
    expect(readFileSync(join(scratch, "int8-again.png")).equals(bytes)).toBe(true)
    const plain = await aquatint([
      "--from",
      "int8.png",
      "--model",
      model,
      "--dtype",
      "fp32",
      "-o",
      "fp32.png",
    ])
    expect(plain.code).toBe(0)
    expect(readFileSync(join(scratch, "fp32.png")).equals(bytes)).toBe(false)
  })

  test("another program's picture is repeated with model and LoRA of the library", async () => {
    const library = join(scratch, "library")
    cpSync(join(root, "test/golden/models/sd1-tiny"), join(library, "checkpoints/dream"), { recursive: true })
    mkdirSync(join(library, "loras/ink"), { recursive: true })
    copyFileSync(
      join(root, "test/golden/adapters/kohya/style.safetensors"),
      join(library, "loras/ink/brush.safetensors"),
    )
    const data = new Uint8ClampedArray(12)
    const parameters =
      "a fox <lora:brush:0.5>\nSteps: 5, Sampler: Euler, Schedule type: Normal, CFG scale: 4, Seed: 5, Size: 64x64, Model: dream, Denoising strength: 0.4, Version: v1.10.1"
    const bytes = await encodeImage(
      { width: 2, height: 2, channels: 3, data },
      { format: "webp", metadata: { parameters } },
    )
    writeFileSync(join(scratch, "theirs.webp"), bytes)
    const again = await aquatint(["--from", "theirs.webp", "--json", "-o", "again.png"], undefined, {
      AQUATINT_MODELS: library,
    })
    const told = JSON.parse(again.out.toString())
    expect(told.model.name).toBe("dream")
    expect(told.adapters[0]).toMatchObject({ name: "brush", unet: 0.5 })
    expect(told.images[0].seed).toBe(5)
    const started = await aquatint(
      ["--from", "theirs.webp", "--init", "again.png", "-o", "more.png"],
      undefined,
      { AQUATINT_MODELS: library },
    )
    expect([started.code, started.err]).toEqual([
      0,
      expect.not.stringContaining("began from another picture"),
    ])
    expect((await readMetadata(readFileSync(join(scratch, "more.png")))).parameters).toContain(
      "Denoising strength: 0.4",
    )
  })

  test("files that were renamed since are found by the hashes in a picture", async () => {
    const library = join(scratch, "renamed")
    const golden = join(root, "test/golden")
    const put = (from: string, to: string) => {
      mkdirSync(dirname(join(library, to)), { recursive: true })
      copyFileSync(join(golden, from), join(library, to))
    }
    cpSync(join(golden, "models/sd1-tiny"), join(library, "checkpoints/first"), { recursive: true })
    put("adapters/kohya/style.safetensors", "loras/brush.safetensors")
    put("embeddings/webui.safetensors", "embeddings/ink.safetensors")
    const env = { AQUATINT_MODELS: library }
    const files = ["--lora", "brush=0.5", "--embedding", join(library, "embeddings/ink.safetensors")]
    const first = await aquatint(
      ["an ink fox", "-m", "first", "--steps", "2", "--seed", "4", ...files, "-o", "first.png"],
      undefined,
      env,
    )
    expect([first.code, first.err]).toEqual([0, expect.any(String)])
    for (const [from, to] of [
      ["loras/brush", "loras/pen"],
      ["embeddings/ink", "embeddings/dye"],
    ])
      renameSync(join(library, `${from}.safetensors`), join(library, `${to}.safetensors`))
    const again = await aquatint(["--from", "first.png", "-o", "second.png"], undefined, env)
    expect([again.code, again.err]).toEqual([0, expect.stringContaining("LoRA brush: found by its hash as")])
    expect(again.err).toContain("textual inversion ink: found by its hash as")
    const pixels = async (name: string) => (await decodeImage(readFileSync(join(scratch, name)))).data
    expect(await pixels("second.png")).toEqual(await pixels("first.png"))
  })

  test("a picture of a batch is the picture made alone", async () => {
    const batch = await aquatint(["fox", ...draw, "--count", "3", "--json", "-o", "batch/"])
    const alone = await aquatint([
      "fox",
      "--model",
      model,
      "--steps",
      "2",
      "--seed",
      "5",
      "-W",
      "64",
      "-H",
      "64",
      "--json",
      "-o",
      "alone.png",
    ])
    const images = JSON.parse(batch.out.toString()).images as { path: string; seed: number }[]
    expect(images.map((i) => i.seed)).toEqual([3, 4, 5])
    expect(JSON.parse(alone.out.toString()).images[0].sha256).toBe(
      JSON.parse(batch.out.toString()).images[2].sha256,
    )
    expect(readdirSync(join(scratch, "batch"))).toHaveLength(3)
  })

  test("stdout takes the picture itself", async () => {
    const { code, out } = await aquatint(["fox", ...draw, "-o", "-"])
    expect(code).toBe(0)
    expect(out.subarray(0, 8).toString("latin1")).toBe("\x89PNG\r\n\x1a\n")
  })

  test("Ctrl-C ends with 130 and leaves nothing", async () => {
    const before = readdirSync(scratch)
    const { code, seconds } = await aquatint(
      ["fox", "--model", model, "--steps", "900", "-W", "256", "-H", "256", "-o", "never.png"],
      3000,
    )
    expect(code).toBe(130)
    expect(seconds).toBeLessThan(30)
    expect(readdirSync(scratch)).toEqual(before)
  })
})

test("doctor tells of every device", async () => {
  const { code, out } = await aquatint(["doctor", "--json"])
  expect(code).toBe(0)
  const { devices, machine } = JSON.parse(out.toString())
  expect(devices.map((d: { device: string }) => d.device)).toEqual(["cpu", "webgpu", "cuda", "dml", "coreml"])
  expect(devices[0].works).toBe(true)
  expect(machine.cores).toBeGreaterThan(0)
})

test("evaluate scores a model and says how sure it is", async () => {
  const few = ["--prompts", "4", "--own", "16", "--reconstructions", "1"]
  const [words, data] = [
    await aquatint(["evaluate", ...few]),
    await aquatint(["evaluate", "--steps", "4", ...few, "--json"]),
  ]
  expect(words.code).toBe(0)
  for (const part of ["all prompts", "English", "German", "the classifier itself"])
    expect(words.out.toString()).toMatch(new RegExp(`^${part}`, "m"))
  expect(words.out.toString()).toMatch(/^ {2}place +\d+\.\d % {2}\(\d+\.\d % to \d+\.\d %, 4\)$/m)
  const found = JSON.parse(data.out.toString())
  expect(found.all.subject).toMatchObject({ of: 4 })
  expect(found.classifier["kind left"].share).toBeGreaterThan(0.9)
  expect(found.reconstruction.all.mean).toBeGreaterThan(15)
})

test("inspect tells what a folder is", async () => {
  const { code, out } = await aquatint(["inspect", model, "--json"])
  expect(code).toBe(0)
  expect(JSON.parse(out.toString())).toMatchObject({
    format: "diffusers",
    family: "sd1",
    variant: "base",
    prediction: "epsilon",
  })
})

/** Command lines that a caller got wrong, and the code each must give. */
const wrong: [string, string[]][] = [
  ["USAGE", ["generate"]],
  ["USAGE", ["generate", "a", "b", "--model", model]],
  ["USAGE", ["a fox", "--nonsense"]],
  ["USAGE", ["a fox", "--steps"]],
  ["USAGE", ["a fox", "--steps", "many"]],
  ["USAGE", ["a fox", "--rng", "dice"]],
  ["USAGE", ["a fox", "--device", "abacus"]],
  ["USAGE", ["a fox", "--dtype", "fp7"]],
  ["USAGE", ["a fox", "--prompt-syntax", "latin"]],
  ["USAGE", ["inspect"]],
  ["USAGE", ["doctor", "now"]],
  ["MODEL_NOT_FOUND", ["a fox", "--model", "nowhere.safetensors"]],
  ["MODEL_PICKLE", ["a fox", "--model", "bad.ckpt"]],
  ["SAFETENSORS_TOO_SMALL", ["a fox", "--model", "empty.safetensors"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--steps", "0"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--steps", "2.5"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--steps", "100000"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--cfg", "-1"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--seed", "-1"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--seed", "4294967296"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--count", "0"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--width", "0"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--eta", "2"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--width", "100000"]],
  ["REQUEST_SIZE", ["a fox", ...draw, "--width", "65"]],
  ["REQUEST_SIZE", ["a fox", ...draw, "--height", "100"]],
  ["REQUEST_RANGE", ["a fox", ...draw, "--strength", "1.5"]],
  ["REQUEST_MASK", ["a fox", ...draw, "--mask", "bad.png"]],
  ["INPUT_FILE", ["a fox", ...draw, "--init", "nowhere.png"]],
  ["IMAGE_FORMAT", ["a fox", ...draw, "--init", "text.png"]],
  ["SAMPLER", ["a fox", ...draw, "--sampler", "euler-z"]],
  ["SCHEDULE", ["a fox", ...draw, "--schedule", "weekly"]],
  ["CLIP_SKIP", ["a fox", ...draw, "--clip-skip", "99"]],
  ["OUTPUT_FORMAT", ["a fox", ...draw, "-o", "fox.gif"]],
  ["OUTPUT_FORMAT", ["a fox", ...draw, "-o", "fox"]],
  ["OUTPUT_FORMAT", ["a fox", ...draw, "--trace", "trace.json"]],
  ["OUTPUT_FOLDER", ["a fox", ...draw, "-o", "text.png/fox.png"]],
  ["OUTPUT_STDOUT", ["a fox", ...draw, "-o", "-", "--count", "2"]],
  ["OUTPUT_STDOUT", ["a fox", ...draw, "-o", "-", "--json"]],
  ["USAGE", ["evaluate", "--prompts", "0"]],
  ["USAGE", ["evaluate", "--prompts", "2.5"]],
  ["USAGE", ["evaluate", "--own", "0"]],
  ["MODEL_NOT_FOUND", ["evaluate", "nowhere"]],
]

describe("wrong command lines: exit 2, a code, a hint, and nothing left behind", () => {
  writeFileSync(join(scratch, "empty.safetensors"), "")
  writeFileSync(join(scratch, "bad.ckpt"), "x")
  writeFileSync(join(scratch, "text.png"), "this is no picture")

  test.each(wrong)("%s %j", async (code, args) => {
    const before = readdirSync(scratch).filter((f) => f !== "cache")
    const ran = await aquatint(args)
    expect(ran.err).toMatch(new RegExp(`^error\\[${code}\\]: .+`))
    expect(ran.err).toMatch(/\n {2}hint: .+\n$/)
    expect(ran.err).not.toMatch(/\n\s+at /)
    expect(ran.code).toBe(2)
    expect(readdirSync(scratch).filter((f) => f !== "cache")).toEqual(before)
  })

  test("with --json the error is an object on stdout", async () => {
    const { code, out } = await aquatint(["a fox", ...draw, "--steps", "0", "--json"])
    expect(code).toBe(2)
    expect(JSON.parse(out.toString())).toEqual({
      error: { code: "REQUEST_RANGE", message: expect.any(String), hint: expect.any(String) },
    })
  })
})

test("a program of this version was built", () => {
  expect(existsSync(program)).toBe(true)
  expect(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version).toBe(version)
})

test("a model of Hugging Face's cache is found by its id, through the cache's symbolic links", async () => {
  const hub = join(scratch, "hub")
  const snapshot = join(hub, "models--someone--tiny", "snapshots", "0123abc")
  const blobs = join(hub, "models--someone--tiny", "blobs")
  mkdirSync(blobs, { recursive: true })
  mkdirSync(join(hub, "models--someone--tiny", "refs"))
  writeFileSync(join(hub, "models--someone--tiny", "refs", "main"), "0123abc\n")
  for (const file of readdirSync(model, { recursive: true, encoding: "utf8", withFileTypes: true })) {
    if (!file.isFile()) continue
    const from = join(file.parentPath, file.name)
    const name = relative(model, from)
    const blob = join(blobs, createHash("sha1").update(name).digest("hex"))
    copyFileSync(from, blob)
    mkdirSync(dirname(join(snapshot, name)), { recursive: true })
    symlinkSync(relative(dirname(join(snapshot, name)), blob), join(snapshot, name))
  }
  const args = ["fox", "--model", "someone/tiny", ...draw.slice(2), "--json", "-o", "hub.png"]
  const { code, out } = await aquatint(args, undefined, { HF_HUB_CACHE: hub })
  expect(code).toBe(0)
  expect(JSON.parse(out.toString()).images[0].width).toBe(64)
})

describe("train embedded", () => {
  test("runs the stages named, and refuses what is none", async () => {
    const { code, err } = await aquatint(["train", "embedded", "words", "-o", "embedded"])
    expect([code, err]).toEqual([0, ""])
    expect(readdirSync(join(scratch, "embedded", "words"))).toContain("vocab.json")
    for (const name of ["nope", "../training/words"]) {
      const refused = await aquatint(["train", "embedded", name, "-o", "embedded"])
      expect(refused.code).toBe(2)
      expect(refused.err).toContain("error[TRAIN_STAGE]")
    }
    const early = await aquatint(["train", "embedded", "vae-white", "-o", "embedded"])
    expect(early.err).toContain("error[TRAIN_NEEDS]: stage vae is not finished")
  })
})

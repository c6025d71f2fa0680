import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { AquatintError, encodeImage, type Picture, StableDiffusion } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { aquatint, complaint, type Ran, twoAtATime } from "./hostile/command.ts"
import { props, wrongCommandLines } from "./hostile/command-lines.ts"
import { greedy } from "./hostile/greedy.ts"
import { type Spoilt, spoiltModel, writeSingleFile } from "./hostile/models.ts"

/*
 * Model files and command lines that a stranger spoilt end in a picture or in an error that blames the caller.
 * By hand, all through the real program: AQUATINT_HOSTILE=1000 npx vitest run test/hostile.test.ts -t "real program"
 */
const byHand = Number(process.env.AQUATINT_HOSTILE ?? 0)

const scratch = mkdtempSync(join(tmpdir(), "aquatint-hostile-"))
const single = join(scratch, "sound.safetensors")
const start = join(scratch, "start.png")
const grey: Picture = {
  width: 64,
  height: 64,
  channels: 3,
  data: new Uint8ClampedArray(64 * 64 * 3).fill(128),
}
beforeAll(async () => {
  writeSingleFile(single)
  writeFileSync(start, await encodeImage(grey, { format: "png" }))
})
afterAll(() => rmSync(scratch, { recursive: true }))

/** How loading and settling a request ends; `draw` goes on to the picture. */
async function ending(model: Spoilt, draw: boolean): Promise<string> {
  const size = { width: 64, height: 64 }
  const ask = {
    prompt: "a (red:1.2) fox",
    steps: 2,
    cfg: 3,
    seed: 1,
    ...(model.inpaint ? { init: grey } : {}),
  }
  try {
    const engine = nodeEngine()
    const sd = await StableDiffusion.load(model.path, { device: "cpu", cache: null, engine })
    try {
      if (draw) await sd.generate({ ...ask, ...size })
      else for await (const _ of sd.generate(ask)) break
      return "fine"
    } finally {
      await sd.release()
    }
  } catch (error) {
    if (error instanceof AquatintError && error.blame === "caller") return "refused"
    return `${model.what}: ${error instanceof Error ? error.stack : String(error)}`
  }
}

const batch = 25
describe("spoilt models, loaded", () => {
  test.each(Array.from({ length: byHand ? byHand / batch : 5 }, (_, i) => i * batch))(
    "numbers from %d on",
    async (first) => {
      for (let seed = first; seed < first + batch; seed++) {
        const folder = join(scratch, `${seed}`)
        const model = spoiltModel(seed, folder, single)
        const before = process.cpuUsage()
        const end = await ending(model, seed % 8 === 0)
        const { user, system } = process.cpuUsage(before)
        rmSync(folder, { recursive: true })
        expect(end, `number ${seed}`).toMatch(/^(fine|refused)$/)
        expect((user + system) / 1e6, `seconds of number ${seed}`).toBeLessThan(5)
      }
    },
  )

  test("nothing of a file reaches the prototypes", () => {
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })
})

describe("configs that ask for more than their files hold", () => {
  test.each(greedy)("%s %s", async (part, field, value) => {
    const folder = join(scratch, "greedy")
    const model = spoiltModel.sound("sd1-tiny", folder)
    const path = join(model.path, part)
    const config = JSON.parse(readFileSync(path, "utf8")) as object
    writeFileSync(path, JSON.stringify({ ...config, [field]: value }))
    const before = process.memoryUsage.rss()
    expect(await ending(model, false)).toBe("refused")
    expect(process.memoryUsage.rss() - before).toBeLessThan(500 * 2 ** 20)
    rmSync(folder, { recursive: true })
  })
})

/** Seconds that a run may take: 5, or as many times more as there is more work than cores. */
const patience = () => 5 * Math.max(1, loadavg()[0]!)
const slow = (ran: Ran) => (ran.seconds > patience() ? `${ran.seconds.toFixed(1)} s` : null)

/** Runs a command line in a folder of its own; what is wrong with its end. */
async function trial(args: readonly string[], folder: string): Promise<{ ran: Ran; wrong: string | null }> {
  mkdirSync(folder, { recursive: true })
  const before = readdirSync(folder)
  const ran = await aquatint(args, folder)
  const left = readdirSync(folder).filter((f) => f !== "cache" && !before.includes(f))
  const wrong =
    complaint(ran) ??
    slow(ran) ??
    (ran.code !== 0 && left.length > 0 ? `left behind: ${left.join(", ")}` : null)
  return { ran, wrong }
}

const options = ["--steps", "2", "--cfg", "3", "--seed", "1", "-W", "64", "-H", "64", "--out", "fox.png"]

describe("real program", { timeout: 3_600_000 }, () => {
  test("spoilt models", async () => {
    const count = byHand || 30
    const first = byHand ? Number(process.env.AQUATINT_HOSTILE_FROM ?? 0) : 5000
    const work = Array.from({ length: count }, (_, i) => first + i)
    const ends = await twoAtATime(work, async (seed) => {
      const folder = join(scratch, `real-${seed}`)
      const model = spoiltModel(seed, join(folder, "model"), single)
      const init = model.inpaint ? ["--init", start] : []
      const out = await trial(["a (red:1.2) fox", "--model", model.path, ...options, ...init], folder)
      rmSync(folder, { recursive: true })
      if (byHand && (out.wrong || seed % 50 === 49))
        console.log(`${seed} ${model.what}: ${out.wrong ?? "well"}`)
      return { ...out, what: `${seed} ${model.what}` }
    })
    if (byHand) summary("spoilt models", ends)
    expect(ends.filter(({ wrong }) => wrong).map(({ what, wrong }) => `${what}: ${wrong}`)).toEqual([])
  })

  test("wrong command lines", async () => {
    const folder = join(scratch, "lines")
    mkdirSync(folder)
    for (const [name, text] of Object.entries(props)) writeFileSync(join(folder, name), text, "latin1")
    const model = spoiltModel.sound("sd1-odd", join(scratch, "sound")).path
    const lines = wrongCommandLines(model)
    expect(lines.length).toBeGreaterThanOrEqual(100)
    const ends = await twoAtATime(lines, async (args) => {
      const { ran, wrong } = await trial(args, folder)
      const what = args.map((a) => a.slice(0, 60)).join(" ")
      return { ran, what, wrong: wrong ?? (ran.code === 0 ? "it ran" : null) }
    })
    if (byHand) summary("wrong command lines", ends)
    expect(ends.filter(({ wrong }) => wrong).map(({ what, wrong }) => `${what}: ${wrong}`)).toEqual([])
    expect(
      readdirSync(folder)
        .filter((f) => f !== "cache")
        .sort(),
    ).toEqual(Object.keys(props).sort())
  })
})

function summary(what: string, ends: readonly { ran: Ran; wrong: string | null }[]): void {
  const seconds = ends.map(({ ran }) => ran.seconds).sort((a, b) => a - b)
  const codes = new Map<string, number>()
  for (const { ran } of ends) {
    const code = ran.code === 0 ? "drawn" : (/^error\[([^\]]+)/.exec(ran.err)?.[1] ?? `exit ${ran.code}`)
    codes.set(code, (codes.get(code) ?? 0) + 1)
  }
  const sorted = [...codes].sort(([, a], [, b]) => b - a)
  console.log(
    `${what}: ${ends.length}, ${ends.filter(({ wrong }) => wrong).length} ended wrong; seconds median ` +
      `${seconds[seconds.length >> 1]!.toFixed(2)}, most ${seconds.at(-1)!.toFixed(2)}\n` +
      sorted.map(([code, n]) => `  ${n} ${code}`).join("\n"),
  )
}

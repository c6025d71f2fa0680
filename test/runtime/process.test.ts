import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { input, parameter } from "../../src/graph/index.ts"
import { StableDiffusion } from "../../src/index.ts"
import { f32 } from "../../src/runtime/engine.ts"
import { compile } from "../../src/runtime/program.ts"
import { spawnEngine } from "../../src/runtime/spawn.ts"

const built = new URL("../../dist/runtime/child.js", import.meta.url)
const golden = join(import.meta.dirname, "../golden/models")
const scratch = mkdtempSync(join(tmpdir(), "aquatint-"))
afterAll(() => rmSync(scratch, { recursive: true }))

const device = { device: "cpu" } as const
const side = 2048

/** A chain of products; each run takes `times` x 17 GFLOP on 1024 rows. */
function heavy(times: number) {
  const w = parameter("w", [side, side])
  let y = input("x", [1024, side])
  for (let i = 0; i < times; i++) y = y.matmul(w).mul(0.5)
  return { outputs: { y: y.mean([0, 1], false) } }
}

const ones = (n: number) => new Float32Array(n).fill(1 / side)
const weights = () =>
  new Map([
    ["w", { dtype: "f32" as const, shape: [side, side], bytes: new Uint8Array(ones(side * side).buffer) }],
  ])
const x = f32(new Float32Array(1024 * side).fill(1), [1024, side])

/** Resident bytes of a process, from /proc. */
const resident = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024

describe.runIf(existsSync(built))("the engine's process", () => {
  test("leaves the caller's event loop free while it runs", async () => {
    const engine = spawnEngine(built)
    const net = await compile(engine, heavy(12), weights(), { ...device, threads: 1 })
    const delays: number[] = []
    let last = performance.now()
    const clock = setInterval(() => {
      delays.push(performance.now() - last - 5)
      last = performance.now()
    }, 5)
    const began = performance.now()
    await net.run({ x })
    clearInterval(clock)
    expect(performance.now() - began).toBeGreaterThan(500)
    // a machine with other work to do may hold a timer up now and then; a blocked loop has no timers at all
    delays.sort((a, b) => a - b)
    expect(delays[Math.floor(delays.length * 0.9)]).toBeLessThan(50)
    expect(delays.length).toBeGreaterThan(20)
    await engine.close()
  })

  test("killed in mid-run, fails the call and hangs nobody", async () => {
    const engine = spawnEngine(built)
    const net = await compile(engine, heavy(40), weights(), device)
    const run = net.run({ x })
    run.catch(() => {})
    await new Promise((go) => setTimeout(go, 200))
    process.kill(engine.pid!, "SIGKILL")
    await expect(run).rejects.toMatchObject({ code: "ENGINE_GONE", exitCode: 1 })
    await expect(net.run({ x })).rejects.toMatchObject({ code: "ENGINE_GONE" })
    await engine.close()
  })

  test.runIf(process.platform === "linux")(
    "gives a network's memory back",
    { timeout: 120_000 },
    async () => {
      const engine = spawnEngine(built)
      // each weight another, because onnxruntime packs equal ones once: 256 MB
      const count = 16
      const location = join(scratch, "weights.bin")
      const length = side * side * 4
      for (let k = 0; k < count; k++)
        appendFileSync(location, new Uint8Array(new Float32Array(side * side).fill(k / side).buffer))
      const big = new Map(
        Array.from({ length: count }, (_, k) => [
          `w${k}`,
          { dtype: "f32" as const, shape: [side, side], bytes: { location, offset: k * length, length } },
        ]),
      )
      let y = input("x", [1, side])
      for (const name of big.keys()) y = y.matmul(parameter(name, [side, side]))
      const used: number[] = []
      for (let i = 0; i < 3; i++) {
        const net = await compile(engine, { outputs: { y } }, big, device)
        await net.run({ x: f32(ones(side), [1, side]) })
        const full = resident(engine.pid!)
        await net.release()
        used.push(resident(engine.pid!))
        expect(full - used.at(-1)!).toBeGreaterThan(200e6)
      }
      expect(used[2]! - used[0]!).toBeLessThan(60e6)
      await engine.close()
    },
  )

  test("draws from files behind symbolic links, as hub caches keep them", async () => {
    const blobs = join(scratch, "models--a--b/blobs")
    const snapshot = join(scratch, "models--a--b/snapshots/0123")
    cpSync(join(golden, "sd1-odd"), snapshot, { recursive: true })
    mkdirSync(blobs, { recursive: true })
    for (const part of ["unet", "vae", "text_encoder"]) {
      const file = part === "text_encoder" ? "model.safetensors" : "diffusion_pytorch_model.safetensors"
      renameSync(join(snapshot, part, file), join(blobs, part))
      symlinkSync(join("../../../blobs", part), join(snapshot, part, file))
    }
    const engine = spawnEngine(built)
    const draw = async (path: string) => {
      const sd = await StableDiffusion.load(path, { engine, cache: null })
      const { images } = await sd.generate({ prompt: "a lake", steps: 2, seed: 1, width: 64, height: 64 })
      await sd.release()
      return images[0]!.picture.data
    }
    expect(await draw(snapshot)).toEqual(await draw(join(golden, "sd1-odd")))
    await engine.close()
  })

  test("stops between two steps when told to", async () => {
    const engine = spawnEngine(built)
    const sd = await StableDiffusion.load(join(golden, "sd1-odd"), { engine, cache: null })
    const cancel = new AbortController()
    const steps: number[] = []
    const ask = { prompt: "a lake", steps: 20, seed: 1, width: 64, height: 64 }
    await expect(async () => {
      for await (const step of sd.generate(ask, { signal: cancel.signal })) {
        steps.push(step.step)
        if (step.step === 2) cancel.abort()
      }
    }).rejects.toMatchObject({ name: "AbortError" })
    expect(Math.max(...steps)).toBe(2)
    const { images } = await sd.generate({ ...ask, steps: 2 })
    expect(images.length).toBe(1)
    await engine.close()
  })

  test("a device that is not here is told in a line", async () => {
    const engine = spawnEngine(built)
    const name = process.platform === "darwin" ? "dml" : "coreml"
    const load = StableDiffusion.load(join(golden, "sd1-odd"), { engine, cache: null, device: name })
    await expect(load).rejects.toMatchObject({
      code: "DEVICE_UNAVAILABLE",
      exitCode: 1,
      message: `${name} does not work here: not in this build of onnxruntime on ${process.platform}`,
    })
    await expect(
      StableDiffusion.load(join(golden, "sd1-odd"), { cache: null, device: "quantum" as "cpu" }),
    ).rejects.toMatchObject({ code: "DEVICE", exitCode: 2 })
    await engine.close()
  })
})

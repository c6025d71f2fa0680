// Training speed of the embedded model's networks beside PyTorch on the same ones, in turns on one machine.
//   npm run build && node bench/train.mjs [--rounds 3] [--steps 4]
// PyTorch runs where `python3 -c "import torch, diffusers"` works; its times are left out otherwise.
import { spawn, spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { input } from "../dist/graph/index.js"
import { AutoencoderKL, UNet, unetConfig, vaeConfig } from "../dist/models/index.js"
import { bind, expected, parameters } from "../dist/nn/index.js"
import { nodeEngine } from "../dist/runtime/node.js"
import { threadEngine } from "../dist/runtime/thread.js"
import { Crew } from "../dist/train/crew.js"
import { freshWeights } from "../dist/train/init.js"
import { blockSize, Machine } from "../dist/train/machine.js"
import { adamw } from "../dist/train/optimizer.js"
import { stepGraphs } from "../dist/train/step.js"

const option = (name, value) => Number(process.argv[process.argv.indexOf(`--${name}`) + 1] || value)
const rounds = process.argv.includes("--rounds") ? option("rounds") : 3
const steps = process.argv.includes("--steps") ? option("steps") : 4
const at = (path) => fileURLToPath(new URL(path, import.meta.url))
const settings = (stage) => JSON.parse(readFileSync(at(`../assets/training/${stage}.json`), "utf8")).model
const noise = (shape) => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => Math.random() * 2 - 1),
})

/** Each case: network, what it is fed, and its result of a part of the rows; the loss is the mean square against noise. */
const cases = {
  "U-Net, 64 latents of 16 x 16": () => {
    const net = bind(new UNet(unetConfig(settings("unet-128"))))
    const [b, n, replicas] = [64, 16, 2]
    const feeds = {
      x: noise([b, 4, n, n]),
      t: noise([b]),
      context: noise([b, 40, 128]),
      target: noise([b, 4, n, n]),
    }
    const rows = (key) => input(key, [b / replicas, ...feeds[key].shape.slice(1)])
    const [x, t, context] = ["x", "t", "context"].map(rows)
    return { net, feeds, batch: b, replicas, made: net.forward(x, t, context) }
  },
  "VAE, 8 pictures of 128 x 128": () => {
    const net = bind(new AutoencoderKL(vaeConfig(settings("vae"))))
    const [b, n] = [8, 128]
    const feeds = { x: noise([b, 3, n, n]), target: noise([b, 3, n, n]) }
    return {
      net,
      feeds,
      batch: b,
      replicas: 1,
      made: net.decode(net.encode(input("x", feeds.x.shape)).slice(1, 0, 4)),
    }
  },
}

async function ours(engine, { net, feeds, made, batch, replicas }) {
  const target = input("target", [batch / replicas, ...feeds.target.shape.slice(1)])
  const loss = made.sub(target).square().mean([0, 1, 2, 3])
  const learned = new Map([...parameters(net)].map(([name, p]) => [name, p.tensor]))
  const optimizer = adamw({ beta2: 0.99 })
  const graphs = stepGraphs(
    { parameters: learned, loss },
    { optimizer, clip: 1, averages: 1, replicas, block: await blockSize(engine) },
  )
  const first = freshWeights(expected(net), 1)
  const helpers = replicas > 1 ? Array.from({ length: replicas }, () => threadEngine()) : []
  const machine =
    replicas > 1
      ? await Crew.start(helpers, graphs, optimizer, first)
      : await Machine.start(engine, graphs, optimizer, first, { threads: 2 })
  let step = 0
  return {
    step: () => machine.step(feeds, ++step, 1e-3, [0.01]),
    close: async () => {
      await machine.close()
      for (const helper of helpers) await helper.close()
    },
  }
}

/** PyTorch in a process of its own that makes a step for every line it is sent and answers with seconds and CPU seconds. */
function torch(name) {
  if (spawnSync("python3", ["-c", "import torch, diffusers"]).status !== 0) return null
  const stage = name.startsWith("VAE") ? "vae" : "unet"
  const child = spawn(
    "python3",
    [at("train_torch.py"), stage, JSON.stringify(settings(stage === "vae" ? "vae" : "unet-128"))],
    { stdio: ["pipe", "pipe", "ignore"] },
  )
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    step: async () => {
      child.stdin.write("step\n")
      return JSON.parse((await lines.next()).value)
    },
    close: () => child.stdin.end(),
  }
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1]

for (const [name, make] of Object.entries(cases)) {
  const engine = nodeEngine()
  const one = make()
  const [us, them] = [await ours(engine, one), torch(name)]
  const times = { us: [], usCpu: [], them: [], themCpu: [] }
  await us.step()
  await them?.step()
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < steps; i++) {
      const [began, cpu] = [performance.now(), process.cpuUsage()]
      await us.step()
      const used = process.cpuUsage(cpu)
      times.us.push((performance.now() - began) / 1000)
      times.usCpu.push((used.user + used.system) / 1e6)
    }
    for (let i = 0; i < steps && them; i++) {
      const { seconds, cpu } = await them.step()
      times.them.push(seconds)
      times.themCpu.push(cpu)
    }
  }
  const memory = Math.round(process.resourceUsage().maxRSS / 1024)
  const speed = (list) => (one.batch / median(list)).toFixed(1)
  const cpu = (list) => median(list).toFixed(2)
  console.log(name)
  console.log(
    `  aquatint ${speed(times.us)} samples/s, ${cpu(times.usCpu)} CPU s a step, at most ${memory} MB`,
  )
  if (them) {
    const ratio = (a, b) => (median(b) / median(a)).toFixed(2)
    console.log(`  PyTorch  ${speed(times.them)} samples/s, ${cpu(times.themCpu)} CPU s a step`)
    console.log(
      `  aquatint / PyTorch ${ratio(times.us, times.them)} by the clock, ${ratio(times.usCpu, times.themCpu)} by CPU time`,
    )
  }
  them?.close()
  await us.close()
  await engine.close()
}

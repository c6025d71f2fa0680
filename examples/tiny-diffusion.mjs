// The smallest training: a network of five layers learns to paint a dot on the side it is told, from noise alone, and
// the program checks that it does. About ten seconds on two cores.   npm run build && node examples/tiny-diffusion.mjs
import { concat, constant, input } from "../dist/graph/index.js"
import { bind, Conv2d, Embedding, expected, Linear, Module, parameters } from "../dist/nn/index.js"
import { nodeEngine } from "../dist/runtime/node.js"
import { freshWeights, streamOf } from "../dist/train/init.js"
import { blockSize, Machine } from "../dist/train/machine.js"
import { adamw } from "../dist/train/optimizer.js"
import { stepGraphs } from "../dist/train/step.js"

const [batch, size, channels, steps] = [64, 8, 16, 400]
const area = size * size
const shape = [batch, 1, size, size]

/** Where each pixel is, in -1..1: what a network of small filters cannot know. */
const coordinate = (i) => ((Math.floor(i / area) % 2 ? Math.floor(i / size) : i) % size) / 3.5 - 1
const places = Float32Array.from({ length: batch * 2 * area }, (_, i) => coordinate(i))

/** Says which way to go from a noisy picture x at time t to a clean one, given a side (Lipman et al. 2023). */
class Painter extends Module {
  label = new Embedding({ count: 2, size: channels })
  time = new Linear({ in: 1, out: channels })
  first = new Conv2d({ in: 3, out: channels, k: 3 })
  middle = [0, 1, 2].map(() => new Conv2d({ in: channels, out: channels, k: 3 }))
  last = new Conv2d({ in: channels, out: 1, k: 3 })

  forward(x, t, side) {
    // x: b 1 h w   t: b 1   side: b
    const hint = this.label.forward(side).add(this.time.forward(t)).rearrange("b c -> b c 1 1")
    const seen = concat([x, constant(places, [batch, 2, size, size], "f32")], 1)
    let h = this.first.forward(seen).add(hint).silu()
    for (const conv of this.middle) h = h.add(conv.forward(h).add(hint).silu())
    return this.last.forward(h)
  }
}

const array = (data, ...shape) => ({ data, shape })
const sides = (list) => array(BigInt64Array.from(list, BigInt), batch)

/** Pictures of a soft dot, left (0) or right (1), mixed with noise by a random share t; the way from noise to dot. */
function lesson(step) {
  const stream = streamOf(1, `lesson ${step}`)
  const noise = stream.normal(batch * area)
  const [chosen, times, heights] = [0, 1, 2].map(() => stream.uniform(batch))
  const [x, way] = [new Float32Array(noise.length), new Float32Array(noise.length)]
  for (let i = 0; i < noise.length; i++) {
    const row = Math.floor(i / area)
    const across = (i % size) - (chosen[row] < 0.5 ? 1.75 : 5.25)
    const down = Math.floor((i % area) / size) - 1.5 - 4 * heights[row]
    const clean = 2 * Math.exp(-(across ** 2 + down ** 2) / 2) - 1
    x[i] = (1 - times[row]) * noise[i] + times[row] * clean
    way[i] = clean - noise[i]
  }
  const side = sides(Array.from(chosen, (c) => Number(c >= 0.5)))
  return { x: array(x, ...shape), way: array(way, ...shape), t: array(times, batch, 1), side }
}

const net = bind(new Painter())
const flow = net.forward(input("x", shape), input("t", [batch, 1]), input("side", [batch], "i64"))
const loss = flow.sub(input("way", shape)).square().mean([0, 1, 2, 3])
const learned = new Map([...parameters(net)].map(([name, p]) => [name, p.tensor]))

const engine = nodeEngine()
const optimizer = adamw({ decay: 0 })
const block = await blockSize(engine)
const graphs = stepGraphs(
  { parameters: learned, loss },
  { optimizer, clip: 1, averages: 1, block, probes: { paint: { flow } } },
)
const machine = await Machine.start(engine, graphs, optimizer, freshWeights(expected(net), 1))
for (let step = 1; step <= steps; step++) {
  const numbers = await machine.step(lesson(step), step, 4e-3 * (1 - step / (steps + 1)), [0.05])
  if (step % 50 === 0) console.log(`step ${step}  loss ${numbers.loss.toFixed(3)}`)
}

// paint: follow the flow from noise in twenty Euler steps, by the moving average of the weights
const asked = Array.from({ length: batch }, (_, i) => i % 2)
const canvas = streamOf(2, "canvas").normal(batch * area)
for (let i = 0; i < 20; i++) {
  const t = array(new Float32Array(batch).fill(i / 20), batch, 1)
  const made = await machine.probe("paint", { x: array(canvas.slice(), ...shape), t, side: sides(asked) }, 0)
  for (let k = 0; k < canvas.length; k++) canvas[k] += made.flow.data[k] / 20
}
await engine.close()

const row = (n, y) => Array.from(canvas.slice(n * area + y * size, n * area + (y + 1) * size))
const shade = (v) => " .:+#@"[Math.max(0, Math.min(5, Math.round((v + 1) * 2.5)))]
for (let y = 0; y < size; y++) console.log([0, 1, 2, 3].map((n) => row(n, y).map(shade).join("")).join("   "))
const light = (n, side) =>
  Array.from({ length: area }, (_, i) => (Math.floor((i % size) / 4) === side ? canvas[n * area + i] + 1 : 0))
const sum = (list) => list.reduce((a, b) => a + b)
const right = asked.filter((s, n) => sum(light(n, s)) > Math.max(4, 3 * sum(light(n, 1 - s)))).length
console.log(`${right} of ${batch} pictures have their dot on the side that was asked for`)
if (right < 0.9 * batch) process.exit(1)

import { input, type StoredTensor } from "../../graph/index.ts"
import { AutoencoderKL, vaeConfig } from "../../models/index.ts"
import { bind, expected, parameters } from "../../nn/index.ts"
import { f32, type Value } from "../../runtime/engine.ts"
import { corpus, Random, STYLES } from "../corpus/index.ts"
import { mixBits } from "../corpus/random.ts"
import { freshWeights, passThrough, streamOf } from "../init.ts"
import { posterior, type VaeLoss, vaeLoss } from "../losses.ts"
import { adamw } from "../optimizer.ts"
import { contactSheet, cropInto, psnr } from "../pictures.ts"
import { determining, learningRate, type RateConfig } from "../schedule.ts"
import type { Inputs, Probe, Task } from "../task.ts"

export interface VaeStage {
  /** AutoencoderKL's config.json. */
  readonly model: Readonly<Record<string, unknown>>
  readonly seed: number
  readonly steps: number
  readonly batch: number
  /** Side of a crop. */
  readonly crop: number
  /** Share of whole scenes drawn at the crop's size, so that small pictures are seen whole. */
  readonly whole: number
  readonly loss: VaeLoss
  readonly rate: RateConfig
  readonly beta2: number
  readonly decay: number
  readonly clip: number
  readonly average: number
  /** The encoder stays as it is, so that latents keep their meaning. */
  readonly decoderOnly?: boolean
}

const validationRows = 8
const validationBatches = 6

/** Trains the autoencoder on crops of the corpus, from the pass-through start or from weights of an earlier run. */
export function vaeTask(c: VaeStage, name: string, from?: ReadonlyMap<string, Float32Array>): Task {
  const config = vaeConfig(c.model)
  const net = bind(new AutoencoderKL(config))
  const z = config.latent_channels
  const factor = 2 ** (config.block_out_channels.length - 1)
  const picture = input("picture", [c.batch, 3, c.crop, c.crop])
  const { mean, logvar } = posterior(net.encode(picture))
  const noise = input("noise", [c.batch, z, c.crop / factor, c.crop / factor])
  const made = net.decode(mean.add(logvar.mul(0.5).exp().mul(noise)))
  const { loss, metrics } = vaeLoss(picture, made, mean, logvar, c.loss)
  const whole = input("picture", [validationRows, 3, 256, 256])
  const shapes = expected(net)
  const all = [...parameters(net)].map(([key, p]) => [key, p.tensor] as const)
  const learned = new Map(all.filter(([key]) => !c.decoderOnly || /^(decoder|post_quant_conv)\./.test(key)))
  return {
    name,
    settings: determining(c),
    objective: { parameters: learned, loss, metrics },
    held: new Map(
      [...(from ?? [])].flatMap(([key, d]) =>
        learned.has(key) ? [] : [[key, storedValue(d, shapes.get(key)!)]],
      ),
    ),
    optimizer: adamw({ beta2: c.beta2, decay: c.decay }),
    steps: c.steps,
    samplesPerStep: c.batch,
    clip: c.clip,
    rate: (step) => learningRate(c.rate, step, c.steps),
    averages: [c.average],
    first: () =>
      from
        ? new Map([...from].filter(([key]) => learned.has(key)))
        : passThrough(freshWeights(shapes, c.seed), shapes, config.norm_num_groups),
    batch: cropBatches(c, [c.batch, z, c.crop / factor, c.crop / factor]),
    probes: { reconstruct: { made: net.decode(posterior(net.encode(whole)).mean) } },
    validate: reconstruction,
    sample: async (probe) => {
      const wanted = heldOut(0)
      const { made: got } = await probe("reconstruct", { picture: wanted }, 0)
      return contactSheet([wanted, got!], validationRows)
    },
  }
}

const storedValue = (d: Float32Array, shape: readonly number[]): StoredTensor => ({
  dtype: "f32",
  shape,
  bytes: new Uint8Array(d.buffer, d.byteOffset, d.byteLength),
})

/** Crops of scenes that no two batches share, mirrored half of the time, and noise for the latents. */
function cropBatches(c: VaeStage, latents: readonly number[]): (index: number) => Inputs {
  const large = corpus({ seed: c.seed, size: 256, split: "train" })
  const small = corpus({ seed: c.seed, size: c.crop, split: "train" })
  return (index) => {
    const data = new Float32Array(c.batch * 3 * c.crop * c.crop)
    for (let row = 0; row < c.batch; row++) {
      const n = index * c.batch + row
      const random = new Random(mixBits(mixBits(c.seed) + n))
      const scene = random.chance(c.whole) ? small.item(n) : large.item(n)
      const room = scene.width - c.crop + 1
      const crop = {
        x: random.integer(room),
        y: random.integer(room),
        size: c.crop,
        mirror: random.chance(0.5),
      }
      cropInto(data, row * 3 * c.crop * c.crop, scene, crop)
    }
    const noise = streamOf(c.seed, `noise ${index}`).normal(latents.reduce((a, b) => a * b, 1))
    return { picture: f32(data, [c.batch, 3, c.crop, c.crop]), noise: f32(noise, latents) }
  }
}

const heldOutScenes = corpus({ seed: 99, size: 256, split: "evaluation" })

function heldOut(batch: number): Value {
  const data = new Float32Array(validationRows * 3 * 256 * 256)
  for (let row = 0; row < validationRows; row++) {
    const scene = heldOutScenes.item(batch * validationRows + row)
    cropInto(data, row * 3 * 256 * 256, scene, { x: 0, y: 0, size: 256, mirror: false })
  }
  return f32(data, [validationRows, 3, 256, 256])
}

/** PSNR of whole held-out scenes: their mean, the worst, and the mean of each style. */
async function reconstruction(probe: Probe): Promise<Record<string, number>> {
  const byStyle = new Map<string, number[]>(STYLES.map((s) => [s, []]))
  for (let n = 0; n < validationBatches; n++) {
    const picture = heldOut(n)
    const { made } = await probe("reconstruct", { picture }, 0)
    psnr(made!, picture).forEach((db, row) => {
      byStyle.get(heldOutScenes.entry(n * validationRows + row).spec.style)!.push(db)
    })
  }
  const all = [...byStyle.values()].flat()
  const mean = (list: number[]) => Number((list.reduce((a, b) => a + b, 0) / list.length).toFixed(3))
  const styles = [...byStyle]
    .filter(([, list]) => list.length > 0)
    .map(([style, list]) => [style, mean(list)])
  return { psnr: mean(all), worst: Number(Math.min(...all).toFixed(3)), ...Object.fromEntries(styles) }
}

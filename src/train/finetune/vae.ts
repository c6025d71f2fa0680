import { input, type StoredTensor, type Tensor } from "../../graph/index.ts"
import { planesFromPicture } from "../../image/pixels.ts"
import { AutoencoderKL } from "../../models/index.ts"
import { bind, parameters } from "../../nn/index.ts"
import { f32, type Value } from "../../runtime/engine.ts"
import { mixBits, Random } from "../corpus/random.ts"
import { freshWeights, passThrough, streamOf } from "../init.ts"
import { posterior, vaeLoss } from "../losses.ts"
import { contactSheet, cropInto, psnr } from "../pictures.ts"
import { itemOfDraw } from "../shuffle.ts"
import type { Inputs, Probe, Task } from "../task.ts"
import { schedulingOf, settingsOf, squareOf } from "./diffusion.ts"
import { readWeights, storedWeights, type TrainModel } from "./model.ts"
import type { TrainSettings } from "./options.ts"
import { pictureAt } from "./pictures.ts"
import type { Placed, Prepared } from "./prepare.ts"

const validationRows = 4

/** Trains the autoencoder on square pieces of pictures; with `decoderOnly` latents keep their meaning. */
export async function vaeTask(model: TrainModel, s: TrainSettings, data: Prepared): Promise<Task> {
  const net = bind(new AutoencoderKL(model.vae), "vae")
  const crop = Math.floor(s.crop / model.factor) * model.factor
  const side = crop / model.factor
  const latents = [s.batch, model.vae.latent_channels, side, side]
  const all = new Map([...parameters(net, "vae")].map(([name, p]) => [name, p.tensor]))
  const learned = new Map(
    [...all].filter(([name]) => !s.decoderOnly || /^vae\.(decoder|post_quant_conv)\./.test(name)),
  )
  const picture = input("picture", [s.batch, 3, crop, crop])
  const { mean, logvar } = posterior(net.encode(picture))
  const made = net.decode(mean.add(logvar.mul(0.5).exp().mul(input("noise", latents))))
  const { loss, metrics } = vaeLoss(picture, made, mean, logvar, s)
  const average = s.ema.length > 0 ? 0 : null
  const square = squareOf(model, s)
  const rows = Math.min(validationRows, Math.max(data.validation.length, 1))
  const whole = input("picture", [rows, 3, square.height, square.width])
  const shown = data.validation.length > 0 ? data.validation : data.train
  return {
    name: "vae",
    settings: await settingsOf(s, model, data),
    objective: { parameters: learned, loss, metrics },
    ...schedulingOf(s),
    held: heldOf(model, learned),
    first: () => firstWeights(model, s, learned),
    batch: (index) => crops(s, data.train, index, crop, latents),
    probes: { reconstruct: () => ({ made: net.decode(posterior(net.encode(whole)).mean) }) },
    ...(data.validation.length > 0
      ? {
          validate: async (probe: Probe) => ({
            psnr: await quality(probe, data.validation, square, rows, average),
          }),
        }
      : {}),
    sample: async (probe) => {
      const wanted = await wholeRows(shown, 0, rows, square)
      const { made: got } = await probe("reconstruct", { picture: wanted }, average)
      return contactSheet([wanted, got!], rows)
    },
  }
}

const heldOf = (model: TrainModel, learned: ReadonlyMap<string, Tensor>): Map<string, StoredTensor> =>
  storedWeights(model, (name) => name.startsWith("vae.") && !learned.has(name))

async function firstWeights(
  model: TrainModel,
  s: TrainSettings,
  learned: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Float32Array>> {
  if (!s.fresh) return readWeights(model, learned.keys())
  const shapes = new Map([...learned].map(([name, t]) => [name.slice("vae.".length), t.shape as number[]]))
  const fresh = freshWeights(shapes, s.seed)
  const wide = model.vae.block_out_channels.every((c) => c >= 8) && !model.vae.mid_block_add_attention
  const made = wide && !s.decoderOnly ? passThrough(fresh, shapes, model.vae.norm_num_groups) : fresh
  return new Map([...made].map(([name, values]) => [`vae.${name}`, values]))
}

/** Pieces of pictures by the batch's number, mirrored half of the time where asked, and noise for the latents. */
async function crops(
  s: TrainSettings,
  items: readonly Placed[],
  index: number,
  crop: number,
  latents: readonly number[],
): Promise<Inputs> {
  const data = new Float32Array(s.batch * 3 * crop * crop)
  for (let row = 0; row < s.batch; row++) {
    const n = index * s.batch + row
    const random = new Random(mixBits(mixBits(s.seed) + n))
    const item = items[itemOfDraw(n, items.length, s.seed)]!
    const { width, height } = item.size
    // a bucket with a side below the piece's is enlarged to hold one
    const scale = Math.max(1, crop / Math.min(width, height))
    const picture = await pictureAt(item, {
      width: Math.ceil(width * scale),
      height: Math.ceil(height * scale),
    })
    const place = {
      x: random.integer(picture.width - crop + 1),
      y: random.integer(picture.height - crop + 1),
      size: crop,
      mirror: s.flip && random.chance(0.5),
    }
    cropInto(data, row * 3 * crop * crop, picture, place)
  }
  const noise = streamOf(s.seed, `noise ${index}`).normal(latents.reduce((a, b) => a * b, 1))
  return { picture: f32(data, [s.batch, 3, crop, crop]), noise: f32(noise, latents) }
}

async function wholeRows(
  items: readonly Placed[],
  from: number,
  rows: number,
  size: { width: number; height: number },
): Promise<Value> {
  const own = 3 * size.width * size.height
  const data = new Float32Array(rows * own)
  for (let row = 0; row < rows; row++)
    data.set(planesFromPicture(await pictureAt(items[(from + row) % items.length]!, size)), row * own)
  return f32(data, [rows, 3, size.height, size.width])
}

const mostPictures = 16

/** Mean peak signal-to-noise ratio of held-out pictures in dB. */
async function quality(
  probe: Probe,
  items: readonly Placed[],
  size: { width: number; height: number },
  rows: number,
  average: number | null,
): Promise<number> {
  const found: number[] = []
  for (let from = 0; from < Math.min(items.length, mostPictures); from += rows) {
    const picture = await wholeRows(items, from, rows, size)
    const { made } = await probe("reconstruct", { picture }, average)
    found.push(...psnr(made!, picture).slice(0, items.length - from))
  }
  return Number((found.reduce((a, b) => a + b, 0) / found.length).toFixed(3))
}

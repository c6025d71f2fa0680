import { fail } from "../errors.ts"
import { type Picture, toRgb } from "../image/pixels.ts"
import { resize } from "../image/resize.ts"
import {
  ClipVision,
  type ClipVisionConfig,
  clipVisionConfig,
  clipVisionGraph,
  IpImageProjection,
  type IpProjection,
  ipProjection,
  ipProjectionGraph,
  UNet,
  type UNetParts,
  visionTokens,
} from "../models/index.ts"
import { expected, imageKey } from "../nn/index.ts"
import { f32, type Value } from "../runtime/engine.ts"
import type { Component } from "../weights/model-files.ts"
import { showShape, type TensorView, Weights } from "../weights/view.ts"
import { type ControlCall, type ControlPart, type ControlRequest, inForce } from "./control.ts"
import type { Networks } from "./networks.ts"

/** One picture's tokens, for rows that hear it and for rows that hear none. */
interface Spoken {
  readonly id: string
  readonly heard: Value
  readonly silent: Value
  readonly request: ControlRequest
}

const shapesOf = ({ weights }: Component) =>
  new Map([...weights].map(([key, { shape }]) => [key, shape as readonly number[]]))

/** Whether an encoder's output is what an IP-Adapter reads. */
export function seesWith(adapter: Component, encoder: Component): boolean {
  const { kind, from } = ipProjection(shapesOf(adapter))
  const { projection_dim: embeds, hidden_size: hidden } = clipVisionConfig(encoder.config)
  return from === (kind === "linear" ? embeds : hidden)
}

/** The IP-Adapters of one generation: pictures that speak beside the prompt (Ye et al. 2023). */
export class ImagePrompts {
  private readonly spoken: readonly Spoken[]
  private readonly calls: number
  private readonly made = new Map<string, Value>()

  private constructor(spoken: readonly Spoken[], calls: number) {
    this.spoken = spoken
    this.calls = calls
  }

  /** @throws IP_ADAPTER_* when one was made for another family or another encoder */
  static async prepare(
    networks: Networks,
    parts: readonly ControlPart[],
    calls: number,
  ): Promise<ImagePrompts | null> {
    if (parts.length === 0) return null
    const spoken: Spoken[] = []
    for (const part of parts) spoken.push(await speak(networks, part))
    await networks.release("image")
    return new ImagePrompts(spoken, calls)
  }

  get parts(): NonNullable<UNetParts["images"]> {
    return this.spoken.map(({ id, heard }) => ({ id, tokens: heard.shape[1]! }))
  }

  /** The U-Net's inputs at a call; the same objects while nothing changes, so that keys and values are made once. */
  at({ index, rows, guided, instruct }: ControlCall): Record<string, Value> {
    const out: Record<string, Value> = {}
    this.spoken.forEach(({ heard, silent, request }, i) => {
      const scale = inForce(request, index, this.calls) ? (request.weight ?? 1) : 0
      const hears = (row: number) => (instruct ? row === 0 : !guided || row > 0)
      out[`image${i}`] = this.once(`${i} ${rows} ${guided} ${instruct}`, () =>
        stack(Array.from({ length: rows }, (_, row) => (hears(row) ? heard : silent))),
      )
      out[`image${i}.scale`] = this.once(`scale ${scale}`, () => f32(Float32Array.of(scale), [1, 1, 1]))
    })
    return out
  }

  private once(key: string, make: () => Value): Value {
    const known = this.made.get(key) ?? make()
    this.made.set(key, known)
    return known
  }
}

function stack(rows: readonly Value[]): Value {
  const size = rows[0]!.data.length
  const data = new Float32Array(size * rows.length)
  rows.forEach((row, i) => {
    data.set(row.data as Float32Array, i * size)
  })
  return f32(data, [rows.length, ...rows[0]!.shape.slice(1)])
}

async function speak(
  networks: Networks,
  { id: file, component, encoder, request }: ControlPart,
): Promise<Spoken> {
  const projection = ipProjection(shapesOf(component))
  const vision = clipVisionConfig(encoder!.component.config)
  if (!seesWith(component, encoder!.component))
    fail(
      "IP_ADAPTER_ENCODER",
      `the IP-Adapter reads ${projection.from} numbers of a picture, the encoder gives others`,
      {
        file: encoder!.component.files[0],
        hint: "adapters for SD 1.5, and those with vit-h in their name, read OpenCLIP's ViT-H; the others ViT-bigG",
      },
    )
  const id = `image-prompt ${file}`
  layKeys(networks, id, component)
  const see = await seer(networks, file, { component, encoder: encoder!, projection, vision })
  const pixels = pixelsOf(request.image, vision)
  const nothing = f32(new Float32Array(pixels.data.length), pixels.shape)
  return { id, heard: await see(pixels, 1), silent: await see(nothing, 0), request }
}

/** Brings a picture to an adapter's tokens; `share` 0 asks for those of no picture, as diffusers makes them. */
async function seer(
  networks: Networks,
  file: string,
  {
    component,
    encoder,
    projection,
    vision,
  }: {
    component: Component
    encoder: ControlPart["encoder"] & {}
    projection: IpProjection
    vision: ClipVisionConfig
  },
): Promise<(pixels: Value, share: 0 | 1) => Promise<Value>> {
  const [eye, key] = [`image-encoder ${encoder.id}`, `image-projection ${file}`]
  networks.take(eye, new ClipVision(vision), encoder.component)
  const own = new Weights([...component.weights].filter(([name]) => name.startsWith("image_proj.")))
  networks.take(key, new IpImageProjection(projection), { ...component, weights: own })
  const see = await networks.taken(eye, eye, () => clipVisionGraph(vision).graph)
  const say = await networks.taken(key, key, () => ipProjectionGraph(projection, visionTokens(vision)).graph)
  return async (pixels, share) => {
    const { embeds, hidden } = await see.run({ pixels })
    const linear = projection.kind === "linear"
    const seen =
      linear && share === 0 ? f32(new Float32Array(projection.from), [1, projection.from]) : embeds!
    return (await say.run({ seen: linear ? seen : hidden! })).tokens!
  }
}

/** Order in which diffusers (and so the files) number the U-Net's attentions. */
const ORDER = ["down_blocks", "up_blocks", "mid_block"]

/** The adapter's keys and values for each attention to the prompt, numbered 1, 3, 5 ... in its file. @throws IP_ADAPTER_FAMILY */
function layKeys(networks: Networks, id: string, { weights, files }: Component): void {
  const rank = (name: string) => ORDER.findIndex((part) => name.startsWith(part))
  const wanted = [...expected(new UNet(networks.unet))]
    .filter(([name]) => name.endsWith("attn2.to_k.weight"))
    .sort(([a], [b]) => rank(a) - rank(b))
  const laid = new Map<string, TensorView>()
  wanted.forEach(([name, shape], i) => {
    for (const part of ["k", "v"] as const) {
      const view = weights.get(`ip_adapter.${2 * i + 1}.to_${part}_ip.weight`)
      if (view?.shape.join() !== shape.join())
        fail(
          "IP_ADAPTER_FAMILY",
          `the IP-Adapter has ${view ? showShape(view.shape) : "nothing"} for ${name}, which is ${showShape(shape)}`,
          { file: files[0], hint: "it was made for another family of models" },
        )
      laid.set(imageKey(id, name, part), view)
    }
  })
  networks.lay(id, laid)
}

const MEAN = [0.48145466, 0.4578275, 0.40821073]
const DEVIATION = [0.26862954, 0.26130258, 0.27577711]

/** CLIP's picture: the shorter side to the encoder's size, the middle of it, normalised; 1 3 s s. */
function pixelsOf(image: Picture, { image_size: side }: ClipVisionConfig): Value {
  const picture = toRgb(image)
  const { width, height } = picture
  const short = Math.min(width, height)
  const long = (n: number) => (n === short ? side : Math.trunc((side * n) / short))
  const [w, h] = [long(width), long(height)]
  const small = resize(picture, w, h, "bicubic")
  const [left, top] = [Math.floor((w - side) / 2), Math.floor((h - side) / 2)]
  const data = new Float32Array(3 * side * side)
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      for (let c = 0; c < 3; c++) {
        const value = small.data[3 * ((y + top) * w + x + left) + c]! / 255
        data[(c * side + y) * side + x] = (value - MEAN[c]!) / DEVIATION[c]!
      }
  return f32(data, [1, 3, side, side])
}

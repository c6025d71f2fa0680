import { fail } from "../errors.ts"
import { type Picture, toGrey, toRgb } from "../image/pixels.ts"
import { preprocess } from "../image/preprocess.ts"
import { resize } from "../image/resize.ts"
import {
  featureChannels,
  T2iAdapter,
  type T2iAdapterConfig,
  t2iAdapterConfig,
  t2iAdapterGraph,
  type UNetConfig,
} from "../models/index.ts"
import { f32, type Value } from "../runtime/engine.ts"
import { type ControlPart, type ControlRequest, inForce } from "./control.ts"
import type { Networks } from "./networks.ts"

/** What one T2I-Adapter says of its picture: the same at every step. */
interface Spoken {
  readonly maps: readonly Value[]
  readonly request: ControlRequest
}

/** The T2I-Adapters of one generation: feature maps that are added to the U-Net's levels, weighted and summed. */
export class Features {
  readonly channels: readonly number[]
  private readonly spoken: readonly Spoken[]
  private readonly calls: number
  private readonly sums = new Map<string, Record<string, Value>>()

  private constructor(channels: readonly number[], spoken: readonly Spoken[], calls: number) {
    this.channels = channels
    this.spoken = spoken
    this.calls = calls
  }

  /** @throws T2I_ADAPTER_FAMILY when one was made for another family */
  static async prepare(
    networks: Networks,
    parts: readonly ControlPart[],
    run: { width: number; height: number; size: readonly [number, number]; calls: number },
  ): Promise<Features | null> {
    if (parts.length === 0) return null
    const spoken: Spoken[] = []
    let channels: number[] = []
    for (const { id, component, request } of parts) {
      const config = t2iAdapterConfig(component.config)
      const { width, height } = run
      checkSides(config, width, height)
      channels = featureChannels(config)
      const key = `t2i ${id}`
      networks.take(key, new T2iAdapter(config), component)
      const net = await networks.taken(
        `t2i ${height}x${width} ${id}`,
        key,
        () => t2iAdapterGraph(config, { height, width }).graph,
      )
      const out = await net.run({ pixels: pixelsOf(request, config, width, height) })
      const maps = channels.map((_, i) => out[`features${i}`]!)
      fitsUnet(maps, networks.unet, run.size, component.files[0])
      spoken.push({ maps, request })
    }
    await networks.release("t2i")
    return new Features(channels, spoken, run.calls)
  }

  /** The U-Net's inputs at a call; the same objects while nothing changes. */
  at(index: number): Record<string, Value> {
    const weights = this.spoken.map(({ request }) =>
      inForce(request, index, this.calls) ? (request.weight ?? 1) : 0,
    )
    const known = this.sums.get(weights.join())
    if (known) return known
    const made = Object.fromEntries(
      this.channels.map((_, i) => [`features${i}`, this.sum(i, weights)] as const),
    )
    this.sums.set(weights.join(), made)
    return made
  }

  private sum(level: number, weights: readonly number[]): Value {
    const shape = this.spoken[0]!.maps[level]!.shape
    const out = new Float32Array(this.spoken[0]!.maps[level]!.data.length)
    this.spoken.forEach(({ maps }, k) => {
      const data = maps[level]!.data as Float32Array
      const weight = weights[k]!
      if (weight !== 0) for (let i = 0; i < out.length; i++) out[i]! += weight * data[i]!
    })
    return f32(out, shape)
  }
}

function checkSides({ downscale_factor: r }: T2iAdapterConfig, width: number, height: number): void {
  if (width % r !== 0 || height % r !== 0)
    fail(
      "REQUEST_SIZE",
      `a T2I-Adapter reads squares of ${r}x${r} pixels: ${width}x${height} is no multiple`,
      {
        hint: `try ${Math.ceil(width / r) * r}x${Math.ceil(height / r) * r}`,
      },
    )
}

/** The condition picture in 0..1: 1 c h w. */
function pixelsOf(
  { image, preprocess: name = "none" }: ControlRequest,
  { in_channels: channels }: T2iAdapterConfig,
  width: number,
  height: number,
): Value {
  const seen = preprocess(image, name)
  const picture: Picture = resize(channels === 1 ? toGrey(toRgb(seen)) : toRgb(seen), width, height)
  const area = width * height
  const data = new Float32Array(channels * area)
  for (let i = 0; i < area; i++)
    for (let c = 0; c < channels; c++)
      data[c * area + i] = picture.data[picture.channels * i + Math.min(c, picture.channels - 1)]! / 255
  return f32(data, [1, channels, height, width])
}

/** Every level of the way down hears one map, of its own size; one more map is the middle's. */
function fitsUnet(
  maps: readonly Value[],
  { down, mid, block_out_channels: widths }: UNetConfig,
  size: readonly [number, number],
  file: string | undefined,
): void {
  const half = ([h, w]: readonly [number, number]) => [Math.ceil(h / 2), Math.ceil(w / 2)] as const
  let at: readonly [number, number] = size
  const wanted = down.map(({ channels, attention }, i) => {
    const here = at
    if (i < down.length - 1) at = half(at)
    return [1, channels, ...(attention ? here : at)].join()
  })
  if (mid) wanted.push([1, widths.at(-1)!, ...at].join())
  const found = maps.map(({ shape }) => shape.join())
  if (found.length < down.length || found.some((shape, i) => shape !== wanted[i]))
    fail(
      "T2I_ADAPTER_FAMILY",
      `the T2I-Adapter speaks of ${found.join("; ")}, the model hears ${wanted.join("; ")}`,
      {
        file,
        hint: "it was made for another family of models",
      },
    )
}

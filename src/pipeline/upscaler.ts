import { symbol } from "../graph/index.ts"
import { type Picture, pictureFromUnit, unitPlanesFromPicture } from "../image/pixels.ts"
import { cut, extendCanvas } from "../image/region.ts"
import { type UpscalerConfig, upscaleFactor, upscalerGraph, upscalerNet } from "../models/upscaler.ts"
import { expected } from "../nn/index.ts"
import { type DeviceName, type Engine, f32 } from "../runtime/engine.ts"
import type { ReadWeights } from "../runtime/gather.ts"
import { compile } from "../runtime/program.ts"
import { fitWeights } from "../weights/fit.ts"
import { readUpscaler } from "../weights/upscaler.ts"
import type { TensorView } from "../weights/view.ts"
import { storedView } from "./stored.ts"
import { tiled } from "./vae.ts"

/** An upscaling network's sizes and weights, as a platform opened its file. */
export interface OpenedUpscaler {
  readonly id: string
  readonly name: string
  readonly config: UpscalerConfig
  readonly weights: ReadonlyMap<string, TensorView>
}

/** What a file's tensors are as an upscaler. @throws UPSCALER_NOT_ONE, WEIGHTS_DO_NOT_FIT */
export function openedUpscaler(
  tensors: ReadonlyMap<string, TensorView>,
  { id, name, path }: { id: string; name: string; path: string },
): OpenedUpscaler {
  const { config, weights } = readUpscaler(tensors, path)
  const fitted = fitWeights(expected(upscalerNet(config)), weights, { model: "upscaler", file: path })
  return { id, name, config, weights: fitted }
}

/** Side of a tile in pixels of the small picture; tiles overlap by a quarter and are blended. */
const side = 192

/** A network that enlarges pictures by its own factor, tile by tile, compiled when first used. */
export class UpscaleNet {
  readonly factor: number
  private readonly fold: number
  private readonly program: () => ReturnType<typeof compile>
  private compiled: ReturnType<typeof compile> | undefined

  constructor({ config, weights }: OpenedUpscaler, engine: Engine, device: DeviceName, read?: ReadWeights) {
    this.factor = upscaleFactor(config)
    this.fold = config.kind === "rrdb" ? config.fold : 1
    const stored = new Map([...weights].map(([name, view]) => [name, storedView(view)]))
    this.program = () =>
      compile(engine, upscalerGraph(config, { h: symbol("h"), w: symbol("w") }), stored, { device, read })
  }

  /** @returns RGB, `factor` times as wide and high */
  async enlarge(picture: Picture, signal?: AbortSignal): Promise<Picture> {
    const missing = (n: number) => (this.fold - (n % this.fold)) % this.fold
    const sides = { right: missing(picture.width), bottom: missing(picture.height) }
    const { picture: whole } = extendCanvas(picture, sides, 0)
    const planes = {
      data: unitPlanesFromPicture(whole),
      channels: 3,
      height: whole.height,
      width: whole.width,
    }
    this.compiled ??= this.program()
    const net = await this.compiled
    const made = await tiled(planes, { tile: side, scale: this.factor }, async (x) => {
      signal?.throwIfAborted()
      const { enlarged } = await net.run({ image: f32(x.data, [1, 3, x.height, x.width]) })
      const [, channels, height, width] = enlarged!.shape as [number, number, number, number]
      return { data: enlarged!.data as Float32Array, channels, height, width }
    })
    const large = pictureFromUnit(made.data, made.width, made.height)
    return cut(large, [0, 0, picture.width * this.factor, picture.height * this.factor])
  }

  async release(): Promise<void> {
    const made = this.compiled
    this.compiled = undefined
    await (await made?.catch(() => null))?.release()
  }
}

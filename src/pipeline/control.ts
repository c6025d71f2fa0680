import { fail } from "../errors.ts"
import { type Picture, toRgb } from "../image/pixels.ts"
import { type Preprocessor, preprocess } from "../image/preprocess.ts"
import { resize } from "../image/resize.ts"
import type { UNetParts } from "../models/index.ts"
import { type Feed, f32, isRef, type Ref, type Value } from "../runtime/engine.ts"
import type { Program } from "../runtime/program.ts"
import type { Component } from "../weights/model-files.ts"
import { Features } from "./features.ts"
import { ImagePrompts } from "./image-prompts.ts"
import type { Networks } from "./networks.ts"
import type { FileRef } from "./other-files.ts"

/** A ControlNet, a T2I-Adapter or an IP-Adapter, and the picture it reads. */
export interface ControlRequest {
  /** Folder or `.safetensors` file. */
  model: FileRef
  image: Picture
  /** Default 1. */
  weight?: number
  /** Share of the run at which it begins, default 0, and ends, default 1. */
  start?: number
  end?: number
  /** Lead also without words: only the prompt's rows hear it, finer levels less. Default false. */
  guess?: boolean
  /** The picture encoder of an IP-Adapter: folder or file; default: a folder `image_encoder` beside it or in the model's folder. */
  encoder?: FileRef
  /** What makes the condition picture out of `image`; default `none`: it is one already. */
  preprocess?: Preprocessor
}

/** Refuses what no ControlNet can do. @throws REQUEST_CONTROL */
export function checkControl({ weight = 1, start = 0, end = 1 }: ControlRequest): void {
  const fits = [
    ["weight", weight, -10, 10],
    ["start", start, 0, 1],
    ["end", end, 0, 1],
  ] as const
  for (const [field, value, low, high] of fits)
    if (!(typeof value === "number" && value >= low && value <= high))
      fail("REQUEST_CONTROL", `control ${field} is ${String(value)}`, {
        hint: `use a number from ${low} to ${high}`,
      })
  if (start >= end)
    fail("REQUEST_CONTROL", `control from ${start} to ${end} is never in force`, {
      hint: "start must come before end",
    })
}

/** A ControlNet as it was opened, with what is asked of it. */
export interface ControlPart {
  readonly id: string
  readonly component: Component
  readonly request: ControlRequest
  /** An IP-Adapter's picture encoder. */
  readonly encoder?: { readonly id: string; readonly component: Component }
}

const isKind = (className: string) => (part: ControlPart) => part.component.className === className

/** One call of the denoiser. */
export interface ControlCall {
  readonly index: number
  readonly rows: number
  readonly size: readonly [number, number]
  /** The first row is the negative prompt's. */
  readonly guided: boolean
  /** The first row alone is the prompt's (instruct-pix2pix). */
  readonly instruct: boolean
}

/** Whether something with a start and an end is in force at a call, as diffusers counts. */
export function inForce(
  { start = 0, end = 1 }: Pick<ControlRequest, "start" | "end">,
  index: number,
  calls: number,
): boolean {
  // one call can come after the last that was counted, where a sampler adapts its steps
  const at = Math.min(index, calls - 1)
  return !(at / calls < start || (at + 1) / calls > end)
}

/** A ControlNet at work. */
interface Active {
  readonly program: Program
  readonly hint: Value
  readonly channels: number
  readonly weight: number
  readonly start: number
  readonly end: number
  readonly guess: boolean
}

/** What pictures add to the U-Net, call by call: ControlNets to its skips, T2I-Adapters to its levels, IP-Adapters to its attention. */
export class Controls {
  private readonly active: readonly Active[]
  private readonly calls: number
  private readonly features: Features | null
  private readonly images: ImagePrompts | null
  private readonly silent = new Map<string, Record<string, Ref>>()
  private readonly strengths = new Map<string, Value>()

  private constructor(
    active: readonly Active[],
    calls: number,
    { features, images }: { features: Features | null; images: ImagePrompts | null },
  ) {
    this.active = active
    this.calls = calls
    this.features = features
    this.images = images
  }

  /** What the U-Net must be built with. */
  get parts(): UNetParts {
    return {
      controls: this.active.length,
      ...(this.features ? { features: this.features.channels } : {}),
      ...(this.images ? { images: this.images.parts } : {}),
    }
  }

  /** @param size latent height and width */
  static async prepare(
    networks: Networks,
    asked: readonly ControlPart[],
    {
      width,
      height,
      size,
      calls,
    }: { width: number; height: number; size: readonly [number, number]; calls: number },
  ): Promise<Controls> {
    const active: Active[] = []
    const run = { width, height, size, calls }
    const features = await Features.prepare(networks, asked.filter(isKind("T2IAdapter")), run)
    const images = await ImagePrompts.prepare(networks, asked.filter(isKind("IPAdapter")), calls)
    for (const { id, component, request } of asked.filter(isKind("ControlNetModel"))) {
      const config = networks.addControl(id, component)
      const guess = (request.guess ?? false) || config.global_pool_conditions
      active.push({
        program: await networks.control(id, guess, ...size),
        hint: hintOf(request, width, height),
        channels: config.unet.in_channels,
        weight: request.weight ?? 1,
        start: request.start ?? 0,
        end: request.end ?? 1,
        guess,
      })
    }
    return new Controls(active, calls, { features, images })
  }

  /**
   * What all of them add at denoiser call `call`, by the names of the U-Net's inputs, kept in the engine.
   * @param shared the rows' inputs: context, sizes, timestep
   * @param x one picture's latents, as the U-Net reads them
   * @param guided the first row is the negative prompt's
   */
  async residuals(
    shared: Readonly<Record<string, Value>>,
    x: Float32Array,
    call: ControlCall,
  ): Promise<Record<string, Feed>> {
    const out: Record<string, Feed> = { ...this.features?.at(call.index), ...this.images?.at(call) }
    for (const [k, control] of this.active.entries()) {
      const spoken = await this.one(control, k, shared, x, call)
      for (const [name, ref] of Object.entries(spoken)) out[`control${k}.${name}`] = ref
    }
    return out
  }

  private async one(
    control: Active,
    k: number,
    shared: Readonly<Record<string, Value>>,
    x: Float32Array,
    { index, rows, size, guided }: ControlCall,
  ): Promise<Record<string, Ref>> {
    const { program, hint, channels, weight, start, end, guess } = control
    const off = !inForce({ start, end }, index, this.calls)
    const key = `${k} ${rows} ${shared.context!.shape[1]}`
    if (off && this.silent.has(key)) return this.silent.get(key)!
    const one = channels * size[0] * size[1]
    const latents = new Float32Array(rows * one)
    for (let r = 0; r < rows; r++) latents.set(x.subarray(0, one), r * one)
    const spoken = await program.keep({
      ...shared,
      latents: f32(latents, [rows, channels, ...size]),
      hint,
      strength: this.strength(off ? 0 : weight, rows, guess && guided),
    })
    if (off) this.silent.set(key, spoken)
    return spoken
  }

  private strength(weight: number, rows: number, guess: boolean): Value {
    const key = `${weight} ${rows} ${guess}`
    const known = this.strengths.get(key)
    if (known) return known
    const made = f32(
      Float32Array.from({ length: rows }, (_, r) => (guess && r === 0 ? 0 : weight)),
      [rows, 1, 1, 1],
    )
    this.strengths.set(key, made)
    return made
  }

  /** Gives back what a call's residuals take; silent ones stay for the next call. */
  async free(residuals: Readonly<Record<string, Feed>>): Promise<void> {
    const kept = new Set([...this.silent.values()].flatMap((refs) => Object.values(refs)))
    const refs = Object.values(residuals).filter((feed): feed is Ref => isRef(feed) && !kept.has(feed))
    if (refs.length > 0) await this.active[0]?.program.free(refs)
  }

  /** Gives back the rest. */
  async end(): Promise<void> {
    const refs = [...this.silent.values()].flatMap((kept) => Object.values(kept))
    this.silent.clear()
    await this.active[0]?.program.free(refs)
  }
}

/** The condition picture at the asked size, 0..1: 1 3 h w. */
function hintOf({ image, preprocess: name = "none" }: ControlRequest, width: number, height: number): Value {
  const picture = toRgb(resize(toRgb(preprocess(image, name)), width, height))
  const area = width * height
  const data = new Float32Array(3 * area)
  for (let i = 0; i < area; i++)
    for (let c = 0; c < 3; c++) data[c * area + i] = picture.data[3 * i + c]! / 255
  return f32(data, [1, 3, height, width])
}

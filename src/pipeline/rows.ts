import { composed, guided, instructed, rescaled } from "../diffusion/guidance.ts"
import { mix } from "../diffusion/latent.ts"
import type { Feed } from "../runtime/engine.ts"
import { f32, type Value } from "../runtime/engine.ts"
import { entryAt } from "../text/a1111.ts"
import type { AttentionSum } from "./attention.ts"
import { type Embedding, encodeTexts, guidanceEmbedding, stackRows, zeroEmbedding } from "./conditioning.ts"
import type { Controls } from "./control.ts"
import type { Networks } from "./networks.ts"
import type { PromptPlan, Scheduled } from "./prompt.ts"
import { type Denoise, guidedAt, heldAt, type Shortcuts } from "./shortcuts.ts"

export interface RowOptions {
  readonly cfg: number
  readonly imageCfg: number
  readonly guidanceRescale: number
  readonly clipSkip?: number
  /** SDXL models that were trained with zeros for an empty negative prompt. */
  readonly zeroNegative: boolean
  readonly width: number
  readonly height: number
  /** The second guidance of instruct-pix2pix. */
  readonly instruct: boolean
  readonly shortcuts: Shortcuts
  /** Denoiser calls of the whole way. */
  readonly calls: number
}

/** One call for one picture. */
export interface Call {
  /** c h w */
  readonly x: Float32Array
  readonly t: number
  readonly index: number
  readonly size: readonly [number, number]
  readonly extra: ExtraChannels
  readonly controls: Controls | null
  readonly watch: AttentionSum | null
}

/** diffusers' aesthetic scores for the prompt and for the negative prompt. */
const [LIKED, DISLIKED] = [6, 2.5]

/** Channels that go beside the latents, the same at every step: masks and encoded pictures. */
export type ExtraChannels = { readonly data: Float32Array; readonly zero?: Float32Array } | null

/** How a call is guided: by a row for the negative prompt, by the difference that row made last, or not at all. */
type Way = "row" | "held" | "none"

/** What the negative prompt's row last changed. */
interface Held {
  readonly index: number
  readonly cond: Embedding
  readonly uncond: Embedding
  /** The prompt's row less the negative one's. */
  readonly difference: Float32Array
}

/** The rows of a denoiser call: negative prompt first, then the prompt's parts; and what their outputs become. */
export class Rows {
  private readonly networks: Networks
  private readonly plan: PromptPlan
  private readonly options: RowOptions
  private readonly embeddings = new Map<unknown, Embedding>()
  private readonly stacks = new Map<string, Record<string, Value>>()
  private held: Held | null = null

  constructor(networks: Networks, plan: PromptPlan, options: RowOptions) {
    this.networks = networks
    this.plan = plan
    this.options = options
  }

  /** Two rows and more cost time: only where guidance asks for it and the network has none of its own (Ho & Salimans 2022). */
  get guided(): boolean {
    const several = this.plan.positive.length > 1 || this.plan.positive[0]!.weight !== 1
    return (this.options.cfg > 1 || several) && !this.networks.unet.time_cond_proj_dim
  }

  private wayAt(call: number): Way {
    const { shortcuts, calls, instruct } = this.options
    if (!this.guided) return "none"
    // parts of a prompt are weighed against the negative one
    if (instruct || this.plan.positive.length > 1) return "row"
    if (!guidedAt(shortcuts, call, calls)) return "none"
    return heldAt(shortcuts, call, calls) && this.holds(call) ? "held" : "row"
  }

  /** Whether the difference at hand is of this picture and of the same texts. */
  private holds(call: number): boolean {
    const { held, plan } = this
    if (!held || held.index >= call) return false
    return (
      held.cond === this.current(plan.positive[0]!.schedule, call) &&
      held.uncond === this.current(plan.negative, call)
    )
  }

  /** Encodes every text that some step needs, so that the encoders can go. */
  async prepare(): Promise<void> {
    const schedules = [
      ...this.plan.positive.map((p) => p.schedule),
      ...(this.guided ? [this.plan.negative] : []),
    ]
    for (const schedule of schedules) {
      const texts = schedule.map(({ text }) => text)
      const encoded = await encodeTexts(this.networks, texts, this.options.clipSkip)
      for (const [i, text] of texts.entries()) this.embeddings.set(text, encoded[i]!)
    }
  }

  private current(schedule: readonly Scheduled[], call: number): Embedding {
    return this.embeddings.get(entryAt(schedule, call).text)!
  }

  /** Embeddings of a call, for traces: of the prompt's first part, and of the negative prompt where it is used. */
  embeddingsAt(call: number): { cond: Embedding; uncond: Embedding | null } {
    const cond = this.current(this.plan.positive[0]!.schedule, call)
    if (!this.guided) return { cond, uncond: null }
    return {
      cond,
      uncond: this.options.zeroNegative ? zeroEmbedding(cond) : this.current(this.plan.negative, call),
    }
  }

  /** Whether a call reads the prompt's first stretch, whose tokens are the ones that are told. */
  private readsFirst(call: number): boolean {
    const { schedule } = this.plan.positive[0]!
    return this.current(schedule, call) === this.embeddings.get(schedule[0]!.text)
  }

  /** Inputs that follow from the prompt; the same objects while nothing changes, so that the engine keeps its own results. */
  private inputs(call: number): Record<string, Value> {
    const conds = this.plan.positive.map((p) => this.current(p.schedule, call))
    const guided = this.wayAt(call) === "row"
    const key = [...conds, guided ? this.current(this.plan.negative, call) : null]
      .map((e) => [...this.embeddings.values()].indexOf(e!))
      .join()
    const known = this.stacks.get(key)
    if (known) return known
    const uncond = guided ? this.embeddingsAt(call).uncond : null
    const rows =
      uncond === null ? conds : this.options.instruct ? [conds[0]!, uncond, uncond] : [uncond, ...conds]
    const made = this.stack(rows, uncond !== null)
    this.stacks.set(key, made)
    return made
  }

  private stack(rows: readonly Embedding[], guided: boolean): Record<string, Value> {
    const { unet } = this.networks
    const { width, height, cfg } = this.options
    const inputs: Record<string, Value> = { context: stackRows(rows.map((r) => r.context)) }
    if (unet.addition_embed_type) {
      inputs.text_embeds = stackRows(rows.map((r) => r.pooled!))
      inputs.time_ids = stackRows(
        rows.map((_, row) => {
          // the refiner reads how much a picture of the training was liked (Podell et al. 2023, sec. 2.5)
          const negative = guided && row === 0
          const rest = unet.sizeIds === 5 ? [negative ? DISLIKED : LIKED] : [height, width]
          return f32(Float32Array.of(height, width, 0, 0, ...rest), [1, unet.sizeIds])
        }),
      )
    }
    if (unet.time_cond_proj_dim)
      inputs.guidance = stackRows(rows.map(() => guidanceEmbedding(cfg, unet.time_cond_proj_dim!)))
    return inputs
  }

  /** One guided call. */
  async predict(net: Denoise, { x, t, index, size, extra, controls, watch }: Call): Promise<Float32Array> {
    const inputs = this.inputs(index)
    const rows = inputs.context!.shape[0]!
    const channels = this.networks.unet.in_channels
    const one = channels * size[0] * size[1]
    const latents = new Float32Array(rows * one)
    for (let r = 0; r < rows; r++) {
      latents.set(x, r * one)
      if (extra)
        latents.set(
          this.options.instruct && r === rows - 1 && rows > 1 ? extra.zero! : extra.data,
          r * one + x.length,
        )
    }
    const shared = { ...inputs, timestep: f32(Float32Array.of(t), [1]) }
    const way = this.wayAt(index)
    const guided = way === "row"
    const about = { index, rows, size, guided, instruct: this.options.instruct }
    const told: Record<string, Feed> = (await controls?.residuals(shared, x, about)) ?? {}
    const outputs = await net.run({
      ...shared,
      latents: f32(latents, [rows, channels, ...size]),
      ...told,
    })
    const { out } = outputs
    await controls?.free(told)
    // the prompt's row: behind the negative one, but first with instructions
    if (this.readsFirst(index)) watch?.add(outputs, guided && !this.options.instruct ? 1 : 0)
    const data = out!.data as Float32Array
    if (!guided) return this.alone(data.slice(0, data.length / rows), way)
    this.hold(index, data, rows)
    return this.combine(data, rows)
  }

  /** The prompt's row by itself, or with the difference of an earlier call. */
  private alone(cond: Float32Array, way: Way): Float32Array {
    if (way === "none") return cond
    const strength = this.plan.positive[0]!.weight * this.options.cfg
    const mixed = mix([1, cond], [strength - 1, this.held!.difference])
    return rescaled(mixed, cond, this.options.guidanceRescale)
  }

  private hold(index: number, out: Float32Array, rows: number): void {
    const { plan, options } = this
    if (rows !== 2 || options.shortcuts.guidanceHold === 1) return
    const one = out.length / 2
    this.held = {
      index,
      cond: this.current(plan.positive[0]!.schedule, index),
      uncond: this.current(plan.negative, index),
      difference: mix([1, out.subarray(one)], [-1, out.subarray(0, one)]),
    }
  }

  private combine(out: Float32Array, rows: number): Float32Array {
    const { cfg, imageCfg, guidanceRescale, instruct } = this.options
    const one = out.length / rows
    const row = (r: number) => out.subarray(r * one, (r + 1) * one)
    if (instruct) return instructed(row(0), row(1), row(2), cfg, imageCfg)
    const parts = this.plan.positive
    const plain = parts.length === 1 && parts[0]!.weight === 1
    const mixed = plain
      ? guided(row(1), row(0), cfg)
      : composed(
          parts.map(({ weight }, i) => ({ cond: row(i + 1), weight })),
          row(0),
          cfg,
        )
    return rescaled(mixed, row(1), guidanceRescale)
  }
}

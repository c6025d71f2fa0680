import type { Value } from "../runtime/engine.ts"
import type { PromptToken } from "./prompt-tokens.ts"

/** Where the network looked for one token of the prompt: shares of its attention, h w, row by row. */
export interface TokenMap {
  /** Place among the tokens of the prompt, from 0, begin and padding left out. */
  readonly token: number
  /** Its letters; those of a word's tokens, joined, spell the word. */
  readonly text: string
  /** It ends a word. */
  readonly end: boolean
  readonly values: Float32Array
}

/** Cross-attention averaged over heads, layers and steps (Hertz et al. 2022; Tang et al. 2023), at the latents' size. */
export interface AttentionMaps {
  readonly width: number
  readonly height: number
  readonly tokens: readonly TokenMap[]
}

/** Adds up attention maps over the calls of one picture. */
export class AttentionSum {
  private readonly height: number
  private readonly width: number
  private readonly tokens: readonly PromptToken[]
  /** Columns of the prompt's tokens. */
  private readonly columns: readonly number[]
  private readonly sums: readonly Float32Array[]
  private calls = 0

  /**
   * @param size latent height and width
   * @param tokens the prompt's
   * @param length tokens that a chunk has room for, begin and end included
   */
  constructor([height, width]: readonly [number, number], tokens: readonly PromptToken[], length: number) {
    this.height = height
    this.width = width
    this.tokens = tokens
    this.columns = tokens.map(({ chunk }, i) => {
      const first = tokens.findIndex((other) => other.chunk === chunk)
      return chunk * length + 1 + i - first
    })
    this.sums = this.columns.map(() => new Float32Array(height * width))
  }

  /** Takes the outputs of one call, of which row `row` read the prompt: `attention0` ... b s t. */
  add(outputs: Readonly<Record<string, Value>>, row: number): void {
    this.calls++
    for (const [name, value] of Object.entries(outputs))
      if (/^attention\d+$/.test(name)) this.addMap(value, row)
  }

  private addMap({ data, shape }: Value, row: number): void {
    const [, places, tokens] = shape as [number, number, number]
    const { h, w } = this.sides(places)
    const all = data as Float32Array
    this.columns.forEach((column, i) => {
      const map = new Float32Array(places)
      for (let p = 0; p < places; p++) map[p] = all[(row * places + p) * tokens + column]!
      addResized(this.sums[i]!, map, { h, w }, { h: this.height, w: this.width })
    })
  }

  /** Height and width of a feature map of so many places: each downsampling halves and rounds up. */
  private sides(places: number): { h: number; w: number } {
    let [h, w] = [this.height, this.width]
    while (h * w > places) [h, w] = [Math.ceil(h / 2), Math.ceil(w / 2)]
    return { h, w }
  }

  maps(): AttentionMaps {
    const tokens = this.sums.map((sum, token) => ({
      token,
      text: this.tokens[token]!.text,
      end: this.tokens[token]!.end,
      values: sum.map((v) => v / Math.max(1, this.calls)),
    }))
    return { width: this.width, height: this.height, tokens }
  }
}

interface Sides {
  readonly h: number
  readonly w: number
}

/** Adds a map enlarged bilinearly, pixel centres at halves (torch's `align_corners=False`). */
function addResized(into: Float32Array, map: Float32Array, from: Sides, to: Sides): void {
  const [ys, xs] = [places(from.h, to.h), places(from.w, to.w)]
  for (let y = 0; y < to.h; y++) {
    const [y0, y1, v] = ys[y]!
    for (let x = 0; x < to.w; x++) {
      const [x0, x1, u] = xs[x]!
      const top = map[y0 * from.w + x0]! * (1 - u) + map[y0 * from.w + x1]! * u
      const bottom = map[y1 * from.w + x0]! * (1 - u) + map[y1 * from.w + x1]! * u
      into[y * to.w + x]! += top * (1 - v) + bottom * v
    }
  }
}

/** For each place of the larger grid: the two of the smaller one around it, and the share of the second. */
const places = (from: number, to: number): [number, number, number][] =>
  Array.from({ length: to }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * from) / to - 0.5)
    const low = Math.min(from - 1, Math.floor(at))
    return [low, Math.min(from - 1, low + 1), at - low]
  })

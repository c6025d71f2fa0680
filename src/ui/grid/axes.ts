import { formats } from "../state/sizes.ts"
import type { ModelFacts, Recipe } from "../studio/types.ts"

/** What an axis of a grid changes. */
export const axisIds = ["steps", "cfg", "size", "seed", "sampler", "schedule", "model", "words"] as const
export type AxisId = (typeof axisIds)[number]

interface Known {
  readonly samplers: readonly { readonly id: string; readonly name: string }[]
  readonly schedules: readonly { readonly id: string; readonly name: string }[]
  readonly models: readonly { readonly id: string; readonly name: string }[]
}

/** One value of an axis: its name, and the recipe it makes of another. */
export interface Stop {
  readonly name: string
  readonly apply: (recipe: Recipe) => Recipe
}

/** Values around a model's own number of steps. */
const stepsAround = (own: number): number[] =>
  own < 4 ? [own, 2 * own, 4 * own] : [Math.round(own / 2), own, Math.round(1.5 * own)]

/** Values around a model's own guidance scale; distilled models want next to none. */
const cfgAround = (own: number): number[] =>
  own < 2 ? [own, own + 0.5, own + 1] : [Math.round(own) / 2, own, Math.round(3 * own) / 2]

const three = (list: readonly { readonly name: string }[]): string =>
  list
    .slice(0, 3)
    .map(({ name }) => name)
    .join(", ")

type Own = Pick<ModelFacts, "width" | "steps" | "cfg">

/** Values that an axis starts with: around the model's own, or the first that there are. */
export function startValues(axis: AxisId, own: Own | undefined, known: Known): string {
  const { width = 512, steps = 20, cfg = 7.5 } = own ?? {}
  const values: Record<AxisId, () => string> = {
    steps: () => stepsAround(steps).join(", "),
    cfg: () => cfgAround(cfg).join(", "),
    size: () =>
      Object.values(formats(width))
        .map((f) => `${f.width}x${f.height}`)
        .join(", "),
    seed: () => "1-3",
    sampler: () => three(known.samplers),
    schedule: () => three(known.schedules),
    model: () => three(known.models),
    words: () => "",
  }
  return values[axis]()
}

const choice = { sampler: "samplers", schedule: "schedules", model: "models" } as const
const numbers = { steps: [1, 150], cfg: [0, 100], seed: [0, 2 ** 32 - 1] } as const

/** `1-4` as 1, 2, 3, 4. */
function counted(text: string): string[] {
  const range = /^(\d+)\s*-\s*(\d+)$/.exec(text)
  if (!range) return [text]
  const [from, to] = [Number(range[1]), Number(range[2])]
  if (to < from || to - from > 99) return [text]
  return Array.from({ length: to - from + 1 }, (_, i) => String(from + i))
}

/**
 * The stops a reader wrote for an axis. Words work as A1111's "Prompt S/R": the first is looked for in the prompt, and
 * each stands for it in turn.
 * @returns the stops, or the value that does not fit
 */
export function readStops(axis: AxisId, text: string, known: Known): { stops: Stop[] } | { bad: string } {
  const values = text
    .split(",")
    .map((v) => v.trim())
    .filter(Boolean)
  if (axis === "words") {
    const [first = ""] = values
    return {
      stops: values.map((v) => ({
        name: v,
        apply: (r) => ({ ...r, prompt: r.prompt.replaceAll(first, v) }),
      })),
    }
  }
  const stops: Stop[] = []
  for (const value of new Set(axis in numbers ? values.flatMap(counted) : values)) {
    const stop = stopOf(axis, value, known)
    if (!stop) return { bad: value }
    stops.push(stop)
  }
  return { stops }
}

function stopOf(axis: AxisId, value: string, known: Known): Stop | null {
  if (axis === "size") return sizeStop(value)
  return axis in numbers ? numberStop(axis as keyof typeof numbers, value) : choiceStop(axis, value, known)
}

/** `512x640`, sides in multiples of 8. */
function sizeStop(value: string): Stop | null {
  const [, width, height] = (/^(\d+)\s*[x×*]\s*(\d+)$/i.exec(value) ?? []).map(Number)
  if (!width || !height || width % 8 !== 0 || height % 8 !== 0) return null
  return { name: `${width} × ${height}`, apply: (r) => ({ ...r, width, height }) }
}

function numberStop(axis: keyof typeof numbers, value: string): Stop | null {
  const n = Number(value)
  const [low, high] = numbers[axis]
  if (!Number.isFinite(n) || n < low || n > high || (axis !== "cfg" && !Number.isInteger(n))) return null
  return { name: value, apply: (r) => ({ ...r, [axis]: n }) }
}

function choiceStop(axis: AxisId, value: string, known: Known): Stop | null {
  const found = known[choice[axis as keyof typeof choice]].find(
    ({ id, name }) => id === value || name.toLowerCase() === value.toLowerCase(),
  )
  return found ? { name: found.name, apply: (r) => ({ ...r, [axis]: found.id }) } : null
}

import type { Dice } from "./dice.ts"

/** A JSON value, or text to be written as it is: what no JSON writer would write. */
class Raw {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

const deep = (open: string, inside: string, close: string) =>
  new Raw(open.repeat(50_000) + inside + close.repeat(50_000))

const strange = (): unknown[] => [
  null,
  true,
  false,
  0,
  -1,
  1,
  2,
  1.5,
  3,
  7,
  64,
  1e6,
  1e9,
  2 ** 53,
  -1e9,
  1e308,
  "",
  "many",
  "8",
  "../../../etc/passwd",
  "\u001b[31m\u202e",
  "x".repeat(100_000),
  [],
  {},
  [null],
  [1],
  [1e9, 1e9],
  [[1, 2], [3]],
  { type: "nothing" },
  Array.from({ length: 100_000 }, () => 8),
  new Raw("NaN"),
  new Raw("-Infinity"),
  new Raw("1e999"),
  new Raw("0x10"),
  new Raw("1".repeat(1000)),
  deep("[", "", "]"),
  deep('{"a":', "1", "}"),
]

const classes = [
  "UNet2DModel",
  "UNetMotionModel",
  "AutoencoderTiny",
  "VQModel",
  "T5EncoderModel",
  "CLIPTextModelWithProjection",
  "EulerDiscreteScheduler",
  "NoSuchScheduler",
  "FlowMatchEulerDiscreteScheduler",
  "DPMSolverMultistepScheduler",
  "constructor",
  "__proto__",
  "DownBlock2D",
  "UpBlock2D",
  "CrossAttnDownBlock2D",
  "UNetMidBlock2D",
  "v_prediction",
  "sample",
  "squaredcos_cap_v2",
  "trailing",
  "learned_range",
]

/** A number moved to where it may still make sense, or a list of another length. */
function nearby(value: unknown, dice: Dice): unknown {
  if (typeof value === "number")
    return dice.pick([value + 1, value - 1, value * 2, value / 2, -value, value * 1e6, 0, value + 0.5])
  if (typeof value === "boolean") return !value
  if (typeof value === "string") return dice.pick([...classes, value.toUpperCase(), `${value}x`])
  if (!Array.isArray(value)) return dice.pick(strange())
  const list = [...value]
  const change = dice.below(6)
  if (change === 0) list.push(list.at(-1) ?? 1)
  else if (change === 1) list.pop()
  else if (change === 2) list.reverse()
  else if (change === 3) list.length = 0
  else if (change === 4) while (list.length < 300) list.push(list[0] ?? 1)
  else list[dice.below(list.length)] = nearby(list[0], dice)
  return list
}

/** Every object and list inside a value, itself included. */
function* holders(value: unknown): Generator<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) return
  yield value as Record<string, unknown>
  for (const inner of Object.values(value)) yield* holders(inner)
}

function write(value: unknown): string {
  const raws: string[] = []
  const text = JSON.stringify(value, (_key, inner) => {
    if (!(inner instanceof Raw)) return inner
    raws.push(inner.text)
    return `@raw${raws.length - 1}@`
  })
  return text.replace(/"@raw(\d+)@"/g, (_all, i) => raws[Number(i)]!)
}

type Change = (root: Record<string, unknown>, dice: Dice) => void

const field =
  (change: (holder: Record<string, unknown>, key: string, dice: Dice) => void): Change =>
  (root, dice) => {
    const holder = dice.chance(0.7) ? root : dice.pick([...holders(root)])
    const keys = Object.keys(holder)
    if (keys.length > 0) change(holder, dice.pick(keys), dice)
  }

/** Ways to spoil the fields of a JSON object. */
const changes: Record<string, Change> = {
  "a field gone": field((holder, key) => {
    if (Array.isArray(holder)) holder.splice(Number(key), 1)
    else delete holder[key]
  }),
  "a strange value": field((holder, key, dice) => (holder[key] = dice.pick(strange()))),
  "another value": field((holder, key, dice) => (holder[key] = nearby(holder[key], dice))),
  "a value of another field": field((holder, key, dice) => {
    holder[key] = holder[dice.pick(Object.keys(holder))]
  }),
  "a field more": (root, dice) => {
    root[dice.pick(["hidden", "toString", "solver_order", "class_embed_type", "\u0000"])] = dice.pick(
      strange(),
    )
  },
  "a prototype": (root) => Object.assign(root, { a: new Raw('1,"__proto__":{"polluted":true}') }),
  "many fields": (root) => {
    for (let i = 0; i < 100_000; i++) root[`field${i}`] = i
  },
}

/** Ways to spoil a JSON text. */
const texts: Record<string, (text: string, dice: Dice) => string | Buffer> = {
  "cut short": (text, dice) => text.slice(0, dice.below(text.length)),
  "a character changed": (text, dice) => {
    const at = dice.below(text.length)
    return text.slice(0, at) + dice.pick([...'{}[]",:0-e\\\u0000é']) + text.slice(at + 1)
  },
  "another document": (_text, dice) =>
    dice.pick(["", " ", "null", "[]", "{}", "0", '"x"', "{", "// note\n{}", "{'a':1}", "[".repeat(200_000)]),
  bytes: (_text, dice) => dice.bytes(1 + dice.below(300)),
  "a mark of byte order": (text) => `\ufeff${text}`,
  "sixteen bits": (text) => Buffer.from(text, "utf16le"),
  "very long": (text) => text + " ".repeat(40_000_000),
}

export const jsonWays = [...Object.keys(changes), ...Object.keys(changes), ...Object.keys(texts)]

/** Spoils a JSON file's text in one of `jsonWays`. */
export function spoilJson(text: string, way: string, dice: Dice): string | Buffer {
  const change = changes[way]
  if (!change || dice.chance(0.02)) return (texts[way] ?? texts.bytes)!(text, dice)
  // spoilt before, beyond what this program's own walk can follow
  if (/[[{]("a":)?[[{]("a":)?[[{]("a":)?[[{]("a":)?[[{]/.test(text)) return texts["cut short"]!(text, dice)
  let root: Record<string, unknown>
  try {
    root = JSON.parse(text) as Record<string, unknown>
  } catch {
    return texts["cut short"]!(text, dice)
  }
  change(root, dice)
  return write(root)
}

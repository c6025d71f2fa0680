import {
  type AdapterReport,
  AquatintError,
  type ControlRequest,
  type LoraRequest,
  type Picture,
  type Preset,
  parseStrength,
  preprocessors,
} from "../index.ts"

/** Reads `PATH[=WEIGHT]`, one more of a repeatable option; a `=` whose right side is no strength belongs to the path. */
export function lora(text: string, before: readonly LoraRequest[] = []): LoraRequest[] {
  const at = text.lastIndexOf("=")
  const weight = at > 0 ? parseStrength(text.slice(at + 1)) : undefined
  return [...before, weight === undefined ? { file: text } : { file: text.slice(0, at), weight }]
}

const shown = 3

/** One line per adapter: what of it is in force. */
export function adapterLines(reports: readonly AdapterReport[]): string[] {
  return reports.map(({ name, matched, unmatched }) => {
    const left =
      unmatched.length === 0
        ? ""
        : `, ${unmatched.length} keys without a place (${unmatched.slice(0, shown).join(", ")}${unmatched.length > shown ? ", ..." : ""})`
    return `adapter ${name}: ${matched.unet} weights of the U-Net, ${matched.text} of the text encoders${left}`
  })
}

/** One more of a repeatable option. */
export const another = (text: string, before: readonly string[] = []): string[] => [...before, text]

const fields = ["model", "image", "weight", "start", "end", "guess", "preprocess", "encoder"] as const

/** Reads `model=PATH,image=PATH[,weight=1][,start=0][,end=1][,guess=true][,preprocess=canny][,encoder=PATH]`; paths may hold commas. */
export async function control(
  text: string,
  open: (path: string) => Promise<Picture>,
): Promise<ControlRequest> {
  const found: Partial<Record<(typeof fields)[number], string>> = {}
  const parts = text.split(new RegExp(`,(?=(?:${fields.join("|")})=)`))
  for (const part of parts) {
    const at = part.indexOf("=")
    const field = fields.find((name) => name === part.slice(0, at))
    if (!field) refuse(text, `${part} is none of its fields`)
    found[field] = part.slice(at + 1)
  }
  const { model, image, guess, preprocess, encoder } = found
  if (!model || !image) return refuse(text, `it names no ${model ? "image" : "model"}`)
  if (guess !== undefined && guess !== "true" && guess !== "false") refuse(text, `guess is ${guess}`)
  const way = preprocessors.find((name) => name === (preprocess ?? "none"))
  if (!way) return refuse(text, `there is no preprocessor ${preprocess}`)
  const number = (field: "weight" | "start" | "end") => {
    const value = found[field] === undefined ? undefined : Number(found[field])
    return Number.isNaN(value) || found[field] === "" ? refuse(text, `${field} is no number`) : value
  }
  return {
    model,
    image: await open(image),
    weight: number("weight"),
    start: number("start"),
    end: number("end"),
    guess: guess === "true",
    preprocess: way,
    ...(encoder ? { encoder } : {}),
  }
}

function refuse(text: string, why: string): never {
  throw new AquatintError("USAGE_CONTROL", `--control ${text}: ${why}`, {
    hint: `write model=PATH,image=PATH and, as you like, weight=1, start=0, end=1, guess=true, preprocess=${preprocessors.join("|")}, for an IP-Adapter encoder=PATH`,
  })
}

/** What a distilled model's preset says, for people. */
export const presetLine = ({ name, from, steps, cfg, sampler }: Preset): string =>
  `preset ${name} (${from}): unless told otherwise ${steps} steps, guidance ${cfg}${sampler ? `, ${sampler}` : ""}`

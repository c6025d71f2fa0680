import { parseSamplerLabel, parseScheduleLabel } from "../../diffusion/sampling.ts"
import type { Infotext } from "../../image/infotext.ts"
import { behaviour } from "../../version.ts"
import type { HiresRequest } from "../hires.ts"
import type { GenerateRequest } from "../request.ts"
import { type Program, present, type Recipe, seedOf } from "./recipe.ts"

/** Settings that a repeated picture would need and that are not repeated, by their key. */
const ignored =
  /^(Hires (checkpoint|Module)|Refiner|ENSD|Mask |Masked |Inpaint|SD upscale|ControlNet|Token merging|Face restoration|Script|Eta|Sigma|Noise multiplier)/

/** A1111's infotext as its program means it: noise of CUDA unless RNG says CPU, A1111's reading of sampler labels. */
export function infotextRecipe(info: Infotext): Recipe | null {
  const { steps, sampler, seed, version } = info
  if (steps === undefined && seed === undefined && sampler === undefined) return null
  const program = programOf(info)
  const label = [sampler, info.scheduleType].filter((part) => part && part !== "Automatic").join(" ")
  const own = program === "aquatint"
  const named = own ? { sampler, schedule: info.scheduleType } : labelOf(sampler, info.scheduleType)
  const { seed: known, unmet } = seedOf(seed)
  const hires = hiresOf(info, own)
  const drawnBy = own ? Number(new Map(info.extra).get("Behaviour") ?? 1) : null
  return {
    program,
    version: version ?? null,
    behaviour: drawnBy,
    request: present({
      prompt: info.prompt,
      negative: info.negativePrompt === "" && own ? undefined : info.negativePrompt,
      steps,
      cfg: info.cfgScale,
      imageCfg: info.imageCfgScale,
      seed: known,
      width: info.width,
      height: info.height,
      clipSkip: info.clipSkip ?? (own ? undefined : 1),
      rng: noiseOf(info, program),
      promptSyntax: "a1111" as const,
      ...named,
      ...variationOf(info),
      hires,
      tiling: ({ True: "both", x: "x", y: "y" } as const)[new Map(info.extra).get("Tiling") as "x"],
    }),
    model: { name: info.model ?? null, hash: info.modelHash ?? null },
    loras: [],
    unmet: [
      ...unmet,
      ...(drawnBy !== null && drawnBy > behaviour
        ? [`it was drawn by a newer aquatint (behaviour ${drawnBy}, this one has ${behaviour})`]
        : []),
      ...(sampler && !own && named.sampler === undefined ? [`sampler ${label} is not known`] : []),
      ...(info.denoisingStrength === undefined || hires
        ? []
        : [`it began from another picture (strength ${info.denoisingStrength})`]),
      ...info.extra.filter(([key]) => ignored.test(key)).map(([key, value]) => `${key}: ${value}`),
    ],
  }
}

function programOf({ version, extra }: Infotext): Program {
  if (version?.startsWith("aquatint")) return "aquatint"
  return /stable-diffusion\.cpp/i.test(version ?? "") || extra.some(([key]) => key === "SDCPP")
    ? "sd.cpp"
    : "a1111"
}

/** A1111 and its forks draw on the GPU unless they say otherwise; stable-diffusion.cpp names its generator. */
function noiseOf({ rng }: Infotext, program: Program): "cpu" | "cuda" {
  if (program === "sd.cpp") return /std|cpu/i.test(rng ?? "cuda") ? "cpu" : "cuda"
  return rng?.toUpperCase() === "CPU" ? "cpu" : "cuda"
}

/** The sampler by a label that we read as A1111 does, with the schedule its table gives to "Automatic". */
function labelOf(
  sampler: string | undefined,
  type: string | undefined,
): { sampler?: string; schedule?: string } {
  if (sampler === undefined) return {}
  const named = parseSamplerLabel(sampler, "a1111")
  if (!named) return {}
  const said = type && type !== "Automatic" ? parseScheduleLabel(type) : undefined
  const schedule = said ?? named.schedule ?? named.automatic
  return present({ sampler, schedule })
}

const sizeIn = (text: string | undefined): { width: number; height: number } | undefined => {
  const found = /^(\d+)x(\d+)$/.exec(text ?? "")
  return found ? { width: Number(found[1]), height: Number(found[2]) } : undefined
}

function variationOf({ variationSeed, variationSeedStrength, extra }: Infotext): Partial<GenerateRequest> {
  const seedFrom = sizeIn(new Map(extra).get("Seed resize from"))
  return present({ variationSeed, variationStrength: variationSeedStrength, seedFrom })
}

/** A second pass, told by "Hires upscale" or "Hires resize". */
function hiresOf({ denoisingStrength, extra }: Infotext, own: boolean): HiresRequest | undefined {
  const fields = new Map(extra)
  const scale = fields.get("Hires upscale")
  const size = sizeIn(fields.get("Hires resize"))
  if (scale === undefined && !size) return undefined
  const label = fields.get("Hires sampler")
  const type = fields.get("Hires schedule type")
  const sampler = own ? { sampler: label, schedule: type } : labelOf(label, type)
  // a name and no path: infotexts come from strangers
  const upscaler = fields.get("Hires upscaler")?.split(/[\\/]/).at(-1)
  const number = (key: string) => (fields.has(key) ? Number(fields.get(key)) : undefined)
  return present({
    scale: size ? undefined : Number(scale),
    width: size?.width || undefined,
    height: size?.height || undefined,
    upscaler,
    steps: number("Hires steps") || undefined,
    strength: denoisingStrength,
    cfg: number("Hires CFG Scale"),
    prompt: fields.get("Hires prompt"),
    negative: fields.get("Hires negative prompt"),
    ...sampler,
  })
}

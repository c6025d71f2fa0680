import { parseSamplerLabel, parseScheduleLabel } from "../../diffusion/sampling.ts"
import type { Infotext } from "../../image/infotext.ts"
import { type Program, present, type Recipe, seedOf } from "./recipe.ts"

/** Settings that a repeated picture would need and that are not repeated, by their key. */
const ignored =
  /^(Hires |Refiner|Variation seed|ENSD|Tiling|Mask |Inpaint|ControlNet|Token merging|Face restoration|Script|Eta|Sigma|Noise multiplier|Seed resize)/

/** A1111's infotext as its program means it: noise of CUDA unless RNG says CPU, A1111's reading of sampler labels. */
export function infotextRecipe(info: Infotext): Recipe | null {
  const { steps, sampler, seed, version } = info
  if (steps === undefined && seed === undefined && sampler === undefined) return null
  const program = programOf(info)
  const label = [sampler, info.scheduleType].filter((part) => part && part !== "Automatic").join(" ")
  const own = program === "aquatint"
  const named = own ? { sampler, schedule: info.scheduleType } : labelOf(sampler, info.scheduleType)
  const { seed: known, unmet } = seedOf(seed)
  return {
    program,
    version: version ?? null,
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
    }),
    model: { name: info.model ?? null, hash: info.modelHash ?? null },
    loras: [],
    unmet: [
      ...unmet,
      ...(sampler && !own && named.sampler === undefined ? [`sampler ${label} is not known`] : []),
      ...(info.denoisingStrength === undefined
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

import { parseSamplerLabel, parseScheduleLabel } from "../../diffusion/sampling.ts"
import type { Infotext } from "../../image/infotext.ts"
import { loraTags, takeNetworks } from "../../text/networks.ts"
import { emphases, syntaxes } from "../../text/prompt.ts"
import { behaviour } from "../../version.ts"
import type { HiresRequest } from "../hires.ts"
import { fills, type GenerateRequest } from "../request.ts"
import { json, type Program, present, type Recipe, seedOf } from "./recipe.ts"
import { sdcppSampler } from "./sdcpp.ts"

/** Settings that a repeated picture would need and that are not repeated, by their key. */
const ignored =
  /^(Hires (checkpoint|Module|VAE)|ENSD|ControlNet|Token merging ratio hr|Face restoration|Script|Eta$|Sigma|Noise multiplier|Extra noise|Clip skip L|FreeU|NGMS|Skip Early CFG|Schedule (min|max|rho)|Beta schedule|Discard penultimate|SGM noise|UniPC|Conditional mask weight|Mask mode|VAE (En|De)coder|Downcast|Old prompt)/

/** A1111's infotext as its program means it: noise of CUDA unless RNG says CPU, A1111's reading of sampler labels. */
export function infotextRecipe(info: Infotext): Recipe | null {
  const { steps, sampler, seed, version } = info
  if (steps === undefined && seed === undefined && sampler === undefined) return null
  const program = programOf(info)
  const fields = new Map(info.extra)
  const own = program === "aquatint"
  const hires = hiresOf(info, own)
  const civitai = civitaiHashes(fields.get("Hashes"))
  const began = info.denoisingStrength !== undefined && !hires
  return {
    program,
    version: version ?? null,
    behaviour: own ? Number(fields.get("Behaviour") ?? 1) : null,
    ...(own && fields.get("Compute type") === "int8" ? { dtype: "int8" as const } : {}),
    request: { ...requestOf(info, program), ...(hires ? { hires } : {}) },
    ...(began ? { start: startOf(info, fields) } : {}),
    model: { name: info.model ?? null, hash: info.modelHash ?? civitai.model ?? null },
    ...vaeOf(info, civitai.vae),
    ...refinerOf(fields),
    loras: own ? adaptersOf(fields.get("Adapters")) : [],
    ...hashesOf(info, civitai),
    unmet: unmetOf(info, fields, own),
  }
}

/** `Hashes: {"model": "...", "lora:NAME": "..."}`, which Civitai's extension adds: hashes by part. */
function civitaiHashes(written: string | undefined): Readonly<Record<string, string>> {
  const found = Object.entries(json(written) ?? {})
  return Object.fromEntries(found.flatMap(([part, hash]) => (typeof hash === "string" ? [[part, hash]] : [])))
}

/** Hashes of the files beside the model: A1111's own lists, before Civitai's. */
function hashesOf(
  { loraHashes, embeddingHashes }: Infotext,
  civitai: Readonly<Record<string, string>>,
): Pick<Recipe, "hashes"> {
  const of = (prefix: string, own: Readonly<Record<string, string>> | undefined) => {
    const theirs = Object.entries(civitai).filter(([part]) => part.startsWith(prefix))
    const all = {
      ...Object.fromEntries(theirs.map(([part, hash]) => [part.slice(prefix.length), hash])),
      ...own,
    }
    return Object.keys(all).length > 0 ? all : undefined
  }
  const [loras, embeddings] = [of("lora:", loraHashes), of("embed:", embeddingHashes)]
  return loras || embeddings ? { hashes: present({ loras, embeddings }) } : {}
}

function requestOf(info: Infotext, program: Program): Recipe["request"] {
  const { sampler } = info
  const fields = new Map(info.extra)
  const own = program === "aquatint"
  const number = numberIn(fields)
  return present({
    prompt: info.prompt,
    negative: info.negativePrompt === "" && own ? undefined : info.negativePrompt,
    steps: info.steps,
    cfg: info.cfgScale,
    imageCfg: info.imageCfgScale,
    seed: seedOf(info.seed).seed,
    width: info.width,
    height: info.height,
    clipSkip: info.clipSkip ?? (own ? undefined : 1),
    rng: noiseOf(info, program),
    promptSyntax: syntaxes.find((name) => own && name === fields.get("Prompt syntax")) ?? ("a1111" as const),
    emphasis: emphases.find((mode) => mode === fields.get("Emphasis")?.toLowerCase().replace(" ", "-")),
    eta: number("Eta DDIM"),
    guidanceRescale: number("Guidance rescale"),
    tokenMerge: number("Token merging ratio"),
    ...(own
      ? {
          stepCache: number("Step cache"),
          guidanceStart: number("Guidance start"),
          guidanceEnd: number("Guidance end"),
          guidanceHold: number("Guidance hold"),
        }
      : {}),
    ...(own ? { sampler, schedule: info.scheduleType } : labelOf(program, sampler, info.scheduleType)),
    ...variationOf(info),
    ...enlargedOf(fields),
    tiling: ({ True: "both", x: "x", y: "y" } as const)[fields.get("Tiling") as "x"],
  })
}

function unmetOf(info: Infotext, fields: ReadonlyMap<string, string>, own: boolean): string[] {
  const { sampler } = info
  const label = [sampler, info.scheduleType].filter((part) => part && part !== "Automatic").join(" ")
  const drawnBy = own ? Number(fields.get("Behaviour") ?? 1) : 1
  return [
    ...seedOf(info.seed).unmet,
    ...(drawnBy > behaviour
      ? [`it was drawn by a newer aquatint (behaviour ${drawnBy}, this one has ${behaviour})`]
      : []),
    ...(sampler && !own && labelOf(programOf(info), sampler, info.scheduleType).sampler === undefined
      ? [`sampler ${label} is not known`]
      : []),
    ...info.extra.filter(([key]) => ignored.test(key)).map(([key, value]) => `${key}: ${value}`),
  ]
}

const numberIn = (fields: ReadonlyMap<string, string>) => (key: string) => {
  const value = Number(fields.get(key) || Number.NaN)
  return Number.isFinite(value) ? value : undefined
}

/** A name and no path: infotexts come from strangers. */
const fileName = (text: string | undefined) => text?.split(/[\\/]/).at(-1) || undefined

/** What a picture was enlarged by after it was drawn. */
function enlargedOf(fields: ReadonlyMap<string, string>): Partial<GenerateRequest> {
  const by = numberIn(fields)("Postprocess upscale by")
  return by === undefined || by <= 1
    ? {}
    : present({ upscale: by, upscaler: fileName(fields.get("Postprocess upscaler")) })
}

/** How a start picture was drawn anew; the picture itself is not in the metadata. */
function startOf(info: Infotext, fields: ReadonlyMap<string, string>): NonNullable<Recipe["start"]> {
  const number = numberIn(fields)
  const overlap = number("SD upscale overlap")
  const fill = fields.get("Masked content")?.toLowerCase().replaceAll(" ", "-")
  const mask = present({
    maskBlur: number("Mask blur"),
    maskPadding: number("Masked area padding"),
    inpaintArea: /only masked/i.test(fields.get("Inpaint area") ?? "") ? ("masked" as const) : undefined,
    fill: fills.find((name) => name === fill),
  })
  return {
    strength: info.denoisingStrength!,
    mask,
    ...(overlap === undefined
      ? {}
      : {
          sdUpscale: present({ overlap, scale: number("SD upscale by") }),
          ...present({ upscaler: fileName(fields.get("SD upscale upscaler")) }),
        }),
  }
}

/** `Refiner: name [hash]`, as A1111 names the model of the last steps. */
function refinerOf(fields: ReadonlyMap<string, string>): Pick<Recipe, "refiner"> {
  const [, said, hash] = /^(.*?)(?: \[([0-9a-f]*)\])?$/.exec(fields.get("Refiner") ?? "") ?? []
  const name = fileName(said)
  if (!name) return {}
  const at = numberIn(fields)("Refiner switch at")
  return { refiner: { name, ...present({ hash: hash || undefined, at }) } }
}

/** The autoencoder that was chosen beside the model. */
function vaeOf({ vae, vaeHash }: Infotext, theirs: string | undefined): Pick<Recipe, "vae"> {
  const hash = vaeHash ?? theirs
  const name = vae === "None" || vae === "Automatic" ? undefined : fileName(vae)
  return name === undefined ? {} : { vae: { name, ...present({ hash }) } }
}

/** Adapters of our own pictures whose prompts have no tags for them. */
const adaptersOf = (text = "") =>
  loraTags(takeNetworks(text).networks).map(({ name, text: te, unet }) => ({ name, weight: unet, text: te }))

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
  program: Program,
  sampler: string | undefined,
  type: string | undefined,
): { sampler?: string; schedule?: string } {
  if (sampler === undefined) return {}
  if (program === "sd.cpp") return sdcppSampler(sampler)
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
  const sampler = own ? { sampler: label, schedule: type } : labelOf("a1111", label, type)
  const upscaler = fileName(fields.get("Hires upscaler"))
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

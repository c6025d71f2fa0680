import { parse, YAMLError } from "yaml"
import { AquatintError, fail } from "../errors.ts"
import { predictionName } from "./family.ts"
import type { Prediction } from "./model-files.ts"
import { deepest, nestsTooDeep } from "./nesting.ts"

/** What an LDM config beside a checkpoint says that its tensors do not. */
export interface LdmFacts {
  prediction?: Prediction
  heads?: number
  headWidth?: number
  scaleFactor?: number
  betaStart?: number
  betaEnd?: number
  timesteps?: number
  imageSize?: number
}

/** LDM configs have 3 KB; far more is no such file. */
export const LDM_CONFIG_LIMIT = 256 * 1024

type Tree = Record<string, unknown>

const tree = (value: unknown): Tree =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Tree) : {}
const positive = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isFinite(value) && value > 0 ? value : undefined
const whole = (value: unknown): number | undefined =>
  Number.isSafeInteger(value) ? positive(value) : undefined

/**
 * Reads an LDM config (YAML or JSON): `parameterization`, heads, `scale_factor`, betas, as in CompVis' and
 * Stability's v1-inference.yaml, v2-inference-v.yaml and sd_xl_base.yaml. Undefined when the text is some
 * other document (A1111 keeps notes in a .json of the same stem). Errors: CONFIG_YAML.
 */
export function parseLdmConfig(text: string, name: string): LdmFacts | undefined {
  const params = tree(tree(readYaml(text, name).model).params)
  if (Object.keys(params).length === 0) return undefined
  const unet = tree(tree(params.unet_config ?? params.network_config).params)
  const facts: LdmFacts = {}
  const set = <K extends keyof LdmFacts>(key: K, value: LdmFacts[K]) => {
    if (value !== undefined) facts[key] = value
  }
  set("prediction", predictionIn(params))
  set("heads", whole(unet.num_heads))
  set("headWidth", whole(unet.num_head_channels))
  set("scaleFactor", positive(params.scale_factor))
  set("betaStart", positive(params.linear_start))
  set("betaEnd", positive(params.linear_end))
  set("timesteps", whole(params.timesteps))
  set("imageSize", whole(params.image_size))
  return facts
}

function readYaml(text: string, name: string): Tree {
  if (nestsTooDeep(text))
    fail("CONFIG_YAML", `${name} nests more than ${deepest} levels`, {
      file: name,
      hint: "mend or remove the file beside the checkpoint",
    })
  try {
    return tree(parse(text, { maxAliasCount: 10, uniqueKeys: true, logLevel: "error" }))
  } catch (error) {
    if (!(error instanceof YAMLError || error instanceof ReferenceError || error instanceof RangeError))
      throw error
    throw new AquatintError("CONFIG_YAML", `${name} is no YAML: ${error.message.split("\n")[0]}`, {
      file: name,
      hint: "mend or remove the file beside the checkpoint",
      cause: error,
    })
  }
}

/** `parameterization: "v"`, or SDXL's scaling class. */
function predictionIn(params: Tree): Prediction | undefined {
  if (typeof params.parameterization === "string") {
    const known = predictionName(params.parameterization)
    return (
      known ??
      fail("CONFIG_YAML", `parameterization ${params.parameterization} is not known`, {
        hint: "eps, v or x0",
      })
    )
  }
  const scaling = tree(tree(params.denoiser_config).params).scaling_config
  const target = String(tree(scaling).target ?? "")
  if (/\bVScaling/.test(target)) return "v_prediction"
  return /\bEpsScaling/.test(target) ? "epsilon" : undefined
}

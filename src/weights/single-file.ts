import { AquatintError } from "../errors.ts"
import { openCheckpoint } from "./checkpoint.ts"
import { readText } from "./folder.ts"
import { LDM_CONFIG_LIMIT, type LdmFacts, parseLdmConfig } from "./ldm-yaml.ts"
import type { ModelFiles } from "./model-files.ts"
import { withFile } from "./open-file.ts"

/**
 * Opens a single-file checkpoint (`.safetensors` in LDM keys) from its header: components under diffusers'
 * names, configs from shapes, the default scheduler. A `.yaml` or `.yml` (or a `.json` in LDM's layout) of the
 * same stem beside the path overrides heads, scale, betas and parameterization.
 */
export function openSingleFile(path: string): Promise<ModelFiles> {
  return withFile(path, async (source) => {
    const ldm = (await ldmBeside(path)) ?? (source.path === path ? undefined : await ldmBeside(source.path))
    return openCheckpoint(source, { path, ldm })
  })
}

/** The LDM config of the same stem beside a file, if there is one. */
export async function ldmBeside(path: string): Promise<LdmFacts | undefined> {
  const stem = path.replace(/\.[^./\\]+$/, "")
  for (const extension of [".yaml", ".yml", ".json"]) {
    const text = await textIfThere(stem + extension)
    if (text === undefined) continue
    const facts = readFacts(text, stem + extension)
    if (facts) return facts
  }
  return undefined
}

function readFacts(text: string, name: string): LdmFacts | undefined {
  try {
    return parseLdmConfig(text, name)
  } catch (error) {
    // notes that other programs keep in a .json are none of our business, well-formed or not
    if (name.endsWith(".json")) return undefined
    throw error
  }
}

async function textIfThere(path: string): Promise<string | undefined> {
  try {
    return await readText(path, LDM_CONFIG_LIMIT)
  } catch (error) {
    const absent = ["FILE_NOT_FOUND", "FILE_NOT_REGULAR"]
    const notes = path.endsWith(".json")
    if (error instanceof AquatintError && (notes || absent.includes(error.code))) return undefined
    throw error
  }
}

import { fail } from "../../errors.ts"
import { pullFromCivitai } from "./civitai.ts"
import { type PullOptions, pullFromHub } from "./huggingface.ts"
import { makeLibrary, writeOrigin } from "./library.ts"

export interface PullAsk extends PullOptions {
  readonly revision?: string
  readonly variant?: string
}

/**
 * Fetches a model by the names people have for one: `org/name`, `org/name:FILE`, `civitai:VERSION`, an AIR, or the
 * address of its page or file. @returns where it lies now. @throws MODEL_NAME, DOWNLOAD_*, HUB_*, CIVITAI_*
 */
export async function pullModel(
  name: string,
  { revision, variant, ...options }: PullAsk = {},
): Promise<string> {
  const civitai = civitaiVersion(name)
  if (civitai !== null) {
    const { path, origin } = await pullFromCivitai(civitai, await makeLibrary(), options)
    await writeOrigin(path, origin)
    return path
  }
  const [, id, own, file] =
    /^(?:https:\/\/huggingface\.co\/)?([\w.-]+\/[\w.-]+)(?:\/(?:resolve|blob)\/([^/]+)\/|:)?(\S+)?$/.exec(
      name,
    ) ?? []
  if (id === undefined || id.split("/").some((part) => /^\.+$/.test(part)))
    return fail("MODEL_NAME", `${name} names no model that could be fetched`, {
      hint: "org/name, org/name:FILE.safetensors, civitai:VERSION, or the address of a page",
    })
  return pullFromHub(
    { id, revision: own ?? revision, variant, file: file?.replace(/\?.*$/, "") || undefined },
    options,
  )
}

/** Number of a model version in `civitai:123`, `urn:air:..@123` and addresses. */
export function civitaiVersion(name: string): number | null {
  const found =
    /^civitai:(?:\d+@)?(\d+)$/.exec(name) ??
    /^urn:air:[^:]+:[^:]+:civitai:\d+@(\d+)$/.exec(name) ??
    /^https:\/\/civitai\.com\/.*modelVersionId=(\d+)/.exec(name) ??
    /^https:\/\/civitai\.com\/api\/download\/models\/(\d+)/.exec(name)
  return found ? Number(found[1]) : null
}

import { join } from "node:path"
import { z } from "zod"
import { fail } from "../../errors.ts"
import { download } from "./download.ts"
import { type PullOptions, readJson } from "./huggingface.ts"

const version = z.object({
  id: z.number(),
  name: z.string(),
  baseModel: z.string().nullish(),
  trainedWords: z.array(z.string()).nullish(),
  model: z.object({ name: z.string(), type: z.string() }).nullish(),
  files: z.array(
    z.object({
      name: z.string(),
      type: z.string().nullish(),
      primary: z.boolean().nullish(),
      sizeKB: z.number().nullish(),
      downloadUrl: z.string(),
      hashes: z.record(z.string(), z.string()).nullish(),
      pickleScanResult: z.string().nullish(),
    }),
  ),
})

/** What Civitai says of a file, kept beside it. */
export interface CivitaiOrigin {
  readonly source: string
  readonly model: string
  readonly version: string
  readonly kind: string
  readonly base: string | null
  readonly words: readonly string[]
  readonly sha256: string
}

const endpoint = (): string => (process.env.CIVITAI_ENDPOINT ?? "https://civitai.com").replace(/\/+$/, "")

/** Folder of the library for each of Civitai's kinds. */
const folders: Readonly<Record<string, string>> = {
  Checkpoint: "checkpoints",
  LORA: "loras",
  LoCon: "loras",
  DoRA: "loras",
  TextualInversion: "embeddings",
  VAE: "vae",
  Controlnet: "controlnet",
  Upscaler: "upscalers",
}

/**
 * Brings the safetensors file of a Civitai model version into the library.
 * @param id number of a model version, as in its page's `modelVersionId` and in AIR names after the @
 * @throws DOWNLOAD_*, CIVITAI_NO_FILE, MODEL_PICKLE
 */
export async function pullFromCivitai(
  id: number,
  library: string,
  options: PullOptions = {},
): Promise<{ path: string; origin: CivitaiOrigin }> {
  const token = process.env.CIVITAI_TOKEN?.trim() || undefined
  const url = `${endpoint()}/api/v1/model-versions/${id}`
  const parsed = version.safeParse(await readJson(url, token, options))
  if (!parsed.success)
    return fail("HUB_ANSWER", `${new URL(url).host} describes version ${id} in an unknown form`, {
      blame: "here",
    })
  const found = parsed.data
  const safe = found.files.filter((f) => f.name.endsWith(".safetensors"))
  const file =
    safe.find((f) => f.primary) ??
    safe[0] ??
    fail("MODEL_PICKLE", `version ${id} has no .safetensors file`, {
      hint: `it holds ${found.files.map((f) => f.name).join(", ") || "no file"}; pickles are not fetched`,
    })
  const name = file.name.replace(/[^\p{L}\p{N}._ ()-]/gu, "_").replace(/^\.+/, "_")
  const kind = found.model?.type ?? "Checkpoint"
  const path = join(library, folders[kind] ?? "other", name)
  const from = new URL(file.downloadUrl, endpoint())
  const hashes = new Map(Object.entries(file.hashes ?? {}).map(([k, v]) => [k.toLowerCase(), v]))
  const { sha256 } = await download(
    {
      url: from.href,
      token: from.host === new URL(endpoint()).host ? token : undefined,
      sha256: hashes.get("sha256"),
    },
    path,
    { ...options, progress: (done, all) => options.progress?.(name, done, all) },
  )
  const origin: CivitaiOrigin = {
    source: `civitai:${id}`,
    model: found.model?.name ?? found.name,
    version: found.name,
    kind,
    base: found.baseModel ?? null,
    words: found.trainedWords ?? [],
    sha256,
  }
  return { path, origin }
}

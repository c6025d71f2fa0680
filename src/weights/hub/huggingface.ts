import { lstat, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { dirname, join, relative } from "node:path"
import { z } from "zod"
import { fail } from "../../errors.ts"
import { cacheHome, hubFolder } from "./cache.ts"
import { type DownloadOptions, download } from "./download.ts"

/** What to pull of a hub repository. */
export interface HubAsk {
  /** `org/name`. */
  readonly id: string
  readonly revision?: string
  /** One file of the repository; without it, the diffusers folder. */
  readonly file?: string
  /** Weights of this variant where there are several, `fp16`. */
  readonly variant?: string
}

export interface PullOptions extends Omit<DownloadOptions, "progress"> {
  readonly progress?: (file: string, done: number, all: number | undefined) => void
}

const repository = z.object({
  sha: z.string().regex(/^[0-9a-f]{7,64}$/),
  siblings: z.array(
    z.object({
      rfilename: z.string(),
      size: z.number().optional(),
      blobId: z
        .string()
        .regex(/^[0-9a-f]{40}$/)
        .optional(),
      lfs: z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/), size: z.number() }).optional(),
    }),
  ),
})
type Sibling = z.infer<typeof repository>["siblings"][number]

const endpoint = (): string => (process.env.HF_ENDPOINT ?? "https://huggingface.co").replace(/\/+$/, "")

/** HF_TOKEN, or the one that `huggingface-cli login` left. */
async function hubToken(): Promise<string | undefined> {
  const kept = process.env.HF_TOKEN ?? (await readFile(join(cacheHome(), "token"), "utf8").catch(() => ""))
  return kept.trim() || undefined
}

/**
 * Brings a model into Hugging Face's own cache layout, so that every tool on the machine shares it: content under
 * `blobs`, names as links under `snapshots/COMMIT`, the branch under `refs`.
 * @returns the folder, or the path of the one file that was asked for
 * @throws DOWNLOAD_*, HUB_NO_WEIGHTS
 */
export async function pullFromHub(ask: HubAsk, options: PullOptions = {}): Promise<string> {
  const token = await hubToken()
  const { revision = "main" } = ask
  const found = await listing(ask.id, revision, token, options)
  const wanted = ask.file ? one(found.siblings, ask.file, ask.id) : diffusersFiles(found.siblings, ask)
  const root = join(hubFolder(), `models--${ask.id.replace("/", "--")}`)
  const snapshot = join(root, "snapshots", found.sha)
  for (const file of wanted) {
    const blob = join(
      root,
      "blobs",
      file.lfs?.sha256 ?? file.blobId ?? `${found.sha}-${file.rfilename.replaceAll("/", "-")}`,
    )
    const link = join(snapshot, file.rfilename)
    if (!(await lstat(blob).catch(() => null)))
      await download(
        {
          url: `${endpoint()}/${ask.id}/resolve/${found.sha}/${file.rfilename.split("/").map(encodeURIComponent).join("/")}`,
          token,
          sha256: file.lfs?.sha256,
          bytes: file.lfs?.size ?? file.size,
        },
        blob,
        { ...options, progress: (done, all) => options.progress?.(file.rfilename, done, all) },
      )
    await mkdir(dirname(link), { recursive: true })
    await rm(link, { force: true })
    await symlink(relative(dirname(link), blob), link)
  }
  const ref = join(root, "refs", ...revision.split("/").filter((part) => !/^\.*$/.test(part)))
  await mkdir(dirname(ref), { recursive: true })
  await writeFile(ref, found.sha)
  return ask.file ? join(snapshot, ask.file) : snapshot
}

async function listing(id: string, revision: string, token: string | undefined, options: PullOptions) {
  const url = `${endpoint()}/api/models/${id}/revision/${encodeURIComponent(revision)}?blobs=true`
  const json = await readJson(url, token, options)
  const done = repository.safeParse(json)
  if (!done.success)
    return fail("HUB_ANSWER", `${new URL(url).host} describes ${id} in an unknown form`, { blame: "here" })
  for (const { rfilename } of done.data.siblings)
    if (rfilename.split("/").some((part) => part === ".." || part === "" || part.includes("\\")))
      fail("HUB_ANSWER", `${id} holds a file that would lie outside its folder: ${rfilename}`)
  return done.data
}

/** A small JSON document. @throws DOWNLOAD_* */
export async function readJson(
  url: string,
  token: string | undefined,
  options: PullOptions,
): Promise<unknown> {
  const headers = { "user-agent": "aquatint", ...(token ? { authorization: `Bearer ${token}` } : {}) }
  const response = await fetch(url, { headers, signal: options.signal }).catch((cause: Error) =>
    fail(
      "DOWNLOAD_FAILED",
      `${new URL(url).host} cannot be reached: ${(cause.cause as Error)?.message ?? cause.message}`,
      {
        blame: "here",
        hint: "check the connection; models that are here already work with --offline",
      },
    ),
  )
  if (response.status === 401 || response.status === 403)
    fail(
      "DOWNLOAD_REFUSED",
      `${new URL(url).host} answered ${response.status} for ${new URL(url).pathname}`,
      {
        hint: "the model may be private or need its licence accepted; set HF_TOKEN or CIVITAI_TOKEN",
      },
    )
  if (response.status === 404)
    fail(
      "DOWNLOAD_NOT_FOUND",
      `${new URL(url).host} has no ${new URL(url).pathname.split("/").slice(3).join("/")}`,
      {
        hint: "check the spelling, the revision, and whether it needs a token",
      },
    )
  if (!response.ok)
    fail("DOWNLOAD_FAILED", `${new URL(url).host} answered ${response.status}`, {
      blame: "here",
      hint: "try again later",
    })
  return response
    .json()
    .catch(() => fail("HUB_ANSWER", `${new URL(url).host} sent no JSON`, { blame: "here" }))
}

function one(siblings: readonly Sibling[], file: string, id: string): Sibling[] {
  if (!/\.(safetensors|json|yaml|yml|txt)$/.test(file))
    fail("MODEL_PICKLE", `${file} is not fetched: it may hold a program`, {
      hint: "name a .safetensors file",
    })
  const found = siblings.find((s) => s.rfilename === file)
  return found ? [found] : fail("DOWNLOAD_NOT_FOUND", `${id} holds no ${file}`, { hint: namesOf(siblings) })
}

const namesOf = (siblings: readonly Sibling[]): string => {
  const names = siblings.map((s) => s.rfilename).filter((n) => n.endsWith(".safetensors"))
  return names.length > 0 ? `it holds ${names.slice(0, 8).join(", ")}` : "it holds no .safetensors file"
}

const left = /^(safety_checker|feature_extractor)\//
const weights = /\.safetensors(\.index\.json)?$/
const texts = /\.(json|txt|model)$/

/** The files of a diffusers pipeline that are read here: configs, tokenizers and one set of safetensors weights. */
export function diffusersFiles(siblings: readonly Sibling[], { id, variant }: HubAsk): Sibling[] {
  const inside = siblings.filter((s) => !left.test(s.rfilename) && /^[\w.-]+\/[\w.-]+$/.test(s.rfilename))
  const index = siblings.filter((s) => s.rfilename === "model_index.json")
  if (index.length === 0)
    fail("HUB_NO_WEIGHTS", `${id} is no diffusers folder`, {
      hint: `name one file, as in ${id}:FILE.safetensors; ${namesOf(siblings)}`,
    })
  const all = inside.filter((s) => weights.test(s.rfilename))
  const folders = [...new Set(all.map((s) => dirname(s.rfilename)))]
  const chosen = folders.flatMap((folder) =>
    chooseVariant(
      all.filter((s) => dirname(s.rfilename) === folder),
      variant,
    ),
  )
  if (chosen.length === 0)
    fail("HUB_NO_WEIGHTS", `${id} holds no safetensors weights`, {
      hint: "only .safetensors weights are fetched",
    })
  const rest = inside.filter((s) => texts.test(s.rfilename) && !s.rfilename.endsWith(".index.json"))
  return [...index, ...rest, ...chosen]
}

/** Weights of the variant asked for, else the plain ones, else those of any one variant. */
function chooseVariant(files: readonly Sibling[], variant: string | undefined): Sibling[] {
  const own = files.filter((s) => /^(model|diffusion_pytorch_model)\b/.test(s.rfilename.split("/").at(-1)!))
  const of = (name: string | undefined) => own.filter((s) => variantOf(s.rfilename) === name)
  if (variant !== undefined && of(variant).length > 0) return of(variant)
  if (of(undefined).length > 0) return of(undefined)
  return of("fp16").length > 0 ? of("fp16") : of(variantOf(own[0]?.rfilename ?? ""))
}

/** `fp16` of model.fp16.safetensors, model.fp16-00001-of-00002.safetensors and model.safetensors.index.fp16.json. */
const variantOf = (name: string): string | undefined =>
  /\.(?!safetensors)(\w+?)(-\d{5}-of-\d{5})?\.safetensors/.exec(name)?.[1] ??
  /\.index\.(\w+)\.json$/.exec(name)?.[1]

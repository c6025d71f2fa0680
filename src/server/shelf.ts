import { readdir, stat } from "node:fs/promises"
import { basename, dirname, join, relative, resolve } from "node:path"
import { AquatintError, fail } from "../errors.ts"
import { type Inspection, inspect } from "../index.ts"

/** A file beside the models that requests may name. Its path never leaves the server. */
export interface KnownFile {
  id: string
  /** As prompts write it: the file's name without its ending. */
  name: string
  /** The name that its maker gave it, where its notes hold one. */
  alias: string
  path: string
  /** The family of models it was made for, or `unknown`. */
  family: string
  metadata: Readonly<Record<string, unknown>>
}

/** What the file of a model is called, in letters that need no quoting anywhere. */
export const idOf = (name: string): string =>
  basename(name)
    .replace(/\.safetensors$/i, "")
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "")
    .slice(0, 80) || "model"

/** Where programs keep such files beside a model. */
const usual = {
  lora: ["loras", "lora", "Lora", "LyCORIS", "lycoris", "adapters"],
  embedding: ["embeddings", "embedding", "textual_inversion"],
  upscaler: ["upscale_models", "upscalers", "ESRGAN", "RealESRGAN"],
} as const
const deepest = 4
const most = 10_000

/** The file's name or, where every file is called the same, its folder's. */
function nameOf(path: string): string {
  const stem = basename(path).replace(/\.safetensors$/i, "")
  return /^(pytorch_lora_weights|adapter_model|learned_embeds)$/.test(stem) ? basename(dirname(path)) : stem
}

/** The first of these names, as an id, that nobody has; where all are taken, the first with a number. */
function freeId(found: ReadonlyMap<string, unknown>, names: readonly string[]): string {
  const free = names.map(idOf).find((id) => !found.has(id))
  if (free !== undefined) return free
  for (let n = 2; ; n++) {
    const id = idOf(`${names[0]}-${n}`)
    if (!found.has(id)) return id
  }
}

/** LoRAs, embeddings or upscalers of this server: names from outside are looked up here and never become paths. */
export class Shelf {
  readonly kind: keyof typeof usual
  private readonly folders: readonly string[]
  private known: readonly KnownFile[] = []
  private readonly read = new Map<string, Inspection | AquatintError>()
  /** What could not be read, for the log. */
  refused: { path: string; error: AquatintError }[] = []

  constructor(kind: keyof typeof usual, folders: readonly string[]) {
    this.kind = kind
    this.folders = folders
  }

  get all(): readonly KnownFile[] {
    return this.known
  }

  /** Looks again at the folders named, and at those beside these models. @throws MODELS_FOLDER */
  async find(models: readonly string[]): Promise<void> {
    const beside = models.flatMap((path) =>
      [path, dirname(path), dirname(dirname(resolve(path)))].flatMap((base) =>
        usual[this.kind].map((name) => join(base, name)),
      ),
    )
    for (const folder of this.folders)
      if (!(await stat(folder).catch(() => null))?.isDirectory())
        fail("MODELS_FOLDER", `${folder} is no folder that can be read`, {
          hint: `name another with --${this.kind}s`,
        })
    const found = new Map<string, KnownFile>()
    const paths = new Set<string>()
    this.refused = []
    for (const folder of new Set([...this.folders, ...beside].map((path) => resolve(path))))
      for (const path of await weightsIn(folder, deepest)) {
        if (paths.has(path) || found.size >= most) continue
        paths.add(path)
        await this.add(found, path, relative(folder, path))
      }
    this.known = [...found.values()]
  }

  private async add(found: Map<string, KnownFile>, path: string, inside: string): Promise<void> {
    const read = await this.look(path)
    if (read instanceof AquatintError) {
      this.refused.push({ path, error: read })
      return
    }
    const name = nameOf(path)
    const id = freeId(found, [name, inside.replaceAll(/[/\\]/g, "-")])
    const given = read.metadata.ss_output_name
    const alias = typeof given === "string" && given !== "None" ? given : name
    found.set(id, { id, name, alias, path, family: read.family, metadata: read.metadata })
  }

  /** What a file's header says, read once per state of the file. */
  private async look(path: string): Promise<Inspection | AquatintError> {
    const about = await stat(path).catch(() => null)
    const state = `${path} ${about?.size} ${about?.mtimeMs}`
    const known = this.read.get(state)
    if (known) return known
    const found = await inspect(path, { hashes: false })
      .then((read) =>
        read.format === this.kind
          ? read
          : new AquatintError("NOT_ONE", `it is no ${this.kind} but ${read.format}`, {
              hint: "move it elsewhere",
            }),
      )
      .catch((error: unknown) => {
        if (error instanceof AquatintError) return error
        throw error
      })
    this.read.set(state, found)
    return found
  }

  /** The file that a name means: an id, a file's name, its maker's, in any case; never a path. */
  named(name: string): KnownFile | undefined {
    const plain = name
      .trim()
      .split(/[/\\]/)
      .at(-1)!
      .replace(/\.safetensors$/i, "")
    const same = (a: string, b: string) => a.toLowerCase() === b.toLowerCase()
    return (
      this.known.find((file) => file.id === plain || file.name === plain) ??
      this.known.find((file) => file.alias === plain) ??
      this.known.find((file) => same(file.name, plain) || same(file.alias, plain))
    )
  }

  /** @throws REQUEST_LORA, REQUEST_EMBEDDING, REQUEST_UPSCALER */
  get(name: string): KnownFile {
    const what = this.kind === "lora" ? "LoRA" : this.kind
    return (
      this.named(name) ??
      fail(`REQUEST_${this.kind.toUpperCase()}`, `this server has no ${what} of that name`, {
        hint: `GET /api/models lists them`,
      })
    )
  }

  /** Files for this family of models whose name stands in a text as a word of its own. */
  wordsIn(text: string, model: string): KnownFile[] {
    const lower = text.toLowerCase()
    const letter = /[\p{L}\p{N}_-]/u
    return this.known.filter(({ name, family }) => {
      if (family !== model && family !== "unknown") return false
      const word = name.toLowerCase()
      for (let at = lower.indexOf(word); at >= 0; at = lower.indexOf(word, at + 1))
        if (!letter.test(lower[at - 1] ?? " ") && !letter.test(lower[at + word.length] ?? " ")) return true
      return false
    })
  }
}

/** Files of weights in a folder and those below it, by name. */
async function weightsIn(folder: string, depth: number): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const found: string[] = []
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name)
    if (/\.safetensors$/i.test(entry.name)) found.push(path)
    else if (depth > 0 && entry.isDirectory()) found.push(...(await weightsIn(path, depth - 1)))
  }
  return found
}

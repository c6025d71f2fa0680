import { loraTags, takeNetworks } from "../../text/networks.ts"
import { isBuiltIn } from "../../weights/built-in.ts"
import { findInLibrary, type Kind } from "../../weights/hub/library.ts"
import { findBeside } from "../adapter-files.ts"
import { findByHash, hasHash, hashDigits } from "../by-hash.ts"
import type { EmbeddingRequest, LoraRequest } from "../request.ts"
import type { Recipe } from "./recipe.ts"

/** The files that a recipe names, as far as they are here. */
export interface RecipeFiles {
  /** What `load` takes; null where it is not here. */
  readonly model: string | null
  readonly refiner: string | null
  readonly vae: string | null
  /** LoRAs beside those that the prompt names. */
  readonly loras: readonly LoraRequest[]
  /** Files of LoRAs that the prompt names and that are called otherwise here. */
  readonly renamed: ReadonlyMap<string, string>
  readonly embeddings: readonly EmbeddingRequest[]
  /** What is not here, in words. */
  readonly missing: readonly string[]
  /** What was found under another name, or under its name with another content, in words. */
  readonly said: readonly string[]
}

interface Sought {
  readonly kind: Kind
  /** What it is, for people. */
  readonly what: string
  readonly name: string | null
  readonly hash: string | null | undefined
  /** The model beside which it may lie. */
  readonly near?: string
}

const stem = (name: string) => name.split(/[\\/]/).at(-1)!

/** As A1111 writes names beside hashes. */
const plain = (name: string) => name.replace(/[:,]/g, "")

/** Looks for one file after the other and keeps what there is to say of them. */
class Search {
  readonly said: string[] = []
  readonly missing: string[] = []
  private readonly reading: ((path: string) => void) | undefined

  constructor(reading: ((path: string) => void) | undefined) {
    this.reading = reading
  }

  /** By its name, else by its hash. @throws MODEL_AMBIGUOUS where neither tells it from others */
  async find(sought: Sought, byName: (name: string) => Promise<string | null>): Promise<string | null> {
    const { kind, what, name, hash, near } = sought
    const [named, unclear] = await (name === null ? Promise.resolve(null) : byName(name)).then(
      (found) => [found, null] as const,
      (error: unknown) => [null, error] as const,
    )
    if (named !== null) {
      // a model's own hash is known once it has drawn
      if (kind !== "model" && !(await this.isIt(named, hash)))
        this.said.push(`${what} ${name}: the file here has another hash than the picture's, ${hash}`)
      return named
    }
    const entry = await findByHash(hash, kind, {
      ...(near === undefined ? {} : { near }),
      ...(this.reading ? { reading: this.reading } : {}),
    })
    if (!entry && unclear) throw unclear
    if (entry) this.said.push(`${what} ${name ?? hash}: found by its hash as ${entry.path}`)
    return entry?.path ?? null
  }

  private async isIt(path: string, hash: Sought["hash"]): Promise<boolean> {
    const digits = hashDigits(hash)
    if (digits === null || !/\.safetensors$/i.test(path)) return true
    return hasHash(path, digits).catch(() => true)
  }
}

/** A file beside the model or in the library, by the name that a stranger gave it. */
const beside = (model: string, what: "adapter" | "embedding") => async (name: string) => {
  const near = (await findInLibrary(model, { kind: "model" }).catch(() => null))?.path ?? model
  const found = await findBeside(name, near, what, true).catch(() => null)
  return found !== null && /\.safetensors$/i.test(found) ? found : null
}

const inLibrary = (kind: Kind) => async (name: string) =>
  (await findInLibrary(stem(name), { kind }))?.path ?? null

/**
 * Finds the files that a recipe names: by name in the library, in other programs' folders and beside the model, and where
 * none is called so by the hash in the picture.
 * @param model what is drawn with if the recipe's own is not here, or was not asked for
 * @param chosen the caller names the model
 * @param reading is told every file that is read as a whole for its hash
 */
export async function recipeFiles(
  recipe: Recipe,
  model: string,
  { chosen = false, reading }: { chosen?: boolean; reading?: (path: string) => void } = {},
): Promise<RecipeFiles> {
  const search = new Search(reading)
  const { missing } = search
  const own = chosen ? null : await search.find({ kind: "model", what: "model", ...recipe.model }, byModel)
  const near = own ?? model
  const vae = await part(search, "vae", "VAE", recipe.vae)
  const refiner = await part(search, "model", "Refiner", recipe.refiner)
  return {
    ...{ model: own, vae, refiner },
    loras: await lorasOf(search, recipe, near),
    renamed: await renamedIn(search, recipe, near),
    embeddings: await embeddingsOf(search, recipe, near),
    ...{ missing, said: search.said },
  }
}

/** A model by the name that it has in the library, which pictures made with it then name; the built-in one by its own. */
const byModel = async (name: string) =>
  isBuiltIn(name) || (await findInLibrary(stem(name), { kind: "model" })) ? stem(name) : null

async function part(
  search: Search,
  kind: "vae" | "model",
  what: string,
  said: { readonly name: string; readonly hash?: string } | undefined,
): Promise<string | null> {
  if (!said) return null
  const sought = { kind, what, name: said.name, hash: said.hash }
  const found = await search.find(sought, kind === "model" ? byModel : inLibrary(kind))
  if (found === null) search.missing.push(`${what}: ${said.name}`)
  return found
}

async function lorasOf(search: Search, recipe: Recipe, model: string): Promise<LoraRequest[]> {
  const found: LoraRequest[] = []
  for (const { name, weight, text } of recipe.loras) {
    const hash = recipe.hashes?.loras?.[plain(name)]
    const sought: Sought = { kind: "lora", what: "LoRA", name, hash, near: model }
    const file = await search.find(sought, beside(model, "adapter"))
    if (file === null) search.missing.push(`LoRA ${name} at ${weight}`)
    else found.push({ file, weight, ...(text === undefined ? {} : { text }) })
  }
  return found
}

/** LoRAs that the prompt names: one that is nowhere is told when the prompt is read. */
async function renamedIn(search: Search, recipe: Recipe, model: string): Promise<Map<string, string>> {
  const { prompt, promptSyntax = "a1111" } = recipe.request
  const renamed = new Map<string, string>()
  if (typeof prompt !== "string" || promptSyntax !== "a1111") return renamed
  for (const { name } of loraTags(takeNetworks(prompt).networks)) {
    const hash = recipe.hashes?.loras?.[plain(name)]
    if (hash === undefined || renamed.has(name)) continue
    const byName = beside(model, "adapter")
    const found = await search.find({ kind: "lora", what: "LoRA", name, hash, near: model }, byName)
    if (found !== null) renamed.set(name, found)
  }
  return renamed
}

async function embeddingsOf(search: Search, recipe: Recipe, model: string): Promise<EmbeddingRequest[]> {
  const found: EmbeddingRequest[] = []
  for (const [word, hash] of Object.entries(recipe.hashes?.embeddings ?? {})) {
    const sought: Sought = { kind: "embedding", what: "textual inversion", name: word, hash, near: model }
    const file = await search.find(sought, beside(model, "embedding"))
    if (file === null) search.missing.push(`textual inversion ${word}`)
    else found.push({ file, word })
  }
  return found
}

import { readdir, stat } from "node:fs/promises"
import { basename, join, resolve } from "node:path"
import { AquatintError, fail } from "../errors.ts"
import { embeddingWords, type ModelCard, modelCard, type PromptReader, promptReader } from "../index.ts"
import { idOf, Shelf } from "./shelf.ts"

/** A model that requests may name. Its path never leaves the server. */
export interface KnownModel {
  id: string
  name: string
  path: string
  card: ModelCard
}

export interface ModelPlaces {
  /** Folders whose checkpoints and model folders are offered. */
  folders: readonly string[]
  /** Models named one by one: paths, hub ids or built-in names. */
  models: readonly string[]
  /** Folders of LoRAs and of embeddings, beside those that lie next to the models. */
  loras?: readonly string[]
  embeddings?: readonly string[]
  /** Folders of networks that enlarge pictures, likewise. */
  upscalers?: readonly string[]
}

/** Tokenizers that are kept open. */
const mostReaders = 4

/** The models of this server: names from outside are looked up here and never become paths. */
export class Models {
  private known = new Map<string, KnownModel>()
  /** What could not be read, for the log. */
  refused: { path: string; error: AquatintError }[] = []
  /** Programs that lie in a model's folder: nothing here runs them. */
  programs: { id: string; files: string[] }[] = []
  private first: string | undefined
  private readers = new Map<string, Promise<PromptReader>>()
  private readonly places: ModelPlaces
  readonly loras: Shelf
  readonly embeddings: Shelf
  readonly upscalers: Shelf

  private constructor(places: ModelPlaces) {
    this.places = places
    this.loras = new Shelf("lora", places.loras ?? [])
    this.embeddings = new Shelf("embedding", places.embeddings ?? [])
    this.upscalers = new Shelf("upscaler", places.upscalers ?? [])
  }

  get all(): KnownModel[] {
    return [...this.known.values()]
  }

  get ids(): string[] {
    return [...this.known.keys()]
  }

  /** The id of the model that is meant where none is named. */
  get standard(): string | undefined {
    return this.first
  }

  /** Finds and reads the headers of every model; the first one named is the standard. */
  static async find(places: ModelPlaces): Promise<Models> {
    const found = new Models(places)
    await found.refresh()
    return found
  }

  /** Looks again at the same places. */
  async refresh(): Promise<void> {
    const fresh = new Models(this.places)
    const { folders, models } = this.places
    for (const path of models) await fresh.add(path)
    for (const folder of folders) for (const path of await candidates(folder)) await fresh.add(path)
    const { known, first, refused, programs, readers } = fresh
    Object.assign(this, { known, first, refused, programs, readers })
    await this.refreshFiles()
  }

  /** Looks again for LoRAs, embeddings and upscalers. */
  async refreshFiles(): Promise<void> {
    const paths = this.all.map(({ path }) => path)
    for (const shelf of [this.loras, this.embeddings, this.upscalers]) {
      await shelf.find(paths)
      // such folders hold files of other kinds as well
      this.refused.push(
        ...shelf.refused.filter(({ error }) => !/^(INSPECT_UNKNOWN|NOT_ONE)$/.test(error.code)),
      )
    }
  }

  /** What reads prompts as a model does; on a server without any, as CLIP does. @throws MODEL_UNKNOWN, and what opening it does */
  reader(name?: string): Promise<PromptReader> {
    const path = name === undefined && this.first === undefined ? undefined : this.get(name).path
    const key = path ?? ""
    const { readers } = this
    const reader = readers.get(key) ?? promptReader(path)
    reader.catch(() => readers.delete(key))
    readers.delete(key)
    readers.set(key, reader)
    if (readers.size > mostReaders) readers.delete(readers.keys().next().value!)
    return reader
  }

  /** Words of a text that a model reads as embeddings, and how many tokens each one takes. @throws MODEL_UNKNOWN */
  async words(text: string, name?: string): Promise<Map<string, number>> {
    const found = new Map<string, number>()
    if (name === undefined && this.first === undefined) return found
    for (const file of this.embeddings.wordsIn(text, this.get(name).card.family))
      for (const [word, count] of await embeddingWords(file.path, file.name)) found.set(word, count)
    return found
  }

  private async add(path: string): Promise<void> {
    try {
      if ([...this.known.values()].some((model) => resolve(model.path) === resolve(path))) return
      const card = await modelCard(path)
      const id = this.free(idOf(path))
      this.known.set(id, { id, name: basename(path).replace(/\.safetensors$/i, ""), path, card })
      this.first ??= id
      const files = (await readdir(path).catch(() => [])).filter((name) =>
        /\.(py|js|mjs|so|dll)$/i.test(name),
      )
      if (files.length > 0) this.programs.push({ id, files })
    } catch (error) {
      if (!(error instanceof AquatintError)) throw error
      this.refused.push({ path, error })
    }
  }

  private free(id: string): string {
    for (let n = 1; ; n++) {
      const name = n === 1 ? id : `${id}-${n}`
      if (!this.known.has(name)) return name
    }
  }

  /**
   * The model of this name. Other programs' ways of naming one are understood: any case, with the file's ending, with
   * a hash in brackets behind it. @throws MODEL_UNKNOWN, MODEL_NONE
   */
  get(name?: string): KnownModel {
    const asked = name ?? this.first
    if (asked === undefined)
      return fail("MODEL_NONE", "this server has no model", {
        blame: "here",
        hint: "start it with --model or --models",
      })
    const plain = asked.replace(/ \[[0-9a-f]{6,64}\]$/, "")
    return (
      this.known.get(plain) ??
      this.known.get(idOf(plain.replaceAll("\\", "/"))) ??
      fail("MODEL_UNKNOWN", "there is no such model here", {
        hint: `one of ${this.ids.slice(0, 20).join(", ")}`,
      })
    )
  }
}

/** Checkpoints and model folders in a folder, by name. */
async function candidates(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() =>
    fail("MODELS_FOLDER", `${folder} is no folder that can be read`, { hint: "name another with --models" }),
  )
  const found: string[] = []
  for (const name of names.sort()) {
    const path = join(folder, name)
    if (/\.safetensors$/i.test(name)) found.push(path)
    else if (await stat(join(path, "model_index.json")).catch(() => null)) found.push(path)
  }
  return found
}

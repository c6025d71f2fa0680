import { readFile } from "node:fs/promises"
import { type GenerateRequest, type Generation, StableDiffusion, spawnEngine } from "../index.ts"
import type { KnownModel } from "./models.ts"

/** A model in memory. */
export interface Resident {
  /** Starts a generation; it ends with ENGINE_GONE when the model's process does. */
  generate(ask: GenerateRequest, signal: AbortSignal, attention?: boolean): Generation
  /** Bytes it holds now. */
  memory(): Promise<number>
  /** Ends its process at once; the memory goes back to the system. */
  close(): Promise<void>
}

export type Load = (model: KnownModel) => Promise<Resident>

export interface KeeperOptions {
  /** Bytes that all models together may hold. One model may hold more, alone. */
  budget: number
  /** Default: the real thing, each model in a child process of its own. */
  load?: Load
}

/** The LoRAs that prompts may name. */
interface Loras {
  /** The file of a name. */
  path(name: string): string
  /** Whether there are any. */
  any(): boolean
}

/** A model in a child process, with the memory of that process. */
export const loadChild =
  (device: "auto", loras?: Loras): Load =>
  async (model) => {
    const engine = spawnEngine()
    const sd = await StableDiffusion.load(model.path, {
      device,
      engine,
      preview: "beside",
      ...(loras ? { lora: (name) => loras.path(name), expectLoras: loras.any() } : {}),
    }).catch(async (error) => {
      await engine.close()
      throw error
    })
    return {
      generate: (ask, signal, attention = false) => sd.generate(ask, { signal, attention }),
      memory: () => residentBytes(engine.pid),
      close: () => engine.close(),
    }
  }

/** Bytes of a process that nobody shares; 0 where the system does not say. */
async function residentBytes(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "")
  const kilobytes = /^RssAnon:\s+(\d+) kB/m.exec(text)?.[1] ?? /^VmRSS:\s+(\d+) kB/m.exec(text)?.[1]
  return Number(kilobytes ?? 0) * 1024
}

interface Place {
  readonly resident: Resident
  bytes: number
}

/** Keeps models in memory as long as there is room: the one that was least recently used goes first. */
export class Keeper {
  private readonly options: KeeperOptions
  private readonly load: Load
  /** In the order of use, last one last. */
  private readonly places = new Map<string, Place>()

  constructor(options: KeeperOptions) {
    this.options = options
    this.load = options.load ?? loadChild("auto")
  }

  /** Ids of the models in memory, least recently used first. */
  get residents(): string[] {
    return [...this.places.keys()]
  }

  /** The model that was used last. */
  get latest(): string | undefined {
    return this.residents.at(-1)
  }

  /** A model in memory, loaded if it must be, after others have made room for it. */
  async use(model: KnownModel): Promise<Resident> {
    const here = this.places.get(model.id)
    if (here) {
      this.places.delete(model.id)
      this.places.set(model.id, here)
      return here.resident
    }
    // fp16 weights are held in fp32, and activations come on top
    const need = 2 * model.card.bytes
    await this.shrink(this.options.budget - need)
    const resident = await this.load(model)
    this.places.set(model.id, { resident, bytes: need })
    return resident
  }

  /**
   * Loads models before anybody asks and draws one step with each, so that the first picture finds them ready: as many
   * as there is room for, the first of the list last. @returns the ids of those in memory then
   */
  async warm(models: readonly KnownModel[], signal: AbortSignal): Promise<string[]> {
    const fitting: KnownModel[] = []
    let room = this.options.budget
    for (const model of models) {
      const need = 2 * model.card.bytes
      if (fitting.length > 0 && need > room) continue
      room -= need
      fitting.push(model)
    }
    for (const model of fitting.reverse()) {
      if (signal.aborted) break
      try {
        const { size } = model.card
        const resident = await this.use(model)
        // models that need a start picture are loaded only
        if (model.card.variant === "base")
          await resident.generate({ prompt: "", steps: 1, seed: 0, width: size, height: size }, signal)
        await this.settle(model.id)
      } catch {
        // the job that needs it will say why
        await this.drop(model.id)
      }
    }
    return this.residents
  }

  /** After a picture: what the model really holds is known, and others go if that is too much. */
  async settle(id: string): Promise<void> {
    const place = this.places.get(id)
    if (!place) return
    place.bytes = Math.max(1, await place.resident.memory())
    await this.shrink(this.options.budget, id)
  }

  /** Ends a model's process; a generation under way in it fails. */
  async drop(id: string): Promise<void> {
    const place = this.places.get(id)
    this.places.delete(id)
    await place?.resident.close()
  }

  async close(): Promise<void> {
    for (const id of this.residents) await this.drop(id)
  }

  private async shrink(room: number, keep?: string): Promise<void> {
    const used = () => [...this.places.values()].reduce((sum, place) => sum + place.bytes, 0)
    for (const id of this.residents) {
      if (used() <= room) return
      if (id !== keep) await this.drop(id)
    }
  }
}

import {
  type AquatintError,
  composite,
  decodeImage,
  encodeImage,
  type GeneratedImage,
  type GenerateStep,
  gaussianBlur,
  type Picture,
  resize,
  type StableDiffusion,
  samplerIds,
  scheduleIds,
  toRgb,
  version,
  wordMaps,
} from "../../web.ts"
import { table } from "../state/disk.ts"
import type {
  Facts,
  Job,
  Order,
  Print,
  PrintPage,
  PrintQuery,
  PromptTokens,
  Recipe,
  Studio,
  StudioEvent,
  Study,
} from "../studio/types.ts"
import { enlargedFile } from "./enlarge.ts"

/** A picture as this browser keeps it. */
interface Kept {
  readonly id: string
  readonly created: number
  readonly width: number
  readonly height: number
  readonly recipe: Recipe & { readonly seed: number }
  readonly infotext: string
  readonly picture: Blob
  readonly deleted: number | null
}

interface Waiting {
  job: Job
  /** Makes its pictures and keeps them; the ids of these. */
  readonly make: (entry: Waiting) => Promise<readonly string[]>
  readonly stop: AbortController
}

const page = 60
/** Deleted pictures can be taken back for this long, in milliseconds. */
const undoTime = 24 * 3600 * 1000
const kept = table<Kept>("prints")
const newId = () => `${Date.now().toString(36)}${crypto.getRandomValues(new Uint32Array(2)).join("")}`

/** A studio in this very tab: jobs run one after another, pictures are kept by the browser. */
export class TabStudio implements Studio {
  private readonly sd: StableDiffusion
  private readonly waiting: Waiting[] = []
  private readonly urls = new Map<string, string>()
  /** What failed, for another try in the same visit. */
  private readonly failed = new Map<string, Waiting>()
  private tell: (event: StudioEvent) => void = () => {}
  private busy = false

  constructor(sd: StableDiffusion) {
    this.sd = sd
  }

  async facts(): Promise<Facts> {
    const named = (id: string) => ({ id, name: id })
    return {
      version,
      models: [
        {
          id: this.sd.name,
          name: this.sd.name,
          family: this.sd.files.family,
          variant: "base",
          ...this.sd.defaults,
          factor: this.sd.factor,
          setAside: null,
        },
      ],
      samplers: samplerIds.map(named),
      schedules: scheduleIds.map(named),
      loras: [],
      upscalers: [{ id: "Lanczos", name: "Lanczos" }],
      can: { edit: true, feather: true },
      limits: { side: 2048, pixels: 1024 * 1024, enlarged: 2048 * 2048, prompt: 8192, steps: 150, count: 4 },
    }
  }

  async submit(order: Order): Promise<Job> {
    const { width, height } = this.sd.defaults
    const seed = order.recipe.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!
    const recipe = { width, height, ...order.recipe, seed, model: this.sd.name }
    return this.enqueue(recipe, (entry) => this.draw(entry, order))
  }

  readonly enlarge = async (id: string, factor: number): Promise<Job> => {
    const { picture, infotext, recipe } = await this.row(id)
    // it is not drawn: of its recipe only what it shows goes on
    const about = { prompt: recipe.prompt, negative: recipe.negative, seed: recipe.seed }
    return this.enqueue(about, async () => [
      await this.put({ ...(await enlargedFile(picture, factor)), recipe: about, infotext }),
    ])
  }

  private enqueue(recipe: Recipe, make: Waiting["make"]): Job {
    const job: Job = {
      id: newId(),
      state: "queued",
      recipe,
      position: this.waiting.length + 1,
      progress: 0,
      step: 0,
      steps: 0,
      phase: "wait",
      left: null,
      created: Date.now(),
      prints: [],
      error: null,
    }
    this.waiting.push({ job, make, stop: new AbortController() })
    this.tell({ type: "job", job })
    void this.run()
    return job
  }

  async cancel(id: string): Promise<void> {
    const at = this.waiting.findIndex(({ job }) => job.id === id)
    const found = this.waiting[at]
    if (!found) return
    found.stop.abort()
    if (found.job.state !== "queued") return
    this.waiting.splice(at, 1)
    this.change(found, { state: "cancelled" })
    this.places()
  }

  async again(id: string): Promise<Job> {
    const entry = this.failed.get(id)
    if (!entry) throw new Error(`no job ${id}`)
    return this.enqueue(entry.job.recipe, entry.make)
  }

  readonly move = async (id: string, before: string | null): Promise<void> => {
    const from = this.waiting.findIndex(({ job }) => job.id === id && job.state === "queued")
    if (from < 0) return
    const [moved] = this.waiting.splice(from, 1)
    const to = before === null ? -1 : this.waiting.findIndex(({ job }) => job.id === before)
    this.waiting.splice(to < 0 ? this.waiting.length : to, 0, moved!)
    this.places()
  }

  async tokens({ prompt, model = this.sd.name }: Recipe): Promise<PromptTokens> {
    if (model !== this.sd.name) throw new Error(`${model} is not open`)
    return this.sd.tokens(prompt)
  }

  /** Pictures that were drawn or enlarged from another one are not: the tab does not keep that. */
  study(print: Print) {
    if (print.recipe.strength !== undefined || print.recipe.model === undefined) return null
    return async (on: (step: number, steps: number) => void): Promise<Study> => {
      const { loras: _, more: _m, model: __, count: ___, ...ask } = print.recipe
      const steps: { step: number; picture: Blob }[] = []
      const generation = this.sd.generate(
        { ...ask, width: print.width, height: print.height },
        { attention: true },
      )
      for await (const step of generation) {
        const small = step.phase === "denoise" ? step.preview() : null
        on(step.step, step.steps)
        if (!small) continue
        const png = (await encodeImage(small, { format: "png" })) as BlobPart
        steps.push({ step: step.step, picture: new Blob([png], { type: "image/png" }) })
      }
      const { attention } = await generation
      const { width, height } = attention!
      return { width, height, words: wordMaps(attention!), steps }
    }
  }

  watch(on: (event: StudioEvent) => void): () => void {
    this.tell = on
    return () => {
      this.tell = () => {}
    }
  }

  async prints({ search, after }: PrintQuery): Promise<PrintPage> {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean)
    const all = (await kept.all()).filter((row) => {
      const text = `${row.recipe.prompt} ${row.recipe.negative ?? ""} ${row.recipe.seed} ${row.recipe.model ?? ""}`
      return row.deleted === null && words.every((word) => text.toLowerCase().includes(word))
    })
    all.sort((a, b) => b.created - a.created || (a.id < b.id ? 1 : -1))
    const begin = after ? all.findIndex(({ id }) => id === after) + 1 : 0
    const some = all.slice(begin, begin + page)
    return {
      prints: some.map((row) => this.printOf(row)),
      next: begin + page < all.length ? some.at(-1)!.id : null,
    }
  }

  async print(id: string): Promise<Print> {
    return this.printOf(await this.row(id))
  }

  async blob(print: Print): Promise<Blob> {
    return (await this.row(print.id)).picture
  }

  async remove(id: string): Promise<void> {
    await kept.put({ ...(await this.row(id)), deleted: Date.now() })
    for (const row of await kept.all())
      if (row.deleted !== null && Date.now() - row.deleted > undoTime) await kept.delete(row.id)
  }

  async restore(id: string): Promise<void> {
    await kept.put({ ...(await this.row(id)), deleted: null })
  }

  /** Gives the model's memory back. */
  async close(): Promise<void> {
    for (const { stop } of this.waiting) stop.abort()
    await this.sd.release()
  }

  private async row(id: string): Promise<Kept> {
    const row = await kept.get(id)
    if (!row) throw new Error(`no picture ${id}`)
    return row
  }

  private printOf({ id, picture, ...row }: Kept): Print {
    const url = this.urls.get(id) ?? URL.createObjectURL(picture)
    this.urls.set(id, url)
    const { width, height, created, recipe, infotext } = row
    return { id, url, thumb: url, width, height, created, recipe, infotext, format: "png" }
  }

  private change(entry: Waiting, some: Partial<Job>): void {
    entry.job = { ...entry.job, ...some }
    this.tell({ type: "job", job: entry.job })
  }

  private places(): void {
    for (const [i, entry] of this.waiting.filter(({ job }) => job.state === "queued").entries())
      this.change(entry, { position: i + 1 })
  }

  private async run(): Promise<void> {
    if (this.busy) return
    this.busy = true
    for (let entry = this.waiting[0]; entry; entry = this.waiting[0]) {
      await this.work(entry)
      this.waiting.splice(this.waiting.indexOf(entry), 1)
      this.places()
    }
    this.busy = false
  }

  private async work(entry: Waiting): Promise<void> {
    this.change(entry, { state: "running", position: 0, phase: "load" })
    try {
      const prints = await entry.make(entry)
      this.change(entry, { state: "done", progress: 1, prints })
      this.tell({ type: "prints" })
    } catch (error) {
      if (entry.stop.signal.aborted) return this.change(entry, { state: "cancelled" })
      const { code = "UNKNOWN", message, hint } = error as AquatintError
      this.change(entry, { state: "failed", error: { code, message, hint } })
      this.failed.set(entry.job.id, entry)
    }
  }

  private async draw(entry: Waiting, order: Order): Promise<string[]> {
    const began = performance.now()
    const ask = await request(entry.job, order)
    const generation = this.sd.generate(ask, { signal: entry.stop.signal })
    for await (const step of generation) await this.show(entry, step, began)
    const { images } = await generation
    const prints: string[] = []
    for (const image of images) {
      if (ask.init && ask.mask) soften(image.picture, ask.init, ask.mask, order.feather ?? 0)
      prints.push(await this.keep(entry, image))
    }
    return prints
  }

  private async show(entry: Waiting, step: GenerateStep, began: number): Promise<void> {
    const passed = (performance.now() - began) / 1000
    const left = step.progress > 0.05 ? (passed / step.progress) * (1 - step.progress) : null
    const { phase, progress, steps } = step
    this.change(entry, { phase, progress, step: step.step, steps, left })
    const small = step.preview()
    if (!small) return
    const picture = new Blob([(await encodeImage(small, { format: "png" })) as BlobPart], {
      type: "image/png",
    })
    const url = URL.createObjectURL(picture)
    this.tell({ type: "preview", id: entry.job.id, step: step.step, picture, url })
  }

  private async keep(entry: Waiting, image: GeneratedImage): Promise<string> {
    const { width, height, seed, infotext } = image
    const recipe = { ...entry.job.recipe, count: undefined, seed }
    return this.put({ width, height, recipe, infotext, picture: await image.blob("png") })
  }

  private async put(row: Omit<Kept, "id" | "created" | "deleted">): Promise<string> {
    const id = newId()
    await kept.put({ ...row, id, created: Date.now(), deleted: null })
    return id
  }
}

async function request(job: Job, order: Order) {
  const { loras: _, more: _m, model: __, ...recipe } = job.recipe
  const read = async (blob: Blob | undefined): Promise<Picture | undefined> =>
    blob && decodeImage(new Uint8Array(await blob.arrayBuffer()))
  const [init, mask] = await Promise.all([read(order.init), read(order.mask)])
  return { ...recipe, ...(init ? { init } : {}), ...(mask ? { mask } : {}) }
}

/** Lays the new picture over the old one through a soft mask, in place. */
function soften(picture: Picture, init: Picture, mask: Picture, radius: number): void {
  const { width, height } = picture
  const resized = resize(mask, width, height)
  const soft = radius > 0 ? gaussianBlur(resized, radius) : resized
  picture.data.set(composite(picture, resize(toRgb(init), width, height), soft).data)
}

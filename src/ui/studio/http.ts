import {
  type Facts,
  type Job,
  type Order,
  type Print,
  type PrintPage,
  type PrintQuery,
  type PromptTokens,
  type Recipe,
  type Studio,
  StudioError,
  type StudioEvent,
  type Study,
} from "./types.ts"
import {
  factsOf,
  jobOf,
  phaseOf,
  printOf,
  recipeOf,
  type WireImage,
  type WireInfo,
  type WireJob,
  type WireModels,
  type WirePreview,
  type WireProgress,
  type WireRequest,
  type WireStudy,
  type WireTokens,
} from "./wire.ts"

/** `aquatint serve`, as docs/api.md describes it. */
export class HttpStudio implements Studio {
  private readonly base: string
  /** Jobs as last heard of: progress events name only what changed. */
  private readonly known = new Map<string, Job>()

  constructor(base = "") {
    this.base = base
  }

  /** Whether this browser may use the server, and if not, that it wants a token. */
  async session(): Promise<{ required: boolean; client: string | null }> {
    return this.ask("GET", "/api/session")
  }

  /** Shows a token and gets a cookie for it. @throws StudioError with code of the 401 */
  async enter(token: string): Promise<void> {
    await this.ask("POST", "/api/session", { token })
  }

  async facts(): Promise<Facts> {
    const [info, models] = await Promise.all([
      this.ask<WireInfo>("GET", "/api/info"),
      this.ask<WireModels>("GET", "/api/models"),
    ])
    return factsOf(info, models)
  }

  async submit({ recipe, init, mask, feather, group }: Order): Promise<Job> {
    const [from, over] = await Promise.all([init && this.upload(init), mask && this.upload(mask)])
    const { more, ...plain } = recipe
    const request: WireRequest = {
      ...more,
      ...plain,
      loras: recipe.loras?.length ? [...recipe.loras] : undefined,
      ...(from ? { init: { upload: from } } : {}),
      ...(over ? { mask: { upload: over }, maskBlur: feather } : {}),
      ...(group ? { group } : {}),
    }
    // the same press of the button, sent twice by a shaky line, makes one job
    const key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`
    const job = await this.ask<WireJob>("POST", "/api/jobs", request, { "idempotency-key": key })
    return this.keep(jobOf(job))
  }

  async cancel(id: string): Promise<void> {
    await this.ask("DELETE", `/api/jobs/${id}`)
  }

  async again(id: string): Promise<Job> {
    const { request } = await this.ask<WireJob>("GET", `/api/jobs/${id}`)
    if (request.kind !== "enlarge") return this.submit({ recipe: recipeOf(request) })
    const { init: picture, upscalers: [upscaler] = [], to } = request
    const body = { picture, factor: to?.factor, upscaler }
    return this.keep(jobOf(await this.ask<WireJob>("POST", "/api/enlarge", body)))
  }

  readonly move = async (id: string, before: string | null): Promise<void> => {
    await this.ask("POST", `/api/jobs/${id}/move`, before === null ? { to: "last" } : { before })
  }

  async prints({ search, after }: PrintQuery): Promise<PrintPage> {
    const query = new URLSearchParams({ limit: "60" })
    if (search) query.set("search", search)
    if (after) query.set("after", after)
    const page = await this.ask<{ images: WireImage[]; next: string | null }>("GET", `/api/images?${query}`)
    return { prints: page.images.map((image) => this.print1(image)), next: page.next }
  }

  async print(id: string): Promise<Print> {
    return this.print1(await this.ask<WireImage>("GET", `/api/images/${id}`))
  }

  async blob(print: Print): Promise<Blob> {
    return (await this.send("GET", print.url.slice(this.base.length))).blob()
  }

  readonly enlarge = async (image: string, factor: number, upscaler: string): Promise<Job> => {
    const body = { picture: { image }, factor, upscaler }
    return this.keep(jobOf(await this.ask<WireJob>("POST", "/api/enlarge", body)))
  }

  async remove(id: string): Promise<void> {
    await this.ask("DELETE", `/api/images/${id}`)
  }

  async restore(id: string): Promise<void> {
    await this.ask("POST", `/api/images/${id}/restore`, {})
  }

  async tokens({ prompt: text, model, more }: Recipe): Promise<PromptTokens> {
    const body = { text, model, syntax: more?.syntax }
    const { limit, ...told } = await this.ask<WireTokens>("POST", "/api/tokens", body)
    return { ...told, room: limit }
  }

  readonly study = (print: Print) => async (on: (step: number, steps: number) => void) => {
    let job = await this.ask<WireJob>("POST", `/api/images/${print.id}/study`, {})
    while (job.state === "queued" || job.state === "running") {
      on(job.step, job.steps)
      await new Promise((done) => setTimeout(done, 400))
      job = await this.ask<WireJob>("GET", `/api/jobs/${job.id}`)
    }
    const { code, message, hint } = job.error ?? { code: "CANCELLED", message: job.state }
    if (job.state !== "done") throw new StudioError(code, message, hint)
    return studyOf(await this.ask<WireStudy>("GET", `/api/jobs/${job.id}/study`))
  }

  watch(on: (event: StudioEvent) => void): () => void {
    const source = new EventSource(`${this.base}/api/events`)
    const read = <T>(name: string, take: (data: T) => void) =>
      source.addEventListener(name, (event) => take(JSON.parse((event as MessageEvent<string>).data) as T))
    source.onopen = () => {
      on({ type: "link", up: true })
      void this.catchUp(on).catch(() => {})
    }
    source.onerror = () => on({ type: "link", up: false })
    read<WireJob>("state", (job) => isSeen(job) && on({ type: "job", job: this.keep(jobOf(job)) }))
    read<WireProgress>("progress", (progress) => this.progress(progress, on))
    read<WirePreview>("preview", ({ id, step, image }) => {
      if (!this.known.has(id)) return
      const picture = fromDataUrl(image)
      on({ type: "preview", id, step, picture, url: image })
    })
    read("images", () => on({ type: "prints" }))
    return () => source.close()
  }

  /** What happened while nobody listened. */
  private async catchUp(on: (event: StudioEvent) => void): Promise<void> {
    const { jobs } = await this.ask<{ jobs: WireJob[] }>("GET", "/api/jobs?limit=100")
    const finished = new Set(["done", "cancelled", "failed", "poisoned"])
    for (const job of jobs) {
      // what was over before this page was opened is the gallery's
      if (!isSeen(job) || (finished.has(job.state) && !this.known.has(job.id))) continue
      on({ type: "job", job: this.keep(jobOf(job)) })
    }
  }

  private progress(progress: WireProgress, on: (event: StudioEvent) => void): void {
    const before = this.known.get(progress.id)
    if (!before || before.state !== "running") return
    const { step, steps, remaining } = progress
    const phase = phaseOf(progress.phase, "running")
    const job = { ...before, progress: progress.progress, phase, step, steps, left: remaining }
    on({ type: "job", job: this.keep(job) })
  }

  private keep(job: Job): Job {
    this.known.set(job.id, job)
    return job
  }

  private print1(image: WireImage): Print {
    const print = printOf(image)
    return { ...print, url: this.base + print.url, thumb: this.base + print.thumb }
  }

  private async upload(blob: Blob): Promise<string> {
    const response = await this.send("POST", "/api/uploads", blob, {
      "content-type": blob.type || "image/png",
    })
    return ((await response.json()) as { id: string }).id
  }

  private async ask<T>(method: string, path: string, body?: object, headers: Record<string, string> = {}) {
    const json = body === undefined ? undefined : JSON.stringify(body)
    const type: Record<string, string> = json === undefined ? {} : { "content-type": "application/json" }
    const response = await this.send(method, path, json, { ...type, ...headers })
    return (response.status === 204 ? undefined : await response.json()) as T
  }

  private async send(
    method: string,
    path: string,
    body?: BodyInit,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const response = await fetch(this.base + path, { method, body, headers }).catch((error: Error) => {
      throw new StudioError("NETWORK", error.message)
    })
    if (response.ok) return response
    const answer = (await response.json().catch(() => null)) as {
      error?: { code: string; message: string; hint?: string }
    } | null
    const { code = `HTTP_${response.status}`, message = response.statusText, hint } = answer?.error ?? {}
    throw new StudioError(code, message, hint)
  }
}

/** Pictures that are drawn again to be looked at are no news. */
const isSeen = (job: WireJob) => job.source !== "study"

const studyOf = ({ width, height, words, steps }: WireStudy): Study => ({
  width,
  height,
  words: words.map(({ text, values }) => ({
    text,
    values: Uint8Array.from(atob(values), (c) => c.charCodeAt(0)),
  })),
  steps: steps.map(({ step, image }) => ({ step, picture: fromDataUrl(image) })),
})

/** Decoded by hand: the page's content policy lets no script fetch `data:` addresses. */
function fromDataUrl(url: string): Blob {
  const [head = "", base64 = ""] = url.split(",")
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))
  return new Blob([bytes], { type: /data:([^;]+)/.exec(head)?.[1] ?? "image/png" })
}

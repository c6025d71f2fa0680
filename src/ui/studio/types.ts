/** What the page needs of whatever draws for it: a server's HTTP API, or an engine in this very tab. */
export interface Studio {
  facts(): Promise<Facts>
  /** Queues one order; its job is in the list when the promise resolves. */
  submit(order: Order): Promise<Job>
  cancel(id: string): Promise<void>
  /** Queues the same once more: what failed may do better. */
  again(id: string): Promise<Job>
  /** Puts a queued job before another, or last where `before` is null. Absent where the queue's order is fixed. */
  readonly move?: (id: string, before: string | null) => Promise<void>
  /** Calls back with every job that is unfinished, whenever one changes; returns the way to stop. */
  watch(on: (event: StudioEvent) => void): () => void
  prints(query: PrintQuery): Promise<PrintPage>
  print(id: string): Promise<Print>
  /** The encoded picture, for editing, comparing and saving. */
  blob(print: Print): Promise<Blob>
  remove(id: string): Promise<void>
  /** Takes a removal back. */
  restore(id: string): Promise<void>
  /** Makes a picture larger without drawing, by one of the facts' upscalers. Absent where nothing can. */
  readonly enlarge?: (print: string, factor: number, upscaler: string) => Promise<Job>
  /** A prompt as its model reads it. @throws where that cannot be told */
  tokens(recipe: Recipe): Promise<PromptTokens>
  /** Draws a picture again, with its seed, and tells how it came about; null where that cannot be done. */
  study(print: Print): ((on: (step: number, steps: number) => void) => Promise<Study>) | null
}

export interface Facts {
  readonly version: string
  readonly models: readonly ModelFacts[]
  readonly samplers: readonly Choice[]
  readonly schedules: readonly Choice[]
  readonly loras: readonly Choice[]
  /** Ways to enlarge pictures without drawing. */
  readonly upscalers: readonly Choice[]
  readonly can: {
    readonly edit: boolean
    /** Soft seams are made by the studio. */
    readonly feather: boolean
  }
  readonly limits: {
    readonly side: number
    readonly pixels: number
    /** Pixels of a picture that is enlarged without drawing. */
    readonly enlarged: number
    readonly prompt: number
    readonly steps: number
    readonly count: number
  }
}

export interface Choice {
  readonly id: string
  readonly name: string
}

export interface ModelFacts {
  readonly id: string
  readonly name: string
  readonly family: string
  readonly variant: string
  /** Native size in pixels. */
  readonly width: number
  readonly height: number
  /** Its own choice of steps and guidance scale. */
  readonly steps: number
  readonly cfg: number
  /** Pixels per latent along a side. */
  readonly factor: number
  /** Why the model is set aside, or null. */
  readonly setAside: string | null
}

/** What a picture is asked to be; absent means the model's own choice. */
export interface Recipe {
  prompt: string
  negative?: string
  model?: string
  sampler?: string
  schedule?: string
  steps?: number
  cfg?: number
  seed?: number
  width?: number
  height?: number
  count?: number
  clipSkip?: number
  strength?: number
  rng?: "cpu" | "cuda"
  loras?: readonly LoraUse[]
  /** What else the studio was told: it goes with the next request as it is. */
  more?: Readonly<Record<string, unknown>>
}

export interface LoraUse {
  readonly id: string
  readonly weight: number
}

export interface PromptTokens {
  readonly tokens: number
  /** What the chunks in use hold, and what one chunk holds. */
  readonly room: number
  readonly perChunk: number
  readonly pieces: readonly PromptToken[]
}

export interface PromptToken {
  readonly id: number
  /** The token's letters; none where a character is cut and its rest follows. */
  readonly text: string
  /** It ends a word. */
  readonly end: boolean
  /** 1 is none. */
  readonly weight: number
}

/** A recipe with the pictures it starts from. */
export interface Order {
  readonly recipe: Recipe
  readonly init?: Blob
  readonly mask?: Blob
  /** Width of the soft seam around a repainted part, in pixels. */
  readonly feather?: number
  /** A word that marks jobs which belong together. */
  readonly group?: string
}

export type JobState = "queued" | "running" | "done" | "failed" | "cancelled"

export interface Job {
  readonly id: string
  readonly state: JobState
  readonly recipe: Recipe
  /** Place in the queue, from 1; 0 when it runs. */
  readonly position: number
  /** 0..1 over all pictures of the job. */
  readonly progress: number
  readonly step: number
  readonly steps: number
  readonly phase: "wait" | "load" | "text" | "encode" | "denoise" | "decode"
  /** Seconds left as the studio reckons, or null. */
  readonly left: number | null
  readonly created: number
  readonly prints: readonly string[]
  readonly error: { readonly code: string; readonly message: string; readonly hint?: string } | null
}

export type StudioEvent =
  | { readonly type: "job"; readonly job: Job }
  | {
      readonly type: "preview"
      readonly id: string
      readonly step: number
      readonly picture: Blob
      readonly url: string
    }
  /** Pictures came or went. */
  | { readonly type: "prints" }
  /** The connection came or went. */
  | { readonly type: "link"; readonly up: boolean }

/** A finished picture. */
export interface Print {
  readonly id: string
  readonly url: string
  readonly thumb: string
  readonly width: number
  readonly height: number
  readonly created: number
  readonly recipe: Recipe & { readonly seed: number }
  /** Generation parameters in AUTOMATIC1111's form. */
  readonly infotext: string
  /** The file's extension. */
  readonly format: string
}

export interface PrintQuery {
  readonly search: string
  readonly after?: string
}

export interface PrintPage {
  readonly prints: readonly Print[]
  /** Where the next page begins, or null at the end. */
  readonly next: string | null
}

/** How a picture came about. */
export interface Study {
  /** Sides of the latents. */
  readonly width: number
  readonly height: number
  /** Where the picture looked for each word, averaged over steps, in any unit. */
  readonly words: readonly { readonly text: string; readonly values: ArrayLike<number> }[]
  readonly steps: readonly { readonly step: number; readonly picture: Blob }[]
}

/** An error of the studio as the page shows it. */
export class StudioError extends Error {
  readonly code: string
  readonly hint: string | undefined
  constructor(code: string, message: string, hint?: string) {
    super(message)
    this.code = code
    this.hint = hint
  }
}

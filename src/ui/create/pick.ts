import type { Infotext } from "../../words.ts"
import { recipe, setStart, startFrom } from "../state/draft.ts"
import { goWrite } from "../state/route.ts"
import { complain, toast } from "../state/say.ts"
import { facts } from "../state/store.ts"
import type { Recipe } from "../studio/types.ts"
import { t } from "../text/index.ts"

/** Lets the reader choose a picture to start from. */
export async function pickPicture(): Promise<void> {
  const input = document.createElement("input")
  input.type = "file"
  input.accept = "image/png,image/jpeg,image/webp"
  const file = await new Promise<File | undefined>((done) => {
    input.onchange = () => done(input.files?.[0])
    input.oncancel = () => done(undefined)
    input.click()
  })
  if (file) await takePicture(file)
}

/** A file that was dropped, pasted or chosen becomes the start; what it says of its making is offered. */
export async function takePicture(file: Blob): Promise<void> {
  try {
    await startFrom(file)
  } catch {
    toast(t.value.start.bad, { kind: "error" })
    return
  }
  goWrite()
  const { parseInfotext, readMetadata } = await import("../../words.ts")
  const { parameters } = await readMetadata(new Uint8Array(await file.arrayBuffer())).catch(() => ({
    parameters: undefined,
  }))
  if (!parameters) return
  const found = parseInfotext(parameters)
  toast(t.value.start.reuse, {
    action: {
      label: t.value.start.reuseDo,
      run: () => {
        recipe.value = fromInfotext(found)
        setStart(null)
      },
    },
  })
}

/** A1111's parameters as a recipe; names this studio does not know are left to the model. */
export function fromInfotext(info: Infotext): Recipe {
  const known = facts.value
  const find = (list: readonly { id: string; name: string }[] | undefined, name: string | undefined) =>
    list?.find((c) => c.id === name || c.name.toLowerCase() === name?.toLowerCase())?.id
  return {
    prompt: info.prompt,
    negative: info.negativePrompt || undefined,
    steps: info.steps,
    cfg: info.cfgScale,
    seed: info.seed,
    width: info.width,
    height: info.height,
    sampler: find(known?.samplers, info.sampler),
    schedule: find(known?.schedules, info.scheduleType),
    model: find(known?.models, info.model),
    clipSkip: info.clipSkip,
    rng: info.rng === "NV" ? "cuda" : undefined,
  }
}

/** Pictures dropped anywhere on the page, or pasted; returns the way to stop. */
export function listenForPictures(over: (there: boolean) => void): () => void {
  const stop = new AbortController()
  const { signal } = stop
  const holdsFile = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false
  let depth = 0
  addEventListener("dragenter", (e) => holdsFile(e) && over(++depth > 0), { signal })
  addEventListener("dragleave", (e) => holdsFile(e) && over(--depth > 0), { signal })
  addEventListener("dragover", (e) => holdsFile(e) && e.preventDefault(), { signal })
  const take = (event: Event, files: FileList | undefined) => {
    // text that is pasted comes without files
    if (!files?.length) return
    const file = [...files].find((f) => f.type.startsWith("image/"))
    event.preventDefault()
    if (!file) return toast(t.value.start.bad, { kind: "error" })
    void takePicture(file).catch(complain)
  }
  addEventListener(
    "drop",
    (e) => {
      depth = 0
      over(false)
      if (holdsFile(e)) e.preventDefault()
      take(e, e.dataTransfer?.files)
    },
    { signal },
  )
  addEventListener("paste", (e) => take(e, e.clipboardData?.files), { signal })
  return () => stop.abort()
}

import { computed, signal } from "@preact/signals"
import type { Facts, Job, Order, Print, Recipe, Studio, StudioEvent } from "../studio/types.ts"
import { t } from "../text/index.ts"
import { complain, say, toast } from "./say.ts"
import { keepStep, settleSteps } from "./steps.ts"

let current: Studio | null = null
/** Whatever draws for this page. */
export const studio = (): Studio => {
  if (!current) throw new Error("no studio is connected")
  return current
}

export const facts = signal<Facts | null>(null)
export const jobs = signal<ReadonlyMap<string, Job>>(new Map())
/** The newest preview of each running job. */
export const previews = signal<ReadonlyMap<string, { readonly url: string; readonly step: number }>>(
  new Map(),
)
export const linked = signal(true)
/** The newest pictures, for the strip under the prompt. */
export const recent = signal<readonly Print[]>([])
/** The job whose picture is on the plate, or the picture itself. */
export const shown = signal<{ readonly job: string } | { readonly print: Print } | null>(null)

const open = (job: Job) => job.state === "queued" || job.state === "running"

/** Unfinished jobs in the order in which they run. */
export const queue = computed(() =>
  [...jobs.value.values()].filter(open).sort((a, b) => a.position - b.position || a.created - b.created),
)
/** Jobs that ended badly and are still to be looked at. */
export const failures = computed(() => [...jobs.value.values()].filter((job) => job.state === "failed"))

export const modelOf = (recipe: Pick<Recipe, "model">) =>
  facts.value?.models.find((m) => m.id === recipe.model) ?? facts.value?.models[0]

/** Everything on the page shows this studio from now on; returns the way to stop. */
export async function connect(to: Studio): Promise<() => void> {
  facts.value = await to.facts()
  current = to
  const stop = to.watch(onEvent)
  await refreshRecent().catch(complain)
  const first = recent.value[0]
  if (first && !shown.value) shown.value = { print: first }
  return stop
}

export async function refreshRecent(): Promise<void> {
  recent.value = (await studio().prints({ search: "" })).prints.slice(0, 24)
}

function onEvent(event: StudioEvent): void {
  if (event.type === "link") linked.value = event.up
  else if (event.type === "preview") showPreview(event)
  else if (event.type === "prints") void refreshRecent().catch(() => {})
  else take(event.job)
}

function showPreview({ id, step, picture, url }: Extract<StudioEvent, { type: "preview" }>): void {
  keepStep(id, step, picture)
  letGo(previews.value.get(id)?.url)
  previews.value = new Map(previews.value).set(id, { url, step })
}

/** Frees a preview that another one replaced, or that came out as a picture, once nothing reads it any more. */
function letGo(url: string | undefined): void {
  if (url?.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(url), 60_000)
}

/** Keeps a job's newest state and tells the reader what matters of the change. */
function take(job: Job): void {
  const before = jobs.value.get(job.id)
  jobs.value = new Map(jobs.value).set(job.id, job)
  if (before && before.state === job.state) return
  if (job.state === "running") onStart(job)
  else if (job.state === "done") void onDone(job).catch(complain)
  else if (job.state === "failed") {
    say(t.value.stage.failed)
    if (job.error) complain(job.error)
  } else if (job.state === "cancelled") leave(job.id)
  if (!open(job)) forgetPreview(job.id)
}

function onStart(job: Job): void {
  say(t.value.stage.started)
  const now = shown.value
  // a picture that is being looked at stays, unless the reader just asked for this one
  if (!now || ("job" in now && !jobs.value.has(now.job))) shown.value = { job: job.id }
}

async function onDone(job: Job): Promise<void> {
  say(t.value.stage.finished(job.prints.length))
  settleSteps(job)
  const first = job.prints[0]
  if (first === undefined) return
  const print = await studio().print(first)
  const now = shown.value
  if (now && "job" in now && now.job === job.id) shown.value = { print }
  await refreshRecent()
}

function forgetPreview(id: string): void {
  // the finished picture comes out of the last preview, which is let go a moment later
  setTimeout(() => {
    const rest = new Map(previews.value)
    letGo(rest.get(id)?.url)
    rest.delete(id)
    previews.value = rest
  }, 5000)
}

/** Queues an order and puts it on the plate; undefined where it was refused. */
export const submit = (order: Order, show = true): Promise<Job | undefined> =>
  enqueue(() => studio().submit(order), show)

/** Does the same for a job that another call makes. */
export async function enqueue(make: () => Promise<Job>, show = true): Promise<Job | undefined> {
  try {
    const job = await make()
    if (!jobs.value.has(job.id)) take(job)
    // while another picture is drawn, that one is to be seen
    const first = queue.value[0]
    if (show) shown.value = { job: first?.state === "running" ? first.id : job.id }
    return job
  } catch (error) {
    complain(error)
    return undefined
  }
}

export function dismissJob(id: string): void {
  const rest = new Map(jobs.value)
  rest.delete(id)
  jobs.value = rest
  leave(id)
}

/** Where a job that leads to no picture was shown, the next one is, or else the newest picture. */
function leave(id: string): void {
  const now = shown.value
  if (!now || !("job" in now) || now.job !== id) return
  const [next] = queue.value
  const [print] = recent.value
  shown.value = next ? { job: next.id } : print ? { print } : null
}

/** Deletes pictures at once, and offers to take it back. */
export async function removePrints(ids: readonly string[], after: () => void = () => {}): Promise<void> {
  await Promise.all(ids.map((id) => studio().remove(id)))
  const now = shown.value
  await refreshRecent()
  if (now && "print" in now && ids.includes(now.print.id))
    shown.value = recent.value[0] ? { print: recent.value[0] } : null
  after()
  const undo = async () => {
    await Promise.all(ids.map((id) => studio().restore(id)))
    await refreshRecent()
    if (now) shown.value = now
    after()
    say(t.value.gallery.restored)
  }
  say(t.value.gallery.removed(ids.length))
  toast(t.value.gallery.removed(ids.length), {
    action: { label: t.value.gallery.undo, run: () => void undo().catch(complain) },
  })
}

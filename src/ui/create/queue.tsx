import { Button } from "../parts/controls.tsx"
import { doing, say } from "../state/say.ts"
import { previews, queue, shown, studio } from "../state/store.ts"
import type { Job } from "../studio/types.ts"
import { t } from "../text/index.ts"
import { phaseText } from "./stage.tsx"

/** Jobs that run and wait, with the ways to cancel them and to change their order. */
export function Queue() {
  const list = queue.value
  const now = shown.value
  // the only one is on the plate already
  if (list.length === 0 || (list.length === 1 && now && "job" in now && now.job === list[0]!.id)) return null
  const waiting = list.filter((job) => job.state === "queued")
  const pictures = waiting.reduce((sum, job) => sum + (job.recipe.count ?? 1), 0)
  return (
    <section class="panel queue" aria-labelledby="queue-title">
      <header>
        <h2 id="queue-title">{t.value.queue.title}</h2>
        {pictures > 0 && <span class="soft">{t.value.queue.waiting(pictures)}</span>}
      </header>
      <ol>
        {list.map((job) => (
          <Row key={job.id} job={job} waiting={waiting} />
        ))}
      </ol>
    </section>
  )
}

function Row({ job, waiting }: { job: Job; waiting: readonly Job[] }) {
  const words = t.value.queue
  const name = job.recipe.prompt
  const place = waiting.indexOf(job)
  const preview = previews.value.get(job.id)?.url
  const drop = (event: DragEvent) => {
    const id = event.dataTransfer?.getData("text/aquatint-job")
    if (!id || id === job.id) return
    event.preventDefault()
    doing(studio().move?.(id, job.id) ?? Promise.resolve())
  }
  const movable = place >= 0 && waiting.length > 1 && studio().move !== undefined
  return (
    <li
      class={`queue-row ${job.state}`}
      draggable={movable}
      onDragStart={(event) => event.dataTransfer?.setData("text/aquatint-job", job.id)}
      onDragOver={(event) =>
        event.dataTransfer?.types.includes("text/aquatint-job") && event.preventDefault()
      }
      onDrop={drop}
    >
      <button type="button" class="queue-name" onClick={() => (shown.value = { job: job.id })}>
        <span class="queue-mark" aria-hidden="true">
          {preview ? <img src={preview} alt="" /> : place >= 0 ? place + 1 : ""}
        </span>
        <span class="queue-text">
          <span class="line">{name}</span>
          <span class="soft line">{job.state === "queued" ? words.wait : phaseText(job)}</span>
        </span>
      </button>
      {movable && <Moves job={job} waiting={waiting} />}
      <Button
        kind="quiet"
        icon="close"
        label={words.cancel(name)}
        onClick={() => doing(studio().cancel(job.id))}
      />
    </li>
  )
}

/** One place up or down. */
function Moves({ job, waiting }: { job: Job; waiting: readonly Job[] }) {
  const words = t.value.queue
  const name = job.recipe.prompt
  const place = waiting.indexOf(job)
  const move = async (to: number) => {
    // moving down is moving before the one after the next
    const rest = waiting.filter((other) => other !== job)
    await studio().move?.(job.id, rest[to]?.id ?? null)
    say(words.moved(name, to + 1))
  }
  const one = (icon: "up" | "down", label: string, to: number) => (
    <Button
      kind="quiet"
      icon={icon}
      label={label}
      disabled={to < 0 || to === waiting.length}
      onClick={() => doing(move(to))}
    />
  )
  return (
    <span class="queue-moves">
      {one("up", words.up(name), place - 1)}
      {one("down", words.down(name), place + 1)}
    </span>
  )
}

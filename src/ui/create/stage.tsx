import { PrintActions } from "../gallery/actions.tsx"
import { Button } from "../parts/controls.tsx"
import { Plate } from "../plate/plate.tsx"
import { recipe, start } from "../state/draft.ts"
import { doing, inWords } from "../state/say.ts"
import { dismissJob, enqueue, jobs, modelOf, previews, shown, studio } from "../state/store.ts"
import type { Job } from "../studio/types.ts"
import { span, t } from "../text/index.ts"

/** The picture that matters now: on its way, finished, or none yet. */
export function Stage() {
  const now = shown.value
  if (now && "print" in now) {
    const { print } = now
    return (
      <figure class="stage">
        <Plate
          key="plate"
          width={print.width}
          height={print.height}
          picture={print.url}
          preview={null}
          progress={null}
          label={t.value.plate.done(print.recipe.prompt)}
        />
        <figcaption>
          <PrintActions print={print} />
        </figcaption>
      </figure>
    )
  }
  const job = now && jobs.value.get(now.job)
  if (job && job.state !== "cancelled") return <Drawing job={job} />
  return <Empty />
}

function Empty() {
  const model = modelOf(recipe.value)
  const { width, height } = recipe.value
  const from = start.value
  return (
    <figure class="stage">
      <Plate
        key="plate"
        width={width ?? from?.width ?? model?.width ?? 512}
        height={height ?? from?.height ?? model?.height ?? 512}
        picture={null}
        preview={null}
        progress={null}
        label={t.value.plate.idle}
      />
      <figcaption>
        <p class="motto">{t.value.tagline}</p>
      </figcaption>
    </figure>
  )
}

function Drawing({ job }: { job: Job }) {
  const { width, height } = job.recipe
  const model = modelOf(job.recipe)
  const failed = job.state === "failed"
  return (
    <figure class="stage">
      <Plate
        key="plate"
        width={width ?? model?.width ?? 512}
        height={height ?? model?.height ?? 512}
        picture={null}
        preview={previews.value.get(job.id)?.url ?? null}
        progress={failed ? 0 : job.progress}
        label={t.value.plate.drawing}
      />
      <figcaption>{failed ? <Failed job={job} /> : <Progress job={job} />}</figcaption>
    </figure>
  )
}

/** What happens at the moment, in words. */
export function phaseText(job: Job): string {
  const { stage } = t.value
  if (job.state === "queued") return stage.wait
  if (job.phase === "denoise" && job.steps > 0) return stage.denoise(job.step, job.steps)
  if (job.phase === "denoise") return stage.text
  return stage[job.phase]
}

function Progress({ job }: { job: Job }) {
  const text = phaseText(job)
  const left = job.left !== null && job.state === "running" ? t.value.stage.left(span(job.left)) : ""
  return (
    <div class="progress">
      <div
        class={`bar ${job.state === "running" && job.step > 0 ? "" : "waiting"}`}
        role="progressbar"
        aria-label={t.value.plate.drawing}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(job.progress * 100)}
        aria-valuetext={[text, left].filter(Boolean).join(", ")}
      >
        <span style={{ width: `${job.progress * 100}%` }} />
      </div>
      <div class="progress-line">
        <span class="figures">{text}</span>
        <span class="soft figures">{left}</span>
        <span class="grow" />
        <Button label={t.value.cancel} icon="close" onClick={() => doing(studio().cancel(job.id))} />
      </div>
    </div>
  )
}

function Failed({ job }: { job: Job }) {
  const { queue, stage } = t.value
  const { message, hint } = inWords(job.error ?? {})
  return (
    <div class="failed" role="alert">
      <p>
        <strong>{stage.failed}</strong> {message}
      </p>
      {hint && <p class="soft">{hint}</p>}
      <div class="row">
        <Button
          label={queue.again}
          icon="reuse"
          onClick={() => {
            dismissJob(job.id)
            void enqueue(() => studio().again(job.id))
          }}
        />
        <Button label={t.value.error.dismiss} onClick={() => dismissJob(job.id)} />
      </div>
    </div>
  )
}

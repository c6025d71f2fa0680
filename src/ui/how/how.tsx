import { useComputed, useSignal } from "@preact/signals"
import type { ComponentChildren } from "preact"
import { useEffect, useState } from "preact/hooks"
import { type PromptToken, readTokens } from "../create/tokens.ts"
import { usePrint } from "../gallery/use-print.ts"
import { Missing } from "../gallery/view.tsx"
import { Button } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { calm } from "../state/prefs.ts"
import { go, link } from "../state/route.ts"
import { stepsOf } from "../state/steps.ts"
import { jobs, previews, studio, submit } from "../state/store.ts"
import type { Attention, Print } from "../studio/types.ts"
import { number, t } from "../text/index.ts"
import { AttentionMaps } from "./attention.tsx"

/** How a sentence became this picture: tokens, noise, steps, decoder. */
export function How({ id }: { id: string | undefined }) {
  const print = usePrint(id)
  if (print === null) return <Missing />
  return print ? <Story key={print.id} print={print} /> : null
}

interface Frame {
  readonly step: number
  readonly url: string
}

/** Tokens, kept steps and attention of a picture, as they arrive. */
function useStudy(print: Print) {
  const [tokens, setTokens] = useState<readonly PromptToken[]>([])
  const [frames, setFrames] = useState<readonly Frame[] | null>(null)
  const [attention, setAttention] = useState<Attention | null>(null)
  useEffect(() => {
    let urls: string[] = []
    void readTokens(print.recipe.prompt).then(setTokens, () => {})
    void stepsOf(print.id)
      .catch(() => undefined)
      .then((kept) => {
        const made = (kept?.steps ?? []).map(({ step, picture }) => ({
          step,
          url: URL.createObjectURL(picture),
        }))
        urls = made.map(({ url }) => url)
        setFrames(made)
      })
    void studio()
      .attention?.(print)
      .then(setAttention, () => {})
    return () => {
      for (const url of urls) URL.revokeObjectURL(url)
    }
  }, [print.id])
  return { tokens, frames, attention }
}

function Story({ print }: { print: Print }) {
  const { tokens, frames, attention } = useStudy(print)
  const words = t.value.how
  return (
    <article class="view how" aria-labelledby="how-title">
      <header class="how-head">
        <a class="button" href={link("print", print.id)}>
          <Icon name="left" />
          <span>{t.value.back}</span>
        </a>
        <h1 id="how-title">{words.title}</h1>
        <p class="soft">{words.intro}</p>
      </header>
      <Chapter number={1} title={words.words} text={words.wordsText}>
        <blockquote>{print.recipe.prompt}</blockquote>
        <Tokens tokens={tokens} />
      </Chapter>
      <Chapter number={2} title={words.noise} text={words.noiseText}>
        <p class="seed">
          {words.seed} <strong class="figures">{print.recipe.seed}</strong>
        </p>
        {frames && (frames.length > 0 ? <Film frames={frames} print={print} /> : <Again print={print} />)}
      </Chapter>
      <Chapter number={3} title={words.attention} text={words.attentionText}>
        {attention ? (
          <AttentionMaps attention={attention} print={print} />
        ) : (
          <p class="note">{words.attentionNone}</p>
        )}
      </Chapter>
      <Chapter
        number={4}
        title={words.decode}
        text={words.decodeText(
          print.width,
          print.height,
          Math.round(print.width / 8),
          Math.round(print.height / 8),
        )}
      >
        <div class="decode">
          {frames?.at(-1) && (
            <img class="latent" src={frames.at(-1)!.url} alt={words.step(frames.length, frames.length)} />
          )}
          {frames?.at(-1) && <Icon name="right" size={28} />}
          <img src={print.url} alt={words.final} />
        </div>
      </Chapter>
    </article>
  )
}

const Chapter = (props: { number: number; title: string; text: string; children: ComponentChildren }) => (
  <section class="chapter" aria-labelledby={`chapter-${props.number}`}>
    <div class="chapter-text">
      <span class="numeral" aria-hidden="true">
        {["", "I", "II", "III", "IV"][props.number]}
      </span>
      <h2 id={`chapter-${props.number}`}>{props.title}</h2>
      <p>{props.text}</p>
    </div>
    <div class="chapter-body">{props.children}</div>
  </section>
)

const Tokens = ({ tokens }: { tokens: readonly PromptToken[] }) => (
  <ol class="tokens">
    {tokens.map((token, i) => (
      <li
        key={`${i}-${token.id}`}
        class={token.end ? "" : "joined"}
        style={{ "--tone": `${(token.id * 47) % 360}` }}
        title={t.value.how.token(token.text, token.id)}
      >
        <span>{token.text}</span>
        <small class="figures">{token.id}</small>
        {token.weight !== 1 && <em class="figures">×{number(token.weight, 2)}</em>}
      </li>
    ))}
  </ol>
)

/** The estimates as a film: a large one, and a slider through all of them. */
function Film({ frames, print }: { frames: readonly Frame[]; print: Print }) {
  const at = useSignal(frames.length - 1)
  const playing = useSignal(false)
  const words = t.value.how
  useEffect(() => {
    if (!playing.value) return
    const timer = setInterval(() => {
      if (at.value >= frames.length - 1) playing.value = false
      else at.value++
    }, 260)
    return () => clearInterval(timer)
  }, [playing.value])
  const play = () => {
    if (!playing.value && at.value >= frames.length - 1) at.value = 0
    playing.value = !playing.value
  }
  const label = useComputed(() => t.value.how.step(at.value + 1, frames.length))
  return (
    <div class="film">
      <img
        class="latent"
        src={frames[at.value]!.url}
        alt={label.value}
        style={{ aspectRatio: `${print.width} / ${print.height}` }}
      />
      <div class="film-controls">
        {!calm.value && (
          <Button
            kind="quiet"
            icon={playing.value ? "pause" : "play"}
            label={playing.value ? words.pause : words.play}
            onClick={play}
          />
        )}
        <input
          type="range"
          min={0}
          max={frames.length - 1}
          value={at.value}
          aria-label={words.stepLabel}
          aria-valuetext={label.value}
          style={{ "--at": `${(at.value / Math.max(1, frames.length - 1)) * 100}%` }}
          onInput={(event) => {
            playing.value = false
            at.value = Number(event.currentTarget.value)
          }}
        />
        <output class="soft">{label.value}</output>
      </div>
    </div>
  )
}

/** Draws the same picture once more, this time keeping what lies between. */
function Again({ print }: { print: Print }) {
  const job = useSignal<string | null>(null)
  const state = job.value ? jobs.value.get(job.value) : undefined
  const done = state?.state === "done" ? state.prints[0] : undefined
  useEffect(() => {
    if (done) setTimeout(() => go("how", done), 400)
  }, [done])
  const words = t.value.how
  const draw = async () => {
    const made = await submit({ recipe: { ...print.recipe, count: 1 } }, false)
    job.value = made?.id ?? null
  }
  const preview = job.value ? previews.value.get(job.value)?.url : undefined
  return (
    <div class="note">
      <p>{words.noSteps}</p>
      {preview && <img class="latent" src={preview} alt={t.value.plate.drawing} />}
      {print.recipe.strength === undefined && (
        <Button
          icon="play"
          label={words.again}
          class="outlined"
          disabled={job.value !== null}
          onClick={() => void draw()}
        />
      )}
    </div>
  )
}

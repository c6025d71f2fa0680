import { type Signal, useComputed, useSignal } from "@preact/signals"
import type { ComponentChildren } from "preact"
import { useEffect, useState } from "preact/hooks"
import { usePrint } from "../gallery/use-print.ts"
import { Missing } from "../gallery/view.tsx"
import { Button } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { calm } from "../state/prefs.ts"
import { link } from "../state/route.ts"
import { doing } from "../state/say.ts"
import type { Size } from "../state/sizes.ts"
import { type Steps, stepsOf } from "../state/steps.ts"
import { facts, studio } from "../state/store.ts"
import type { Print, PromptToken, Study } from "../studio/types.ts"
import { number, t } from "../text/index.ts"
import { AttentionMaps } from "./attention.tsx"

/** How a sentence became this picture: tokens, noise, steps, decoder. */
export function How({ id }: { id: string | undefined }) {
  const print = usePrint(id)
  if (print === null) return <Missing />
  return print ? <Story key={print.id} print={print} /> : null
}

type Step = Steps["steps"][number]

interface Frame {
  readonly step: number
  readonly url: string
}

/** Studies of this visit: drawing a picture again takes as long as drawing it. */
const studied = new Map<string, Study>()

/** Tokens and kept steps of a picture, and what drawing it again shows, as they arrive. */
function useStudy(print: Print) {
  const [tokens, setTokens] = useState<readonly PromptToken[]>([])
  const [kept, setKept] = useState<readonly Step[] | null>(null)
  const [study, setStudy] = useState<Study | null>(studied.get(print.id) ?? null)
  useEffect(() => {
    // a model that is not there any more cannot be asked
    void studio()
      .tokens(print.recipe)
      .then(
        ({ pieces }) => setTokens(pieces),
        () => {},
      )
    void stepsOf(print.id)
      .catch(() => undefined)
      .then((found) => setKept(found?.steps ?? []))
  }, [print.id])
  const keep = (made: Study) => {
    studied.set(print.id, made)
    setStudy(made)
  }
  const frames = useFrames(study?.steps ?? kept)
  return { tokens, frames, study, keep }
}

/** Pictures with addresses that end with the view. */
function useFrames(steps: readonly Step[] | null): readonly Frame[] | null {
  const [frames, setFrames] = useState<readonly Frame[] | null>(null)
  useEffect(() => {
    if (!steps) return
    const made = steps.map(({ step, picture }) => ({ step, url: URL.createObjectURL(picture) }))
    setFrames(made)
    return () => {
      for (const { url } of made) URL.revokeObjectURL(url)
    }
  }, [steps])
  return frames
}

/** Sides of the latents that the decoder read; null where that is not known any more. */
function latentsOf({ width, height, recipe }: Print, study: Study | null): Size | null {
  const factor = facts.value?.models.find(({ id }) => id === recipe.model)?.factor
  if (factor === undefined) return study
  return { width: Math.round(width / factor), height: Math.round(height / factor) }
}

function Story({ print }: { print: Print }) {
  const { tokens, frames, study, keep } = useStudy(print)
  const latents = latentsOf(print, study)
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
        {frames && frames.length > 0 && <Film key={frames.length} frames={frames} print={print} />}
        {frames && frames.length === 0 && <p class="note">{words.noSteps}</p>}
      </Chapter>
      <Chapter number={3} title={words.attention} text={words.attentionText}>
        {study ? <AttentionMaps study={study} print={print} /> : <Again print={print} keep={keep} />}
      </Chapter>
      <Chapter
        number={4}
        title={words.decode}
        text={
          latents
            ? words.decodeText(print.width, print.height, latents.width, latents.height)
            : words.decodePlain
        }
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
        <span>{token.text || "…"}</span>
        <small class="figures">{token.id}</small>
        {token.weight !== 1 && <em class="figures">×{number(token.weight, 2)}</em>}
      </li>
    ))}
  </ol>
)

/** The estimates as a film: a large one, and a slider through all of them. */
function Film({ frames, print }: { frames: readonly Frame[]; print: Print }) {
  const at = useSignal(frames.length - 1)
  const { playing, play } = usePlayer(at, frames.length)
  const words = t.value.how
  // a step that went by unseen has no frame
  const label = useComputed(() => t.value.how.step(frames[at.value]!.step, frames.at(-1)!.step))
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

/** Walks through the frames while it plays; from the start when it stands at the end. */
function usePlayer(at: Signal<number>, count: number) {
  const playing = useSignal(false)
  useEffect(() => {
    if (!playing.value) return
    const timer = setInterval(() => {
      if (at.value >= count - 1) playing.value = false
      else at.value++
    }, 260)
    return () => clearInterval(timer)
  }, [playing.value])
  const play = () => {
    if (!playing.value && at.value >= count - 1) at.value = 0
    playing.value = !playing.value
  }
  return { playing, play }
}

/** Draws the same picture once more, this time watching where its words look. */
function Again({ print, keep }: { print: Print; keep: (study: Study) => void }) {
  const at = useSignal<{ step: number; steps: number } | null>(null)
  const words = t.value.how
  const run = studio().study(print)
  // what has no model was enlarged without one
  if (print.recipe.model === undefined) return <p class="note">{words.attentionEnlarged}</p>
  if (!run) return <p class="note">{words.attentionNone}</p>
  const draw = async () => {
    at.value = { step: 0, steps: 0 }
    try {
      keep(
        await run((step, steps) => {
          at.value = { step, steps }
        }),
      )
    } finally {
      at.value = null
    }
  }
  const { step, steps } = at.value ?? { step: 0, steps: 0 }
  return (
    <div class="note">
      <p>{words.attentionAgain}</p>
      <Button
        icon="play"
        label={words.again}
        class="outlined"
        disabled={at.value !== null}
        onClick={() => doing(draw())}
      />
      <output aria-live="polite">
        {at.value && (steps > 0 ? words.step(step, steps) : t.value.plate.drawing)}
      </output>
    </div>
  )
}

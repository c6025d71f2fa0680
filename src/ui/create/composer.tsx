import { type Signal, useSignal } from "@preact/signals"
import type { RefObject } from "preact"
import { useEffect, useRef } from "preact/hooks"
import { Button } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { change, changed, currentOrder, recipe, resetRecipe, start } from "../state/draft.ts"
import { complain, say, toast } from "../state/say.ts"
import { modelOf, queue, submit } from "../state/store.ts"
import type { Recipe } from "../studio/types.ts"
import { number, t } from "../text/index.ts"
import { pickPicture } from "./pick.ts"
import { settingsOpen } from "./settings.tsx"
import { StartCard } from "./start.tsx"
import { promptTokens } from "./tokens.ts"
import { weigh } from "./weigh.ts"

/** What the reader would like to see, and the one button. */
export function Composer() {
  const box = useRef<HTMLTextAreaElement>(null)
  const busy = useSignal(false)
  const marked = useSignal(false)
  const { prompt, ...words } = t.value
  const run = async () => {
    if (!recipe.value.prompt.trim()) {
      say(words.empty)
      toast(words.empty)
      return box.current?.focus()
    }
    busy.value = true
    await currentOrder()
      .then(submit, complain)
      .finally(() => {
        busy.value = false
      })
  }
  return (
    <form
      class="composer"
      aria-label={prompt.label}
      onSubmit={(event) => {
        event.preventDefault()
        void run()
      }}
    >
      <StartCard />
      <PromptBox box={box} marked={marked} run={run} />
      <Changes />
      <Foot busy={busy.value} marked={marked.value} />
    </form>
  )
}

interface PromptBoxProps {
  readonly box: RefObject<HTMLTextAreaElement | null>
  /** Words are selected. */
  readonly marked: Signal<boolean>
  readonly run: () => Promise<void>
}

/** The sentence: it grows with its text, weighs selected words, and is drawn by Ctrl or Cmd with Enter. */
function PromptBox({ box, marked, run }: PromptBoxProps) {
  const { prompt, ...words } = t.value
  const text = recipe.value.prompt
  useEffect(() => grow(box.current), [text])
  const keys = (event: KeyboardEvent) => {
    if (!event.ctrlKey && !event.metaKey) return
    if (event.key === "Enter") {
      event.preventDefault()
      void run()
    }
    const up = event.key === "ArrowUp"
    if (up || event.key === "ArrowDown") weighSelection(event, box.current!, up)
  }
  return (
    <>
      <label class="unseen" for="prompt">
        {prompt.label}
      </label>
      <textarea
        id="prompt"
        ref={box}
        rows={2}
        maxLength={8192}
        value={text}
        placeholder={prompt.placeholder}
        aria-describedby="prompt-help"
        aria-keyshortcuts="Control+Enter Meta+Enter"
        onInput={(event) => change({ prompt: event.currentTarget.value })}
        onKeyDown={keys}
        onSelect={({ currentTarget: at }) => (marked.value = at.selectionStart !== at.selectionEnd)}
        onBlur={() => (marked.value = false)}
      />
      <span id="prompt-help" class="unseen">
        {prompt.weights}. {words.generateHint}: {words.generate}.
      </span>
    </>
  )
}

/** Settings, a start picture, an example, the length, and the one button. */
function Foot({ busy, marked }: { busy: boolean; marked: boolean }) {
  const words = t.value
  return (
    <div class="composer-foot">
      <Button
        icon="sliders"
        label={words.settings.title}
        onClick={() => (settingsOpen.value = !settingsOpen.value)}
        expanded={settingsOpen.value}
        controls="settings"
      />
      {!start.value && (
        <Button
          icon="image"
          label={words.start.short}
          hint={words.start.title}
          onClick={() => void pickPicture().catch(complain)}
        />
      )}
      {!recipe.value.prompt && <Example />}
      <span class="grow" />
      {marked && (
        <span class="keys" aria-hidden="true">
          {words.prompt.weighKeys}
        </span>
      )}
      <Counter />
      <button type="submit" class="button main" title={words.generateHint} aria-busy={busy}>
        {queue.value.length > 0 ? words.queueAnother : words.generate}
      </button>
    </div>
  )
}

function grow(box: HTMLTextAreaElement | null): void {
  if (!box) return
  box.style.height = "auto"
  box.style.height = `${Math.min(box.scrollHeight, 220)}px`
}

function weighSelection(event: KeyboardEvent, box: HTMLTextAreaElement, up: boolean): void {
  const done = weigh(box.value, box.selectionStart, box.selectionEnd, up)
  event.preventDefault()
  if (!done) return
  // insertText keeps the browser's own undo
  box.select()
  if (!document.execCommand("insertText", false, done.text)) box.value = done.text
  change({ prompt: done.text })
  box.setSelectionRange(done.start, done.end)
  say(t.value.prompt.weighed(done.words, number(done.weight, 2)))
}

let turn = Math.floor(Math.random() * 100)

function Example() {
  const { example, ownExamples, ...words } = t.value.prompt
  const examples = modelOf(recipe.value)?.name.startsWith("embedded") ? ownExamples : words.examples
  return (
    <Button
      icon="spark"
      label={example}
      class="example"
      onClick={() => {
        change({ prompt: examples[turn++ % examples.length] })
        document.getElementById("prompt")?.focus()
      }}
    />
  )
}

function Counter() {
  const known = promptTokens.value
  if (!known) return null
  const { tokens, room, perChunk } = known
  const label = t.value.prompt.tokens(tokens, room)
  return (
    <span class={`counter figures ${tokens > perChunk ? "long" : ""}`} title={label}>
      <span aria-hidden="true">
        {tokens}
        <span class="of">/{room}</span>
      </span>
      <span class="unseen">{label}</span>
    </span>
  )
}

/** What differs from the model's choice, each to be taken back by a press. */
function Changes() {
  const keys = changed.value
  if (keys.length === 0) return null
  const { settings } = t.value
  const sized = keys.includes("width") || keys.includes("height")
  const rest = keys.filter((key) => key !== "width" && key !== "height")
  const chip = (key: string, text: string, back: Partial<Recipe>) => (
    <li key={key}>
      <button type="button" class="chip" aria-label={settings.changed(text)} onClick={() => change(back)}>
        <span>{text}</span>
        <Icon name="close" size={14} />
      </button>
    </li>
  )
  const native = modelOf(recipe.value)
  const { width = native?.width, height = native?.height } = recipe.value
  return (
    <ul class="chips" aria-label={settings.title}>
      {sized && chip("size", `${width} × ${height}`, { width: undefined, height: undefined })}
      {rest.map((key) => chip(key, chipText(key), { [key]: undefined }))}
      {keys.length > 2 && (
        <li>
          <button type="button" class="chip reset" onClick={resetRecipe}>
            {settings.reset}
          </button>
        </li>
      )}
    </ul>
  )
}

function chipText(key: keyof Recipe): string {
  const value = recipe.value[key]
  const { settings } = t.value
  const names: Partial<Record<keyof Recipe, string>> = {
    negative: settings.negative,
    count: settings.count,
    seed: settings.seed,
    steps: settings.steps,
    cfg: settings.guidance,
    sampler: settings.sampler,
    schedule: settings.schedule,
    clipSkip: settings.clipSkip,
    rng: settings.rng,
    model: settings.model,
  }
  if (key === "more") {
    const keys = Object.keys(recipe.value.more ?? {})
    const start = keys.includes("init")
    const others = keys.some((name) => !["init", "strength"].includes(name))
    return [start && settings.moreStart, others && settings.moreOther].filter(Boolean).join(", ")
  }
  if (key === "loras") return (recipe.value.loras ?? []).map((l) => l.id).join(", ")
  if (key === "negative") return names.negative!
  return `${names[key] ?? key} ${String(value)}`
}

import { useSignal } from "@preact/signals"
import { useEffect, useState } from "preact/hooks"
import { Missing } from "../gallery/view.tsx"
import { Button, Slider } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { fittingSize, recipe, start, unstarted } from "../state/draft.ts"
import { go, link } from "../state/route.ts"
import { complain, doing, toast } from "../state/say.ts"
import { grain } from "../state/sizes.ts"
import { facts, studio, submit } from "../state/store.ts"
import type { Recipe } from "../studio/types.ts"
import { number, t } from "../text/index.ts"
import { MaskCanvas } from "./canvas.tsx"
import { type Act, maskFile, resizedFile } from "./mask.ts"

/** A picture to be edited: from the gallery, or the one that was dropped. */
export interface Source {
  readonly blob: Blob
  readonly url: string
  readonly bitmap: ImageBitmap
  readonly recipe: Recipe
}

/** Fetches what is to be edited; undefined meanwhile, null where it is not there. */
export function useSource(id: string | undefined): Source | null | undefined {
  const [source, setSource] = useState<Source | null | undefined>()
  useEffect(() => {
    let url = ""
    let gone = false
    const load = async (): Promise<Source> => {
      const print = id === "start" ? null : await studio().print(id ?? "")
      const blob = print ? await studio().blob(print) : start.value!.blob
      const bitmap = await createImageBitmap(blob)
      url = URL.createObjectURL(blob)
      return { blob, url, bitmap, recipe: print?.recipe ?? recipe.value }
    }
    load().then(
      (made) => (gone ? URL.revokeObjectURL(url) : setSource(made)),
      () => setSource(null),
    )
    return () => {
      gone = true
      if (url) URL.revokeObjectURL(url)
    }
  }, [id])
  return source
}

/** What an edit keeps of the recipe a picture was made with. */
export const basis = ({ strength: _, seed: __, count: ___, ...rest }: Recipe): Recipe => unstarted(rest)

export function EditHead({ title, id }: { title: string; id: string }) {
  return (
    <header class="view-head">
      <a class="button" href={id === "start" ? link() : link("print", id)}>
        <Icon name="left" />
        <span>{t.value.back}</span>
      </a>
      <h1 id="edit-title">{title}</h1>
    </header>
  )
}

/** Painting over a part of a picture, to have it drawn anew. */
export function Editor({ id = "" }: { id: string | undefined }) {
  const source = useSource(id)
  if (source === null) return <Missing />
  return source ? <Repaint key={id} source={source} id={id} /> : null
}

function Repaint({ source, id }: { source: Source; id: string }) {
  const acts = useSignal<readonly Act[]>([])
  const undone = useSignal<readonly Act[]>([])
  const erasing = useSignal(false)
  const { width, height } = source.bitmap
  const brush = useSignal(Math.round(Math.max(width, height) / 9))
  const prompt = useSignal(source.recipe.prompt)
  const soft = grain(Math.max(width, height))
  const feather = useSignal(2 * Math.round(soft / 10.6))
  const strength = useSignal(0.85)
  const words = t.value.edit
  const act = (next: Act) => {
    acts.value = [...acts.value, next]
    undone.value = []
  }
  const run = async () => {
    const size = fittingSize(width, height, facts.value?.limits.side ?? 2048)
    const mask = await maskFile({ width, height }, acts.value)
    if (!mask) return toast(words.nothing)
    const same = size.width === width && size.height === height
    const init = same ? source.blob : await resizedFile(source.bitmap, size)
    const next = { ...basis(source.recipe), ...size, prompt: prompt.value, strength: strength.value }
    const job = await submit({ recipe: next, init, mask, feather: feather.value })
    if (job) go("create")
  }
  return (
    <section class="view edit" aria-labelledby="edit-title">
      <EditHead title={words.title} id={id} />
      <div class="print-body">
        <div class="print-picture">
          <MaskCanvas
            size={{ width, height }}
            url={source.url}
            acts={acts}
            erasing={erasing.value}
            brush={brush.value}
            onAct={act}
          />
          <Tools acts={acts} undone={undone} erasing={erasing} onAct={act} />
        </div>
        <aside class="panel">
          <EditPrompt value={prompt.value} onChange={(v) => (prompt.value = v)} />
          <Slider
            label={words.size}
            value={brush.value}
            rest={60}
            min={4}
            max={Math.round(Math.max(width, height) / 3)}
            step={1}
            show={(v) => words.by(v)}
            onChange={(v) => (brush.value = v)}
          />
          {facts.value?.can.feather && (
            <Slider
              label={words.feather}
              value={feather.value}
              rest={feather.value}
              min={0}
              max={soft}
              step={2}
              show={(v) => words.by(v)}
              onChange={(v) => (feather.value = v)}
            />
          )}
          <Slider
            label={words.strength}
            value={strength.value}
            rest={0.85}
            min={0.1}
            max={1}
            step={0.05}
            show={(v) => `${number(v * 100)} %`}
            onChange={(v) => (strength.value = v)}
          />
          <Button kind="main" label={words.go} onClick={() => doing(run().catch(complain))} />
        </aside>
      </div>
    </section>
  )
}

export const EditPrompt = ({ value, onChange }: { value: string; onChange: (value: string) => void }) => (
  <div class="field">
    <label for="edit-prompt">{t.value.edit.prompt}</label>
    <textarea
      id="edit-prompt"
      class="text"
      rows={3}
      maxLength={8192}
      value={value}
      onInput={(event) => onChange(event.currentTarget.value)}
    />
  </div>
)

interface ToolsProps {
  readonly acts: { value: readonly Act[] }
  readonly undone: { value: readonly Act[] }
  readonly erasing: { value: boolean }
  readonly onAct: (act: Act) => void
}

function Tools({ acts, undone, erasing, onAct }: ToolsProps) {
  const words = t.value.edit
  const undo = () => {
    const last = acts.value.at(-1)
    if (!last) return
    acts.value = acts.value.slice(0, -1)
    undone.value = [...undone.value, last]
  }
  const redo = () => {
    const last = undone.value.at(-1)
    if (!last) return
    undone.value = undone.value.slice(0, -1)
    acts.value = [...acts.value, last]
  }
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      if (!(event.ctrlKey || event.metaKey) || (event.target as Element).closest("textarea, input")) return
      const key = event.key.toLowerCase()
      if (key !== "z" && key !== "y") return
      event.preventDefault()
      if (key === "y" || event.shiftKey) redo()
      else undo()
    }
    addEventListener("keydown", keys)
    return () => removeEventListener("keydown", keys)
  })
  return (
    <fieldset class="actions six" aria-label={words.tools}>
      <Button
        icon="brush"
        label={words.brush}
        pressed={!erasing.value}
        onClick={() => (erasing.value = false)}
      />
      <Button
        icon="eraser"
        label={words.eraser}
        pressed={erasing.value}
        onClick={() => (erasing.value = true)}
      />
      <Button kind="quiet" icon="undo" label={words.undo} disabled={acts.value.length === 0} onClick={undo} />
      <Button
        kind="quiet"
        icon="redo"
        label={words.redo}
        disabled={undone.value.length === 0}
        onClick={redo}
      />
      <Button icon="invert" label={words.invert} onClick={() => onAct({ kind: "invert" })} />
      <Button
        icon="close"
        label={words.clear}
        disabled={acts.value.length === 0}
        onClick={() => onAct({ kind: "clear" })}
      />
    </fieldset>
  )
}

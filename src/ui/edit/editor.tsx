import { useSignal } from "@preact/signals"
import { useEffect, useState } from "preact/hooks"
import { Missing } from "../gallery/view.tsx"
import { Button, Slider } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { SizeChoice } from "../parts/size-choice.tsx"
import { fileFor, keepSize, recipe, sizesFor, start, unstarted } from "../state/draft.ts"
import { go, link } from "../state/route.ts"
import { doing, toast } from "../state/say.ts"
import { grain } from "../state/sizes.ts"
import { facts, studio, submit } from "../state/store.ts"
import type { Recipe } from "../studio/types.ts"
import { number, t } from "../text/index.ts"
import { MaskCanvas } from "./canvas.tsx"
import { type Act, maskFile } from "./mask.ts"

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

/** What is painted so far, and the way back and forth through it. */
function usePainting() {
  const acts = useSignal<readonly Act[]>([])
  const undone = useSignal<readonly Act[]>([])
  const add = (act: Act) => {
    acts.value = [...acts.value, act]
    undone.value = []
  }
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
  return { acts, undone, erasing: useSignal(false), add, undo, redo }
}
type Painting = ReturnType<typeof usePainting>

/** How the painted part is to be drawn; lengths in pixels, the brush's of the picture, the edge's of what is drawn. */
function useWishes({ bitmap, recipe }: Source, id: string) {
  const sizes = sizesFor(bitmap, recipe)
  const kept = useSignal(true)
  // a photo is brought to its model's size unless its reader says otherwise, a picture of the gallery keeps its own
  const keep = id === "start" ? keepSize : kept
  const size = keep.value ? sizes.own : sizes.native
  const soft = grain(Math.max(size.width, size.height))
  return {
    prompt: useSignal(recipe.prompt),
    brush: useSignal(Math.round(Math.max(bitmap.width, bitmap.height) / 9)),
    feather: useSignal(2 * Math.round(soft / 10.6)),
    strength: useSignal(0.85),
    ...{ sizes, keep, size, soft },
  }
}
type Wishes = ReturnType<typeof useWishes>

async function repaint({ blob, bitmap, recipe }: Source, { acts }: Painting, wishes: Wishes): Promise<void> {
  const { prompt, strength, feather, size } = wishes
  const mask = await maskFile(bitmap, size, acts.value)
  if (!mask) return toast(t.value.edit.nothing)
  const init = await fileFor(blob, bitmap, size)
  const next = { ...basis(recipe), ...size, prompt: prompt.value, strength: strength.value }
  if (await submit({ recipe: next, init, mask, feather: feather.value })) go("create")
}

function Repaint({ source, id }: { source: Source; id: string }) {
  const painting = usePainting()
  const wishes = useWishes(source, id)
  const { width, height } = source.bitmap
  const words = t.value.edit
  return (
    <section class="view edit" aria-labelledby="edit-title">
      <EditHead title={words.title} id={id} />
      <div class="print-body">
        <div class="print-picture">
          <MaskCanvas
            size={{ width, height }}
            url={source.url}
            acts={painting.acts}
            erasing={painting.erasing.value}
            brush={wishes.brush.value}
            onAct={painting.add}
          />
          <Tools painting={painting} />
        </div>
        <aside class="panel">
          <EditPrompt value={wishes.prompt.value} onChange={(v) => (wishes.prompt.value = v)} />
          <WishSliders source={source} wishes={wishes} />
          <SizeChoice
            picture={source.bitmap}
            sizes={wishes.sizes}
            keep={wishes.keep.value}
            onKeep={(keep) => (wishes.keep.value = keep)}
          />
          <Button kind="main" label={words.go} onClick={() => doing(repaint(source, painting, wishes))} />
        </aside>
      </div>
    </section>
  )
}

function WishSliders({ source: { bitmap }, wishes }: { source: Source; wishes: Wishes }) {
  const { brush, feather, strength, soft } = wishes
  const words = t.value.edit
  return (
    <>
      <Slider
        label={words.size}
        value={brush.value}
        rest={60}
        min={4}
        max={Math.round(Math.max(bitmap.width, bitmap.height) / 3)}
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
    </>
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

/** Ctrl or Cmd with Z goes back, with Y or Shift and Z forth, except in texts, which have their own. */
function useUndoKeys({ undo, redo }: Painting): void {
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      const writing = (event.target as Element).closest("textarea, input:not([type=range])")
      if (!(event.ctrlKey || event.metaKey) || writing) return
      const key = event.key.toLowerCase()
      if (key !== "z" && key !== "y") return
      event.preventDefault()
      if (key === "y" || event.shiftKey) redo()
      else undo()
    }
    addEventListener("keydown", keys)
    return () => removeEventListener("keydown", keys)
  })
}

function Tools({ painting }: { painting: Painting }) {
  const { acts, undone, erasing, add, undo, redo } = painting
  const words = t.value.edit
  useUndoKeys(painting)
  const tool = (icon: "brush" | "eraser", label: string, erases: boolean) => (
    <Button
      icon={icon}
      label={label}
      pressed={erasing.value === erases}
      onClick={() => (erasing.value = erases)}
    />
  )
  const none = acts.value.length === 0
  const end = undone.value.length === 0
  return (
    <fieldset class="actions six" aria-label={words.tools}>
      {tool("brush", words.brush, false)}
      {tool("eraser", words.eraser, true)}
      <Button kind="quiet" icon="undo" label={words.undo} disabled={none} onClick={undo} />
      <Button kind="quiet" icon="redo" label={words.redo} disabled={end} onClick={redo} />
      <Button icon="invert" label={words.invert} onClick={() => add({ kind: "invert" })} />
      <Button icon="close" label={words.clear} disabled={none} onClick={() => add({ kind: "clear" })} />
    </fieldset>
  )
}

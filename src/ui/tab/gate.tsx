import { signal } from "@preact/signals"
import { useEffect } from "preact/hooks"
import type { StableDiffusion, WebModel } from "../../web.ts"
import { Button, Field } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { Plate } from "../plate/plate.tsx"
import { complain, doing, toast } from "../state/say.ts"
import { connect } from "../state/store.ts"
import { number, t } from "../text/index.ts"
import {
  forgetModel,
  type KeptModel,
  keepModel,
  keptModels,
  openKept,
  openModel,
  type Progress,
} from "./models.ts"
import { TabStudio } from "./studio.ts"

const known = signal<readonly KeptModel[]>([])
const busy = signal<{ readonly progress: Progress | null } | null>(null)
const keep = signal(true)
const url = signal("")

/** Runs on a model from now on, whatever it came from. */
async function use(
  open: (on: (progress: Progress) => void) => Promise<StableDiffusion>,
): Promise<StableDiffusion | null> {
  busy.value = { progress: null }
  try {
    const sd = await open((progress) => (busy.value = { progress }))
    await connect(new TabStudio(sd))
    return sd
  } catch (error) {
    complain(error)
    return null
  } finally {
    busy.value = null
  }
}

async function take(from: WebModel): Promise<void> {
  const sd = await use((on) => openModel(from, keep.value, on))
  if (sd && keep.value) await keepModel(sd.name, from).catch(complain)
}

/** A model behind an address as the reader wrote it. */
async function takeFrom(written: string): Promise<void> {
  if (!URL.canParse(written, document.baseURI)) return toast(t.value.tab.urlBad, { kind: "error" })
  await take(new URL(written, document.baseURI).href)
}

async function choose(folder: boolean): Promise<void> {
  const input = document.createElement("input")
  input.type = "file"
  if (folder) input.webkitdirectory = true
  else input.accept = ".safetensors"
  const files = await new Promise<File[]>((done) => {
    input.onchange = () => done([...(input.files ?? [])])
    input.oncancel = () => done([])
    input.click()
  })
  if (files.length > 0) await take(folder ? files : files[0]!)
}

/** The first thing to see where there is no server: what the pictures are to be drawn with. */
export function Gate({ embedded }: { embedded: readonly string[] }) {
  useEffect(() => {
    void keptModels().then(
      (models) => (known.value = models),
      () => {},
    )
  }, [])
  const words = t.value.tab
  return (
    <section class="view gate" aria-labelledby="gate-title">
      <Plate
        width={512}
        height={384}
        picture={null}
        preview={null}
        progress={null}
        label={t.value.plate.idle}
      />
      <div class="panel">
        <h1 id="gate-title">{words.title}</h1>
        <p class="soft">{words.intro}</p>
        {busy.value ? <Busy progress={busy.value.progress} /> : <Ways embedded={embedded} />}
      </div>
    </section>
  )
}

function Busy({ progress }: { progress: Progress | null }) {
  const words = t.value.tab
  const share = progress?.share ?? null
  const text = progress ? words.fetching(share === null ? "…" : `${number(share * 100)} %`) : words.loading
  return (
    <div class="stack">
      <div
        class={`bar ${share === null ? "waiting" : ""}`}
        role="progressbar"
        aria-label={words.loading}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={share === null ? undefined : Math.round(share * 100)}
        aria-valuetext={text}
      >
        <span style={{ width: `${(share ?? 0) * 100}%` }} />
      </div>
      <p class="soft figures">{text}</p>
    </div>
  )
}

function Ways({ embedded: [whole, quick] }: { embedded: readonly string[] }) {
  const words = t.value.tab
  const address = (folder: string) => new URL(folder, document.baseURI).href
  return (
    <div class="stack">
      {whole && <Button kind="main" label={words.embedded} onClick={() => doing(take(address(whole)))} />}
      {quick && <Button label={words.quick} onClick={() => doing(take(address(quick)))} />}
      <Shelf />
      <div class="ways">
        <button type="button" class="way" onClick={() => doing(choose(false))}>
          <Icon name="file" size={24} />
          <span>{words.file}</span>
          <small class="soft">{words.fileHelp}</small>
        </button>
        <button type="button" class="way" onClick={() => doing(choose(true))}>
          <Icon name="folder" size={24} />
          <span>{words.folder}</span>
          <small class="soft">{words.folderHelp}</small>
        </button>
      </div>
      <form
        class="with-button"
        onSubmit={(event) => {
          event.preventDefault()
          if (url.value.trim()) doing(takeFrom(url.value.trim()))
        }}
      >
        <Field label={words.url}>
          {(ids) => (
            <input
              {...ids}
              class="text"
              inputMode="url"
              placeholder="https://"
              value={url.value}
              onInput={(event) => (url.value = event.currentTarget.value)}
            />
          )}
        </Field>
        <button type="submit" class="button outlined">
          {words.urlGo}
        </button>
      </form>
      <label class="check">
        <input type="checkbox" checked={keep.value} onChange={() => (keep.value = !keep.value)} />
        <span>{words.keep}</span>
      </label>
    </div>
  )
}

function Shelf() {
  const words = t.value.tab
  if (known.value.length === 0) return null
  const forget = async (model: KeptModel) => {
    await forgetModel(model)
    known.value = await keptModels()
  }
  return (
    <div class="field">
      <h2>{words.kept}</h2>
      <ul class="shelf">
        {known.value.map((model) => (
          <li key={model.id}>
            <Button icon="play" label={model.name} onClick={() => doing(use((on) => openKept(model, on)))} />
            <Button
              kind="quiet"
              icon="trash"
              label={words.forget(model.name)}
              onClick={() => doing(forget(model))}
            />
          </li>
        ))}
      </ul>
    </div>
  )
}

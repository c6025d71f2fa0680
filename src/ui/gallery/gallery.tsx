import { effect, signal } from "@preact/signals"
import { useEffect } from "preact/hooks"
import { Button } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { go, link } from "../state/route.ts"
import { complain, doing } from "../state/say.ts"
import { recent, removePrints, studio } from "../state/store.ts"
import type { Print } from "../studio/types.ts"
import { t } from "../text/index.ts"

const search = signal("")
const prints = signal<readonly Print[]>([])
const next = signal<string | null>(null)
const loaded = signal(false)
const selecting = signal(false)
const selected = signal<ReadonlySet<string>>(new Set())

/** Pictures in the order of the gallery, for going from one to the next. */
export const galleryOrder = () => (prints.value.length > 0 ? prints.value : recent.value)

async function look(words: string): Promise<void> {
  const page = await studio().prints({ search: words })
  // an answer to an older question comes too late
  if (words !== search.peek()) return
  prints.value = page.prints
  next.value = page.next
  loaded.value = true
}

async function lookFurther(): Promise<void> {
  if (next.value === null) return
  const page = await studio().prints({ search: search.peek(), after: next.value })
  prints.value = [...prints.value, ...page.prints]
  next.value = page.next
}

const again = () => look(search.peek()).catch(complain)

/** All pictures, newest first. */
export function Gallery() {
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const stop = effect(() => {
      void search.value
      void recent.value
      clearTimeout(timer)
      timer = setTimeout(again, loaded.peek() ? 200 : 0)
    })
    return () => {
      clearTimeout(timer)
      stop()
      selecting.value = false
      selected.value = new Set()
    }
  }, [])
  const words = t.value.gallery
  return (
    <section class="view" aria-labelledby="gallery-title">
      <header class="view-head">
        <h1 id="gallery-title">{words.title}</h1>
        <span class="soft figures" role="status">
          {loaded.value && prints.value.length > 0 && words.count(prints.value.length)}
        </span>
        <span class="grow" />
        <Search />
        <Button
          icon="check"
          label={selecting.value ? words.done : words.select}
          pressed={selecting.value}
          onClick={() => {
            selecting.value = !selecting.value
            selected.value = new Set()
          }}
        />
      </header>
      {selecting.value && <Selection />}
      <Tiles />
      {next.value !== null && (
        <div class="row middle">
          <Button label={words.more} class="outlined" onClick={() => doing(lookFurther())} />
        </div>
      )}
    </section>
  )
}

const Search = () => (
  <search class="search">
    <Icon name="search" size={18} />
    <input
      id="search"
      type="search"
      class="text"
      value={search.value}
      aria-label={t.value.gallery.search}
      placeholder={t.value.gallery.search}
      onInput={(event) => (search.value = event.currentTarget.value)}
    />
  </search>
)

function Selection() {
  const words = t.value
  const ids = [...selected.value]
  return (
    <div class="selection">
      <span class="figures" role="status">
        {words.gallery.selected(ids.length)}
      </span>
      <span class="grow" />
      <Button
        icon="compare"
        label={words.gallery.compareTwo}
        disabled={ids.length !== 2}
        onClick={() => go("compare", ...ids)}
      />
      <Button
        icon="trash"
        kind="danger"
        label={words.actions.remove}
        disabled={ids.length === 0}
        onClick={() => {
          selected.value = new Set()
          doing(removePrints(ids, () => void again()))
        }}
      />
    </div>
  )
}

function Tiles() {
  const words = t.value.gallery
  if (!loaded.value) return null
  if (prints.value.length === 0)
    return (
      <div class="nothing">
        <p>{search.value ? words.none(search.value) : words.empty}</p>
        {!search.value && (
          <a class="button main" href={link()}>
            {t.value.nav.create}
          </a>
        )}
      </div>
    )
  return (
    <ul class="tiles">
      {prints.value.map((print) => (
        <Tile key={print.id} print={print} />
      ))}
    </ul>
  )
}

function Tile({ print }: { print: Print }) {
  const { prompt } = print.recipe
  const chosen = selected.value.has(print.id)
  const toggle = () => {
    const set = new Set(selected.value)
    if (!set.delete(print.id)) set.add(print.id)
    selected.value = set
  }
  const image = (
    <img src={print.thumb} alt={prompt} loading="lazy" width={print.width} height={print.height} />
  )
  if (!selecting.value)
    return (
      <li class="tile">
        <a href={link("print", print.id)}>
          {image}
          <span class="tile-text" aria-hidden="true">
            {prompt}
          </span>
        </a>
      </li>
    )
  return (
    <li class={`tile ${chosen ? "chosen" : ""}`}>
      <label>
        {image}
        <input
          type="checkbox"
          checked={chosen}
          aria-label={t.value.gallery.selectOne(prompt)}
          onChange={toggle}
        />
      </label>
    </li>
  )
}

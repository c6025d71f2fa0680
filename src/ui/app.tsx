import { signal } from "@preact/signals"
import type { ComponentChildren } from "preact"
import { useEffect, useRef } from "preact/hooks"
import { Create } from "./create/create.tsx"
import { listenForPictures } from "./create/pick.ts"
import { Editor } from "./edit/editor.tsx"
import { Enlarge } from "./edit/enlarge.tsx"
import { Extend } from "./edit/extend.tsx"
import { Compare } from "./gallery/compare.tsx"
import { Gallery } from "./gallery/gallery.tsx"
import { PrintView } from "./gallery/view.tsx"
import { Grid } from "./grid/grid.tsx"
import { How } from "./how/how.tsx"
import { Shell } from "./parts/shell.tsx"
import { route } from "./state/route.ts"
import { facts } from "./state/store.ts"
import { t } from "./text/index.ts"

const dropping = signal(false)

/** The whole page. */
export function App({ gate = null }: { gate?: ComponentChildren }) {
  useEffect(() => listenForPictures((there) => (dropping.value = there)), [])
  return (
    <Shell>
      {facts.value ? <View /> : gate}
      {dropping.value && (
        <div class="drop" aria-hidden="true">
          {t.value.start.drop}
        </div>
      )}
    </Shell>
  )
}

/** The name of a view, for the window's title. */
function titleOf(view: string): string {
  const { nav, compare, edit, enlarge, how } = t.value
  const titles: Record<string, string> = {
    gallery: nav.gallery,
    print: nav.gallery,
    grid: nav.grid,
    compare: compare.title,
    edit: edit.title,
    extend: edit.extend,
    enlarge: enlarge.title,
    how: how.title,
  }
  return [titles[view], "aquatint"].filter(Boolean).join(" · ")
}

/** What a browser does for a new page: its title, its top, and a focus that is not lost with the last one. */
function useArrival(view: string, ids: readonly string[]): void {
  const first = useRef(true)
  useEffect(() => {
    if (!first.current && view !== "gallery") scrollTo(0, 0)
    if (!first.current && document.activeElement === document.body)
      document.getElementById("main")?.focus({ preventScroll: true })
    first.current = false
  }, [view, ids.join()])
  const title = titleOf(view)
  useEffect(() => {
    document.title = title
  }, [title])
}

function View() {
  const { view, ids } = route.value
  useArrival(view, ids)
  switch (view) {
    case "gallery":
      return <Gallery />
    case "print":
      return <PrintView id={ids[0]} />
    case "compare":
      return <Compare ids={ids} />
    case "edit":
      return <Editor id={ids[0]} />
    case "extend":
      return <Extend id={ids[0]} />
    case "enlarge":
      return <Enlarge id={ids[0]} />
    case "grid":
      return <Grid />
    case "how":
      return <How id={ids[0]} />
    default:
      return <Create />
  }
}

import { useEffect } from "preact/hooks"
import { Button } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { go, link } from "../state/route.ts"
import { doing, toast } from "../state/say.ts"
import type { Print } from "../studio/types.ts"
import { t } from "../text/index.ts"
import { PrintActions } from "./actions.tsx"
import { Facts } from "./facts.tsx"
import { galleryOrder } from "./gallery.tsx"
import { usePrint } from "./use-print.ts"

export const Missing = () => (
  <section class="view nothing">
    <h1>{t.value.print.missing}</h1>
    <a class="button outlined" href={link("gallery")}>
      {t.value.nav.gallery}
    </a>
  </section>
)

/** One picture, large, with all it says of itself. */
export function PrintView({ id }: { id: string | undefined }) {
  const print = usePrint(id)
  if (print === null) return <Missing />
  return print ? <Open print={print} /> : null
}

function Open({ print }: { print: Print }) {
  const words = t.value.print
  const copy = async () => {
    await navigator.clipboard.writeText(print.infotext)
    toast(t.value.actions.copied)
  }
  return (
    <article class="view print" aria-labelledby="print-title">
      <Head print={print} />
      <div class="print-body">
        <div class="print-picture">
          <div class="plate" style={{ "--w": print.width, "--h": print.height }}>
            <img src={print.url} alt={print.recipe.prompt} width={print.width} height={print.height} />
          </div>
          <PrintActions print={print} after={() => go("gallery")} />
        </div>
        <aside class="panel" aria-label={words.details}>
          <h1 id="print-title">{print.recipe.prompt}</h1>
          <Facts print={print} />
          <Button icon="copy" label={words.parameters} class="outlined" onClick={() => doing(copy())} />
          <p class="help">{words.mark}</p>
        </aside>
      </div>
    </article>
  )
}

/** The way back to the gallery, and to the pictures beside this one. */
function Head({ print }: { print: Print }) {
  const words = t.value.print
  const order = galleryOrder()
  const at = order.findIndex((p) => p.id === print.id)
  const before = order[at - 1]
  const after = at < 0 ? undefined : order[at + 1]
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      if ((event.target as Element).closest("input, textarea, select, button")) return
      if (event.key === "ArrowLeft" && before) go("print", before.id)
      if (event.key === "ArrowRight" && after) go("print", after.id)
      if (event.key === "Escape") go("gallery")
    }
    addEventListener("keydown", keys)
    return () => removeEventListener("keydown", keys)
  })
  const step = (icon: "left" | "right", label: string, to: Print | undefined) => (
    <Button kind="quiet" icon={icon} label={label} disabled={!to} onClick={() => to && go("print", to.id)} />
  )
  return (
    <header class="view-head">
      <a class="button" href={link("gallery")}>
        <Icon name="left" />
        <span>{t.value.nav.gallery}</span>
      </a>
      <span class="grow" />
      {step("left", words.previous, before)}
      {step("right", words.next, after)}
    </header>
  )
}

import { signal } from "@preact/signals"
import { Button } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { reuse, startFrom } from "../state/draft.ts"
import { go, goWrite, link } from "../state/route.ts"
import { doing, toast } from "../state/say.ts"
import { removePrints, studio } from "../state/store.ts"
import type { Print } from "../studio/types.ts"
import { t } from "../text/index.ts"

export async function save(print: Print): Promise<void> {
  const blob = await studio().blob(print)
  const url = URL.createObjectURL(blob)
  const a = document.createElement("a")
  a.href = url
  const words = print.recipe.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "")
  a.download = `${words.slice(0, 60) || "aquatint"}-${print.recipe.seed}.${print.format}`
  a.click()
  // the download holds the bytes by then
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}

export function takeOver(print: Print): void {
  reuse(print)
  toast(t.value.actions.reused)
  goWrite()
}

async function vary(print: Print): Promise<void> {
  reuse(print)
  await startFrom(await studio().blob(print))
  goWrite()
}

const more = signal(false)

/** What can be done with a finished picture: the frequent at hand, the rest a press away. */
export function PrintActions({ print, after }: { print: Print; after?: () => void }) {
  const { actions, ...words } = t.value
  const one = (icon: Parameters<typeof Button>[0]["icon"], label: string, run: () => void, hint?: string) => (
    <Button key={label} icon={icon} label={label} hint={hint} onClick={run} />
  )
  return (
    <fieldset class="actions" aria-label={actions.label}>
      {one("download", actions.save, () => doing(save(print)))}
      {one("reuse", actions.reuse, () => takeOver(print), actions.reuseHint)}
      {one("vary", actions.vary, () => doing(vary(print)), actions.varyHint)}
      {one("brush", actions.paint, () => go("edit", print.id), actions.paintHint)}
      <Button
        icon="plus"
        label={words.more}
        class="more-button"
        expanded={more.value}
        controls="more-actions"
        onClick={() => (more.value = !more.value)}
      />
      <div id="more-actions" class="actions more" hidden={!more.value}>
        {one("extend", actions.extend, () => go("extend", print.id), actions.extendHint)}
        {one("enlarge", actions.enlarge, () => go("enlarge", print.id), actions.enlargeHint)}
        {one("compare", actions.compare, () => go("compare", print.id))}
        <a class="button" href={link("how", print.id)}>
          <Icon name="how" />
          <span>{actions.how}</span>
        </a>
        <Button
          icon="trash"
          kind="danger"
          label={actions.remove}
          onClick={() => doing(removePrints([print.id], after))}
        />
      </div>
    </fieldset>
  )
}

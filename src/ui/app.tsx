import { signal } from "@preact/signals"
import { useEffect } from "preact/hooks"
import { Create } from "./create/create.tsx"
import { listenForPictures } from "./create/pick.ts"
import { Shell } from "./parts/shell.tsx"
import { route } from "./state/route.ts"
import { facts } from "./state/store.ts"
import { t } from "./text/index.ts"

const dropping = signal(false)

/** The whole page. */
export function App() {
  useEffect(() => listenForPictures((there) => (dropping.value = there)), [])
  return (
    <Shell>
      {facts.value && <View />}
      {dropping.value && (
        <div class="drop" aria-hidden="true">
          {t.value.start.drop}
        </div>
      )}
    </Shell>
  )
}

function View() {
  const { view } = route.value
  switch (view) {
    default:
      return <Create />
  }
}

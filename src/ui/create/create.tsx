import { t } from "../text/index.ts"
import { Composer } from "./composer.tsx"
import { Queue } from "./queue.tsx"
import { Settings, settingsOpen } from "./settings.tsx"
import { Stage } from "./stage.tsx"
import { Strip } from "./strip.tsx"

/** The view where a sentence becomes a picture. */
export function Create() {
  return (
    <div class={`create ${settingsOpen.value ? "unfolded" : ""}`}>
      <h1 class="unseen">{t.value.nav.create}</h1>
      <div class="easel">
        <Stage />
        <Composer />
        <Strip />
      </div>
      <aside class="rail">
        {settingsOpen.value && <Settings />}
        <Queue />
      </aside>
    </div>
  )
}

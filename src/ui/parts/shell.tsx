import type { ComponentChildren } from "preact"
import { useEffect, useRef } from "preact/hooks"
import { language, look } from "../state/prefs.ts"
import { link, route } from "../state/route.ts"
import { dismiss, spoken, toasts } from "../state/say.ts"
import { linked } from "../state/store.ts"
import { languages, t } from "../text/index.ts"
import { Button } from "./controls.tsx"
import { Icon, type IconName } from "./icon.tsx"

const views = [
  { id: "create", icon: "brush" },
  { id: "gallery", icon: "gallery" },
  { id: "grid", icon: "grid" },
] as const satisfies readonly { id: string; icon: IconName }[]

/** Bar, content, and the lines that come and go. */
export function Shell({ children }: { children: ComponentChildren }) {
  return (
    <>
      <button type="button" class="skip button" onClick={toPrompt}>
        {t.value.skip}
      </button>
      <Bar />
      {!linked.value && (
        <p class="offline" role="status">
          {t.value.offline}
        </p>
      )}
      <main id="main" tabIndex={-1}>
        {children}
      </main>
      <Toasts />
      <Voice />
    </>
  )
}

const toPrompt = () => {
  const prompt = document.getElementById("prompt") ?? document.getElementById("main")
  prompt?.focus()
}

function Bar() {
  const words = t.value
  const view = route.value.view === "print" ? "gallery" : route.value.view
  return (
    <header class="bar">
      <a class="brand" href={link()}>
        aquatint
      </a>
      <nav aria-label={words.nav.label}>
        {views.map(({ id, icon }) => (
          <a
            key={id}
            href={link(...(id === "create" ? [] : [id]))}
            aria-current={view === id ? "page" : undefined}
          >
            <Icon name={icon} />
            <span>{words.nav[id]}</span>
          </a>
        ))}
      </nav>
      <span class="grow" />
      <Switches />
    </header>
  )
}

function Switches() {
  const words = t.value
  const dark = document.documentElement.dataset.look === "dark"
  const next = dark ? "light" : "dark"
  const other = languages.find(({ id }) => id !== language.value)!
  return (
    <div class="switches">
      <button
        type="button"
        class="button quiet words"
        lang={other.id}
        aria-label={`${other.id.toUpperCase()}, ${other.name}`}
        title={words.language}
        onClick={() => (language.value = other.id)}
      >
        {other.id.toUpperCase()}
      </button>
      <Button
        kind="quiet"
        icon={dark ? "sun" : "moon"}
        label={`${words.look.label}: ${words.look[next]}`}
        onClick={() => (look.value = next)}
      />
    </div>
  )
}

function Toasts() {
  if (toasts.value.length === 0) return null
  return (
    <section class="toasts" aria-label={t.value.notes}>
      {toasts.value.map((toast) => (
        <div
          key={toast.id}
          class={toast.kind === "error" ? "toast error" : "toast"}
          role={toast.kind === "error" ? "alert" : undefined}
        >
          <div>
            <p>{toast.text}</p>
            {toast.detail && <p class="soft">{toast.detail}</p>}
          </div>
          {toast.action && (
            <button
              type="button"
              class="button outlined"
              onClick={() => {
                toast.action?.run()
                dismiss(toast.id)
              }}
            >
              {toast.action.label}
            </button>
          )}
          <Button kind="quiet" icon="close" label={t.value.error.dismiss} onClick={() => dismiss(toast.id)} />
        </div>
      ))}
    </section>
  )
}

/** The live region: emptied and filled again, so that the same words twice are heard twice. */
function Voice() {
  const box = useRef<HTMLParagraphElement>(null)
  const { text, nonce } = spoken.value
  useEffect(() => {
    const line = box.current
    if (!line) return
    line.textContent = ""
    const timer = setTimeout(() => (line.textContent = text), 60)
    return () => clearTimeout(timer)
  }, [text, nonce])
  return <p class="unseen" ref={box} role="status" aria-live="polite" />
}

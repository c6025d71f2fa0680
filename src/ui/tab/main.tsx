import { render } from "preact"
import { App } from "../app.tsx"
import { Gate } from "./gate.tsx"

declare const __EMBEDDED__: readonly string[]

/** A page without a server: it keeps itself, and is isolated by its worker so that the engine may use threads. */
async function keepPage(): Promise<void> {
  if (!navigator.serviceWorker) return
  await navigator.serviceWorker.register("./sw.js", { scope: "./" })
  await navigator.serviceWorker.ready
  const once = "aquatint.isolated"
  if (crossOriginIsolated || sessionStorage.getItem(once)) return
  sessionStorage.setItem(once, "1")
  location.reload()
}

render(<App gate={<Gate embedded={__EMBEDDED__} />} />, document.getElementById("app")!)
keepPage().catch(() => {})

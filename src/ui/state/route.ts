import { computed, signal } from "@preact/signals"

function read(): string[] {
  const path = location.hash.replace(/^#\/?/, "")
  try {
    return decodeURI(path).split("/").filter(Boolean)
  } catch {
    // an address that was cut within a letter
    return []
  }
}
const path = signal(read())
addEventListener("hashchange", () => {
  path.value = read()
})

/** The view and what it shows: `#/print/ID` is `["print", "ID"]`. */
export const route = computed(() => ({ view: path.value[0] ?? "create", ids: path.value.slice(1) }))

export const link = (...parts: readonly string[]): string => `#/${parts.map(encodeURIComponent).join("/")}`

export function go(...parts: readonly string[]): void {
  location.hash = link(...parts)
}

/** Goes to where pictures are asked for, ready to write. */
export function goWrite(): void {
  const write = () => document.getElementById("prompt")?.focus()
  if (route.peek().view === "create") write()
  else {
    addEventListener("hashchange", () => setTimeout(write), { once: true })
    go("create")
  }
}

import { computed, signal } from "@preact/signals"

const read = () => decodeURI(location.hash.replace(/^#\/?/, "")).split("/").filter(Boolean)
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

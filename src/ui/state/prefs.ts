import { effect, signal } from "@preact/signals"

type Look = "system" | "light" | "dark"

/** A choice that this browser remembers; private windows simply forget it. */
function remembered<T extends string>(key: string, first: T, allowed: readonly T[]) {
  let kept: string | null = null
  try {
    kept = localStorage.getItem(`aquatint.${key}`)
  } catch {}
  const value = signal<T>(allowed.find((a) => a === kept) ?? first)
  effect(() => {
    try {
      localStorage.setItem(`aquatint.${key}`, value.value)
    } catch {}
  })
  return value
}

const spoken = navigator.languages?.find((l) => /^(de|en)\b/.test(l))

export const language = remembered("language", spoken?.startsWith("de") ? "de" : "en", ["en", "de"])
export const look = remembered<Look>("look", "system", ["system", "light", "dark"])

const dark = matchMedia("(prefers-color-scheme: dark)")
const systemDark = signal(dark.matches)
dark.addEventListener("change", () => {
  systemDark.value = dark.matches
})

export const isDark = () => look.value === "dark" || (look.value === "system" && systemDark.value)

const still = matchMedia("(prefers-reduced-motion: reduce)")
/** The reader asked the system for less motion. */
export const calm = signal(still.matches)
still.addEventListener("change", () => {
  calm.value = still.matches
})

effect(() => {
  document.documentElement.lang = language.value
})
effect(() => {
  document.documentElement.dataset.look = isDark() ? "dark" : "light"
})

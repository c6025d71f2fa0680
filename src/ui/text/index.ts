import { computed } from "@preact/signals"
import { language } from "../state/prefs.ts"
import { de } from "./de.ts"
import { en, type Texts } from "./en.ts"

export type { Texts }

const dictionaries = { en, de } satisfies Record<string, Texts>
export type Language = keyof typeof dictionaries
export const languages = Object.entries(dictionaries).map(([id, { name }]) => ({ id: id as Language, name }))

/** The texts in the reader's language. */
export const t = computed<Texts>(() => dictionaries[language.value])

/** A number as the reader writes it. */
export const number = (value: number, digits = 0): string =>
  value.toLocaleString(t.value.code, { maximumFractionDigits: digits })

export const date = (time: number): string =>
  new Date(time).toLocaleString(t.value.code, { dateStyle: "medium", timeStyle: "short" })

/** A span of time in the words of people: rounded, never longer than it is. */
export function span(seconds: number): string {
  const { stage } = t.value
  if (seconds < 60) return stage.seconds(Math.max(1, Math.round(seconds)))
  return stage.minutes(Math.round(seconds / 60))
}

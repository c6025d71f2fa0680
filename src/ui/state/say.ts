import { signal } from "@preact/signals"
import { t } from "../text/index.ts"

/** What the screen reader is told next; the nonce makes repeats heard. */
export const spoken = signal({ text: "", nonce: 0 })

export function say(text: string): void {
  spoken.value = { text, nonce: spoken.value.nonce + 1 }
}

export interface Toast {
  readonly id: number
  readonly text: string
  readonly kind: "note" | "error"
  readonly detail?: string
  readonly action?: { readonly label: string; readonly run: () => void }
}

export const toasts = signal<readonly Toast[]>([])
let count = 0

export const dismiss = (id: number): void => {
  toasts.value = toasts.value.filter((toast) => toast.id !== id)
}

/** Shows a line at the foot of the page; errors stay until they are dismissed. */
export function toast(text: string, more: Partial<Omit<Toast, "id" | "text">> = {}): void {
  const id = ++count
  toasts.value = [...toasts.value.slice(-2), { id, text, kind: "note", ...more }]
  if (more.kind !== "error") setTimeout(() => dismiss(id), more.action ? 10_000 : 4_000)
}

/** Shows what went wrong, with the hint of whoever knows more. */
export function complain(error: unknown): void {
  const { message, hint } = inWords(error as Failure)
  toast(message || String(error), { kind: "error", detail: hint })
}

interface Failure {
  readonly code?: string
  readonly message?: string
  readonly hint?: string | undefined
}

/** An error in the reader's language, where this page has words for its code. */
export function inWords({ code = "", message, hint }: Failure): Pick<Failure, "message" | "hint"> {
  // the server holds another build of the page than the one that is open
  const stale = /dynamically imported module|module script failed/i.test(message ?? "")
  const known = t.value.error.known[stale ? "STALE" : code]
  return known ? { message: known[0], hint: known[1] } : { message, hint }
}

/** Runs what a press of a button started; its failure is shown. */
export function doing(work: Promise<unknown>): void {
  work.catch(complain)
}

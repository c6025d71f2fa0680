import { computed, effect, signal } from "@preact/signals"
import { recipe } from "../state/draft.ts"
import { facts, modelOf, studio } from "../state/store.ts"
import type { PromptTokens } from "../studio/types.ts"

/** The prompt as its model reads it; null until that is known. */
export const promptTokens = signal<PromptTokens | null>(null)

// other settings may change without another answer
const model = computed(() => (facts.value ? modelOf(recipe.value)?.id : undefined))
const prompt = computed(() => recipe.value.prompt)
const syntax = computed(() => recipe.value.more?.syntax)

let asked = ""
let timer: ReturnType<typeof setTimeout> | undefined
effect(() => {
  const now = JSON.stringify([model.value, syntax.value])
  clearTimeout(timer)
  timer = undefined
  // what another model counted is wrong; an older count of this one stays until the new one is there
  if (!prompt.value.trim() || model.value === undefined || now !== asked) promptTokens.value = null
  asked = now
  if (!prompt.value.trim() || model.value === undefined) return
  timer = setTimeout(read, 180)
})

async function read(): Promise<void> {
  const mine = timer
  const found = await studio()
    .tokens(recipe.peek())
    .catch(() => null)
  if (mine === timer) promptTokens.value = found
}

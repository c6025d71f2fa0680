import { signal } from "@preact/signals"
import { Field } from "./parts/controls.tsx"
import { Plate } from "./plate/plate.tsx"
import { complain } from "./state/say.ts"
import { t } from "./text/index.ts"

/** Whether the server wants a token before it shows anything. */
export const locked = signal(false)
const token = signal("")

/** Asks for the token of a server that is open to more than its own machine. */
export function SignIn({ enter }: { enter: (token: string) => Promise<void> }) {
  if (!locked.value) return null
  const words = t.value.door
  const submit = async () => {
    await enter(token.value.trim())
    token.value = ""
    locked.value = false
  }
  return (
    <section class="view gate" aria-labelledby="door-title">
      <Plate
        width={512}
        height={384}
        picture={null}
        preview={null}
        progress={null}
        label={t.value.plate.idle}
      />
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault()
          submit().catch(complain)
        }}
      >
        <h1 id="door-title">{words.title}</h1>
        <p class="soft">{words.intro}</p>
        <Field label={words.token}>
          {(ids) => (
            <input
              {...ids}
              class="text"
              type="password"
              autocomplete="current-password"
              required
              value={token.value}
              onInput={(event) => (token.value = event.currentTarget.value)}
            />
          )}
        </Field>
        <button type="submit" class="button main">
          {words.enter}
        </button>
      </form>
    </section>
  )
}

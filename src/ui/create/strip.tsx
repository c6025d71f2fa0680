import { link } from "../state/route.ts"
import { recent, shown } from "../state/store.ts"
import { t } from "../text/index.ts"

/** The newest pictures, small, in a row. */
export function Strip() {
  const prints = recent.value
  if (prints.length === 0) return null
  const now = shown.value
  const current = now && "print" in now ? now.print.id : ""
  return (
    <section class="strip" aria-labelledby="strip-title">
      <h2 id="strip-title" class="unseen">
        {t.value.gallery.title}
      </h2>
      <ul>
        {prints.map((print) => (
          <li key={print.id}>
            <button
              type="button"
              aria-current={print.id === current}
              aria-label={print.recipe.prompt}
              title={print.recipe.prompt}
              onClick={() => (shown.value = { print })}
            >
              <img src={print.thumb} alt="" loading="lazy" width={72} height={72} />
            </button>
          </li>
        ))}
        <li>
          <a class="all" href={link("gallery")}>
            {t.value.nav.gallery}
          </a>
        </li>
      </ul>
    </section>
  )
}

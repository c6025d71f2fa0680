import { useEffect, useState } from "preact/hooks"
import { recent, studio } from "../state/store.ts"
import type { Print } from "../studio/types.ts"

/** The picture with this id: undefined while it is fetched, null where there is none. */
export function usePrint(id: string | undefined): Print | null | undefined {
  const [print, setPrint] = useState<Print | null | undefined>(() => recent.peek().find((p) => p.id === id))
  useEffect(() => {
    if (id === undefined) return setPrint(null)
    if (print?.id === id) return
    let gone = false
    setPrint(undefined)
    studio()
      .print(id)
      .then((found) => !gone && setPrint(found))
      .catch(() => !gone && setPrint(null))
    return () => {
      gone = true
    }
  }, [id])
  return print?.id === id || !print ? print : undefined
}

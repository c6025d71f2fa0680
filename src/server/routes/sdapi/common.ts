import { fail } from "../../../errors.ts"

export const tag = "AUTOMATIC1111"

/** Settings that clients read and write back, for each owner. */
export type Settings = Record<string, unknown>

/** Says of a field that it is not passed over in silence. @throws REQUEST_UNSUPPORTED */
export const unsupported = (field: string, hint: string): never =>
  fail("REQUEST_UNSUPPORTED", `${field} is not done by this server`, { hint, details: { field } })

/** A moment as A1111 writes it: 20260131235959. */
export const stamp = (time: number): string => new Date(time).toISOString().replace(/\D/g, "").slice(0, 14)

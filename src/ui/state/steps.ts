import type { Job } from "../studio/types.ts"
import { table } from "./disk.ts"

/** The estimates of a picture, step by step, as small pictures; kept in this browser for the "how it works" view. */
export interface Steps {
  readonly id: string
  readonly created: number
  readonly steps: readonly { readonly step: number; readonly picture: Blob }[]
}

const most = 200
const live = new Map<string, { step: number; picture: Blob }[]>()
const disk = table<Steps>("steps")

export function keepStep(job: string, step: number, picture: Blob): void {
  const steps = live.get(job) ?? []
  if (steps.at(-1)?.step !== step) steps.push({ step, picture })
  live.set(job, steps)
}

/** Puts a finished job's steps beside its first picture; the oldest of too many go. */
export function settleSteps(job: Job): void {
  const steps = live.get(job.id)
  live.delete(job.id)
  const print = job.prints[0]
  if (!steps?.length || print === undefined || job.prints.length > 1) return
  void (async () => {
    await disk.put({ id: print, created: job.created, steps })
    const all = await disk.all()
    const old = all.sort((a, b) => b.created - a.created).slice(most)
    for (const { id } of old) await disk.delete(id)
  })().catch(() => {})
}

export const stepsOf = (print: string): Promise<Steps | undefined> => disk.get(print)

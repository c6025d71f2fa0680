import { AquatintError } from "../../errors.ts"
import type { Job } from "../../store/index.ts"

/** Codes of failures that are this machine's and not the request's. */
const ours = /^(INTERNAL|ENGINE|STORAGE|DATABASE|NOT_FINITE|JOB_POISONED)/

/** Throws why a job made no picture. @throws the job's own error, CANCELLED */
export function failed(job: Job): void {
  if (job.state === "done") return
  const { code, message, hint } = job.error ?? {
    code: "CANCELLED",
    message: "the job was cancelled",
    hint: "send it again",
  }
  throw new AquatintError(code, message, {
    ...(hint ? { hint } : {}),
    blame: ours.test(code) ? "here" : "caller",
  })
}

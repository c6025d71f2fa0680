import {
  type Database,
  type Files,
  filesInUse,
  forgetJobs,
  forgetUploads,
  idPattern,
  jobsByIds,
  purgeImages,
} from "../store/index.ts"

const day = 86_400_000

/** A file that nobody wrote a record for may belong to a process that is about to: it is left this long. */
const grace = 3_600_000

/**
 * Takes away what nobody needs: pictures deleted a day ago, uploads that no job names, jobs that ended without a
 * picture a week ago, and files without a record, which processes leave that end between the two.
 * @returns how many files went
 */
export async function tidy(db: Database, files: Files, age = grace): Promise<number> {
  for (const name of await purgeImages(db, day)) await files.remove(name)
  await forgetJobs(db, 7 * day)
  await forgetUploads(db, day)
  const old = (await files.list()).filter((file) => file.age >= age).map((file) => file.name)
  const used = await filesInUse(db, old)
  const busy = await unfinished(db, old)
  const unknown = old.filter((name) => !used.has(name) && !busy.has(name.slice(0, 26)))
  for (const name of unknown) await files.remove(name)
  return unknown.length
}

/** Jobs by whose id these files are named and that may still write to them. */
async function unfinished(db: Database, names: readonly string[]): Promise<Set<string>> {
  const ids = [...new Set(names.map((name) => name.slice(0, 26)).filter((id) => idPattern.test(id)))]
  const jobs = await jobsByIds(db, ids)
  return new Set(jobs.filter((job) => job.state === "queued" || job.state === "running").map((job) => job.id))
}

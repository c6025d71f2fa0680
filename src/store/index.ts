export { type Cell, type Database, openDatabase } from "./database.ts"
export { alive, checkName, type Files, openFiles } from "./files.ts"
export {
  addUpload,
  filesInUse,
  findImage,
  findUpload,
  forgetUploads,
  type Image,
  type ImageQuery,
  imagesOf,
  listImages,
  markImage,
  ownerOf,
  purgeImages,
  type Upload,
} from "./gallery.ts"
export { modelCrashed, modelsSetAside, modelWorks, type SetAside } from "./health.ts"
export { idPattern, newId } from "./ids.ts"
export {
  isOver,
  type Job,
  type JobError,
  type JobProgress,
  type JobState,
  type NewJob,
  states,
} from "./job.ts"
export {
  cancelJob,
  changedSince,
  countJobs,
  findJob,
  findPreview,
  forgetJobs,
  type JobQuery,
  jobsByIds,
  listJobs,
} from "./jobs.ts"
export { onPoint, type Point, pass } from "./points.ts"
export { enqueue, type Move, move, type QueueLimits, refuseFull } from "./queue.ts"
export { migrate } from "./schema.ts"
export {
  type Claim,
  claim,
  died,
  failJob,
  finish,
  giveBack,
  type Hold,
  holds,
  type NewImage,
  note,
  reclaim,
} from "./work.ts"

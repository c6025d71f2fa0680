/** Moments between two effects on the disk, in the order in which a job meets them. */
export type Point =
  | "upload-written"
  | "accepted"
  | "claimed"
  | "denoising"
  | "picture-half"
  | "picture-written"
  | "thumbnail-written"
  | "finished"

let passing: (point: Point) => void = () => {}

/** Lets a test end the process at a moment of its choice. */
export function onPoint(heard: (point: Point) => void): void {
  passing = heard
}

/** Says that a moment has come. */
export const pass = (point: Point): void => passing(point)

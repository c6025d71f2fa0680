import type { SubjectKind } from "../spec.ts"
import type { Draw } from "./brush.ts"
import { castle, house, lighthouse, tent, windmill } from "./buildings.ts"
import { bird, cactus, cat, flower, mushroom, pine, tree } from "./nature.ts"
import { balloon, car, rocket, sailboat } from "./things.ts"

export interface Subject {
  draw: Draw
  /** Scene units (1/256 of the picture) that the unit of its drawing is long at medium size. */
  unit: number
  /** Width in those units, for the layout. */
  width: number
  /** Where it stands. */
  stands: "ground" | "water" | "air" | "launch"
  /** Whether its two sides differ, so that it may face either way. */
  faces?: boolean
}

/** Every subject; sizes are chosen so that all look about equally large. */
export const SUBJECT_TABLE: Record<SubjectKind, Subject> = {
  house: { draw: house, unit: 90, width: 1.28, stands: "ground" },
  lighthouse: { draw: lighthouse, unit: 138, width: 0.4, stands: "ground" },
  tree: { draw: tree, unit: 122, width: 0.84, stands: "ground" },
  pine: { draw: pine, unit: 124, width: 0.76, stands: "ground" },
  sailboat: { draw: sailboat, unit: 112, width: 1.04, stands: "water", faces: true },
  windmill: { draw: windmill, unit: 114, width: 0.9, stands: "ground" },
  castle: { draw: castle, unit: 96, width: 1.24, stands: "ground" },
  balloon: { draw: balloon, unit: 120, width: 0.76, stands: "air" },
  cactus: { draw: cactus, unit: 118, width: 0.84, stands: "ground", faces: true },
  tent: { draw: tent, unit: 94, width: 1.26, stands: "ground" },
  cat: { draw: cat, unit: 106, width: 0.88, stands: "ground", faces: true },
  mushroom: { draw: mushroom, unit: 106, width: 1.06, stands: "ground" },
  flower: { draw: flower, unit: 116, width: 0.68, stands: "ground", faces: true },
  car: { draw: car, unit: 76, width: 1.56, stands: "ground", faces: true },
  rocket: { draw: rocket, unit: 122, width: 0.74, stands: "launch" },
  bird: { draw: bird, unit: 94, width: 1.3, stands: "ground", faces: true },
}

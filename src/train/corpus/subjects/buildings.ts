import {
  ellipse,
  line,
  type Path,
  polygon,
  rectangle,
  rotate,
  roundRectangle,
  segment,
  union,
} from "../geometry.ts"
import { shade } from "../look.ts"
import type { Part } from "../parts.ts"
import {
  CREAM,
  DARK,
  type Draw,
  detail,
  LAMP,
  pane,
  roofFor,
  shaded,
  shadow,
  solid,
  stripeFor,
  WOOD,
  within,
} from "./brush.ts"

/** A cottage with a gable roof, a chimney, a door and windows. */
export const house: Draw = ({ main, light, lit, random }) => {
  const roof = roofFor(main)
  const door = random.pick([-1, 1])
  const walls = rectangle(-0.5, 0, 1, 0.62)
  const gable = polygon([-0.62, 0.58], [0.62, 0.58], [0.4, 0.96], [-0.4, 0.96])
  const window = (x: number) => [
    detail(rectangle(x - 0.13, 0.2, 0.26, 0.25), CREAM),
    pane(rectangle(x - 0.095, 0.235, 0.19, 0.18), lit),
  ]
  return [
    solid(rectangle(door * 0.22 - 0.07, 0.7, 0.15, 0.42), shade(main, 0.3)),
    ...shaded(walls, main, light, 0.2, 0.14),
    ...window(-door * 0.22),
    detail(
      union(rectangle(door * 0.24 - 0.11, 0, 0.22, 0.3), segment(door * 0.24, 0.3, 0.11, 0.09, 0, 0.5)),
      DARK,
    ),
    detail(ellipse(door * 0.24 + 0.06, 0.17, 0.022), LAMP),
    ...shaded(gable, roof, light, 0.12, 0.18),
    shadow(rectangle(-0.5, 0.52, 1, 0.06), walls, main, 0.3),
  ]
}

/** A striped tower with a gallery, a lantern that shines, and a cap. */
export const lighthouse: Draw = ({ main, light }) => {
  const tower = polygon([-0.19, 0], [0.19, 0], [0.105, 0.72], [-0.105, 0.72])
  const band = (y: number) => within(rectangle(-0.3, y, 0.6, 0.145), tower, stripeFor(main))
  const dark = polygon([light * -0.02, 0], [light * -0.3, 0], [light * -0.3, 0.72], [light * -0.02, 0.72])
  return [
    solid(tower, main),
    band(0.15),
    band(0.44),
    { path: dark, clip: tower, colour: [60, 40, 90], alpha: 0.2, modelling: true },
    detail(union(rectangle(-0.06, 0, 0.12, 0.11), segment(0, 0.11, 0.06, 0.05, 0, 0.5)), DARK),
    detail(roundRectangle(-0.03, 0.33, 0.06, 0.08, 0.03), DARK),
    { ...solid(rectangle(-0.085, 0.74, 0.17, 0.15), LAMP), lamp: true },
    detail(rectangle(-0.012, 0.74, 0.024, 0.15), DARK),
    solid(roundRectangle(-0.165, 0.7, 0.33, 0.055, 0.02), DARK),
    solid(union(segment(0, 0.88, 0.125, 0.1, 0, 0.5), rectangle(-0.015, 0.96, 0.03, 0.07)), main),
  ]
}

/** A tapering mill with a cap and four sails. */
export const windmill: Draw = ({ main, light, random }) => {
  const tower = polygon([-0.31, 0], [0.31, 0], [0.19, 0.6], [-0.19, 0.6])
  const turn = random.range(0.05, 0.2)
  const hub = [0, 0.66] as const
  const arm = (path: Path, i: number) => rotate(path, hub[0], hub[1], turn + i / 4)
  const sails = [0, 1, 2, 3].flatMap((i): Part[] => [
    solid(arm(rectangle(0.1, 0.665, 0.36, 0.125), i), CREAM),
    {
      ...detail(
        arm(union(rectangle(0.21, 0.665, 0.022, 0.125), rectangle(0.33, 0.665, 0.022, 0.125)), i),
        [214, 196, 170],
      ),
      modelling: true,
    },
    detail(arm(rectangle(0, 0.642, 0.48, 0.036), i), WOOD),
  ])
  return [
    ...shaded(tower, main, light, 0.03, 0.18),
    detail(union(rectangle(-0.075, 0, 0.15, 0.17), segment(0, 0.17, 0.075, 0.06, 0, 0.5)), DARK),
    solid(
      union(segment(0, 0.6, 0.22, 0.2, 0, 0.5), roundRectangle(-0.22, 0.575, 0.44, 0.04, 0.02)),
      roofFor(main),
    ),
    ...sails,
    detail(ellipse(hub[0], hub[1], 0.045), DARK),
  ]
}

/** Two round towers with cones, a battlement between them, a gate and flags. */
export const castle: Draw = ({ main, light, lit }) => {
  const roof = roofFor(main)
  const wall = union(
    rectangle(-0.36, 0, 0.72, 0.42),
    ...[-0.29, -0.125, 0.04, 0.205].map((x) => rectangle(x, 0.4, 0.095, 0.1)),
  )
  const tower = (s: 1 | -1): Part[] => [
    ...shaded(rectangle(s * 0.42 - 0.145, 0, 0.29, 0.62), main, light, s * 0.42 + 0.03 * -light, 0.2),
    pane(
      union(rectangle(s * 0.42 - 0.045, 0.36, 0.09, 0.1), segment(s * 0.42, 0.46, 0.045, 0.045, 0, 0.5)),
      lit,
    ),
    ...shaded(
      polygon([s * 0.42 - 0.2, 0.6], [s * 0.42 + 0.2, 0.6], [s * 0.42, 0.96]),
      roof,
      light,
      s * 0.42 * -light,
      0.2,
    ),
  ]
  return [
    solid(wall, shade(main, 0.08)),
    detail(union(rectangle(-0.12, 0, 0.24, 0.19), segment(0, 0.19, 0.12, 0.12, 0, 0.5)), DARK),
    detail(union(...[-0.05, 0.02].map((x) => rectangle(x, 0, 0.03, 0.28))), WOOD),
    ...tower(-1),
    ...tower(1),
  ]
}

/** A ridge tent seen from its open end. */
export const tent: Draw = ({ main, light, lit }) => {
  const front = polygon([-0.62, 0], [0.62, 0], [0, 0.84])
  return [
    detail(line(0.03, [-0.05, 0.9], [0.05, 0.75]), WOOD),
    detail(line(0.03, [0.05, 0.9], [-0.05, 0.75]), WOOD),
    ...shaded(front, main, light, 0, 0.2),
    within(polygon([-0.7, -0.01], [-0.52, -0.01], [0.02, 0.84], [-0.02, 0.9]), front, stripeFor(main)),
    within(polygon([0.7, -0.01], [0.52, -0.01], [-0.02, 0.84], [0.02, 0.9]), front, stripeFor(main)),
    { ...detail(polygon([-0.24, 0], [0.24, 0], [0, 0.5]), lit ? [255, 206, 110] : DARK), lamp: lit },
    detail(polygon([-0.24, 0], [-0.3, 0.02], [0, 0.54], [0, 0.5], [-0.1, 0]), shade(main, 0.36)),
    detail(polygon([0.24, 0], [0.3, 0.02], [0, 0.54], [0, 0.5], [0.1, 0]), shade(main, 0.36)),
  ]
}

import { ellipse, line, polygon, rectangle, roundRectangle, smooth, union } from "../geometry.ts"
import { lighten, luma, shade } from "../look.ts"
import type { Rgb } from "../raster.ts"
import {
  CREAM,
  DARK,
  type Draw,
  detail,
  GLASS,
  highlight,
  LAMP,
  METAL,
  pane,
  shadow,
  solid,
  stripeFor,
  WOOD,
  within,
} from "./brush.ts"

/** A boat with a mainsail, a jib and a wooden hull, heading right. */
export const sailboat: Draw = ({ main, light }) => {
  const hull = smooth(
    [-0.5, 0.24],
    [-0.2, 0.235],
    [0.2, 0.235],
    [0.54, 0.26],
    [0.46, 0.12],
    [0.34, 0.0],
    [0, -0.02],
    [-0.36, 0],
  )
  const sail = polygon([-0.04, 0.3], [-0.04, 0.98], [-0.46, 0.3])
  const jib = polygon([0.05, 0.32], [0.05, 0.9], [0.44, 0.32])
  const belly = light < 0 ? rectangle(-0.17, 0, 1, 1) : polygon([-1, 0], [-0.3, 0], [-0.14, 1], [-1, 1])
  return [
    solid(rectangle(-0.02, 0.2, 0.045, 0.84), WOOD),
    solid(sail, main),
    shadow(belly, sail, main, 0.16),
    solid(jib, luma(main) > 232 ? [222, 228, 238] : lighten(main, 0.34)),
    solid(hull, WOOD),
    within(rectangle(-1, 0.13, 2, 0.075), hull, main),
    shadow(rectangle(-1, -0.2, 2, 0.25), hull, WOOD, 0.24),
  ]
}

/** A hot-air balloon with gores and a basket; y = 0 is the basket's floor. */
export const balloon: Draw = ({ main, light }) => {
  const skin = smooth(
    [0, 0.24],
    [-0.14, 0.3],
    [-0.31, 0.48],
    [-0.37, 0.67],
    [-0.29, 0.88],
    [0, 1],
    [0.29, 0.88],
    [0.37, 0.67],
    [0.31, 0.48],
    [0.14, 0.3],
  )
  const stripe = stripeFor(main)
  return [
    detail(union(line(0.016, [-0.1, 0.3], [-0.08, 0.12]), line(0.016, [0.1, 0.3], [0.08, 0.12])), DARK),
    solid(skin, main),
    within(ellipse(0, 0.64, 0.22, 0.44), skin, stripe),
    within(ellipse(0, 0.64, 0.1, 0.44), skin, main),
    {
      path: ellipse(light * -0.56, 0.55, 0.36, 0.6),
      clip: skin,
      colour: [60, 40, 96],
      alpha: 0.16,
      modelling: true,
    },
    highlight(ellipse(light * 0.27, 0.79, 0.045, 0.09), skin, main, 0.5),
    solid(roundRectangle(-0.095, 0, 0.19, 0.15, 0.03), WOOD),
    detail(rectangle(-0.105, 0.12, 0.21, 0.035), shade(WOOD, 0.3)),
  ]
}

/** A small round car, heading right. */
export const car: Draw = ({ main, light, lit }) => {
  const cabin = smooth([-0.42, 0.36], [-0.36, 0.56], [-0.22, 0.72], [0.12, 0.72], [0.3, 0.56], [0.42, 0.36])
  const body = roundRectangle(-0.78, 0.12, 1.56, 0.36, 0.15)
  const shell = union(body, cabin)
  const glass = smooth([-0.34, 0.42], [-0.29, 0.55], [-0.19, 0.64], [0.1, 0.64], [0.23, 0.55], [0.32, 0.42])
  const wheel = (x: number) => [
    solid(ellipse(x, 0.155, 0.165), [54, 48, 62]),
    detail(ellipse(x, 0.155, 0.075), METAL),
  ]
  return [
    solid(shell, main),
    shadow(rectangle(-1, 0, 2, 0.23), shell, main, 0.24),
    highlight(roundRectangle(-0.68 + 0.1 * light, 0.385, 1.3, 0.035, 0.01), shell, main, 0.4),
    pane(glass, false),
    within(rectangle(-0.055, 0.3, 0.06, 0.5), glass, main),
    { ...detail(ellipse(0.7, 0.34, 0.06), lit ? LAMP : CREAM), lamp: lit },
    detail(
      roundRectangle(-0.78, 0.3, 0.07, 0.1, 0.03),
      luma(main) < 120 && main[0] > 180 ? [255, 190, 90] : [224, 62, 56],
    ),
    ...wheel(-0.43),
    ...wheel(0.43),
  ]
}

/** A rocket above its flame. */
export const rocket: Draw = ({ main, light }) => {
  const hull = smooth(
    [0, 1.02],
    [0.15, 0.82],
    [0.19, 0.56],
    [0.13, 0.25],
    [-0.13, 0.25],
    [-0.19, 0.56],
    [-0.15, 0.82],
  )
  const fin: Rgb = luma(main) < 100 && main[0] < 190 ? [224, 214, 226] : [86, 74, 104]
  const flame = (w: number, tip: number) =>
    smooth([-w, 0.24], [-w * 0.9, 0.14], [0, tip], [w * 0.9, 0.14], [w, 0.24])
  return [
    { ...solid(flame(0.13, -0.06), [255, 150, 46]), lamp: true },
    { ...detail(flame(0.075, 0.04), [255, 232, 130]), lamp: true },
    solid(polygon([-0.13, 0.5], [-0.36, 0.2], [-0.33, 0.1], [-0.1, 0.27]), fin),
    solid(polygon([0.13, 0.5], [0.36, 0.2], [0.33, 0.1], [0.1, 0.27]), fin),
    solid(hull, main),
    shadow(rectangle(light < 0 ? 0.05 : -0.55, 0, 0.5, 1.1), hull, main, 0.2),
    within(rectangle(-0.5, 0.83, 1, 0.3), hull, stripeFor(main)),
    solid(ellipse(0, 0.63, 0.098), METAL),
    detail(ellipse(0, 0.63, 0.066), GLASS),
    within(rectangle(-0.5, 0.3, 1, 0.06), hull, stripeFor(main)),
    solid(roundRectangle(-0.12, 0.21, 0.24, 0.06, 0.02), DARK),
  ]
}

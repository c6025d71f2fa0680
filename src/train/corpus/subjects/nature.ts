import { ellipse, line, polygon, rectangle, rotate, roundRectangle, smooth, union } from "../geometry.ts"
import { lighten, luma, mix, shade } from "../look.ts"
import type { Rgb } from "../raster.ts"
import {
  CREAM,
  DARK,
  type Draw,
  detail,
  highlight,
  shaded,
  shadow,
  shifted,
  solid,
  stripeFor,
  WOOD,
  within,
} from "./brush.ts"

const LEAF: Rgb = [72, 150, 84]

/** A round leafy tree. */
export const tree: Draw = ({ main, light, random }) => {
  const lean = random.range(-0.03, 0.03)
  const crown = union(
    ellipse(-0.21, 0.53, 0.2, 0.19),
    ellipse(0.21, 0.53, 0.2, 0.19),
    ellipse(lean, 0.52, 0.24, 0.2),
    ellipse(-0.12 + lean, 0.74, 0.21, 0.2),
    ellipse(0.13 + lean, 0.72, 0.21, 0.19),
  )
  return [
    solid(polygon([-0.09, 0], [0.09, 0], [0.05, 0.46], [-0.05, 0.46]), WOOD),
    solid(crown, main),
    shadow(
      union(ellipse(light * -0.24, 0.46, 0.26, 0.22), ellipse(light * -0.02, 0.36, 0.3, 0.12)),
      crown,
      main,
      0.2,
    ),
    highlight(ellipse(light * 0.15, 0.78, 0.13, 0.1), crown, main, 0.24),
  ]
}

/** A conifer of three tiers. */
export const pine: Draw = ({ main, light }) => {
  const tier = (y: number, w: number, h: number) => polygon([-w, y], [w, y], [0, y + h])
  const tiers = [tier(0.13, 0.37, 0.42), tier(0.37, 0.3, 0.38), tier(0.61, 0.22, 0.4)]
  return [
    solid(rectangle(-0.06, 0, 0.12, 0.16), WOOD),
    ...tiers.flatMap((t, i) => [
      ...shaded(t, main, light, 0, 0.2),
      ...(i > 0 ? [shadow(rectangle(-0.3, 0.13 + 0.24 * i - 0.0, 0.6, 0.02), t, main, 0.34)] : []),
    ]),
  ]
}

/** A saguaro with two arms, ribs and a blossom. */
export const cactus: Draw = ({ main, light, random }) => {
  const [left, right] = [random.range(-0.04, 0.04), random.range(-0.04, 0.04)]
  const trunk = union(roundRectangle(-0.13, 0.1, 0.26, 0.84, 0.13), rectangle(-0.13, 0, 0.26, 0.5))
  const arm = (s: number, y: number, top: number) =>
    union(
      roundRectangle(s * 0.33 - 0.085, y, 0.17, top - y, 0.085),
      roundRectangle(Math.min(0, s * 0.41), y, 0.41, 0.16, 0.08),
    )
  const arms = union(arm(-1, 0.3 + left, 0.68 + left), arm(1, 0.42 + right, 0.82 + right))
  const rib = (x: number) => ({
    ...detail(roundRectangle(x - 0.014, 0.06, 0.028, 0.8, 0.014), lighten(main, 0.28)),
    modelling: true,
  })
  return [
    solid(union(trunk, arms), main),
    shadow(rectangle(light < 0 ? 0.06 : -0.13, 0, 0.07, 0.9), trunk, main, 0.22),
    rib(-0.045),
    rib(0.04),
    ...[-0.06, 0, 0.06].map((x) =>
      detail(ellipse(x, 0.95, 0.05), luma(main) > 150 && main[1] < 160 ? CREAM : [248, 130, 160]),
    ),
  ]
}

/** A toadstool with a spotted cap. */
export const mushroom: Draw = ({ main, light }) => {
  const stem = smooth([-0.15, 0], [0.15, 0], [0.12, 0.24], [0.13, 0.5], [-0.13, 0.5], [-0.12, 0.24])
  const cap = smooth(
    [-0.52, 0.44],
    [-0.46, 0.68],
    [-0.24, 0.88],
    [0, 0.94],
    [0.24, 0.88],
    [0.46, 0.68],
    [0.52, 0.44],
    [0.26, 0.37],
    [0, 0.355],
    [-0.26, 0.37],
  )
  const spot = (x: number, y: number, rx: number, ry: number) =>
    within(ellipse(x, y, rx, ry), cap, stripeFor(main))
  return [
    ...shaded(stem, CREAM, light, 0.02, 0.14),
    solid(cap, main),
    shadow(ellipse(0, 0.36, 0.5, 0.075), cap, main, 0.34),
    shadow(ellipse(light * -0.62, 0.5, 0.34, 0.4), cap, main, 0.16),
    spot(-0.24, 0.62, 0.1, 0.09),
    spot(0.05, 0.76, 0.12, 0.095),
    spot(0.3, 0.58, 0.08, 0.08),
    spot(0.03, 0.52, 0.065, 0.05),
  ]
}

/** A single blossom with eight petals and two leaves. */
export const flower: Draw = ({ main, light, random }) => {
  const turn = random.range(0, 0.125)
  const petal = (i: number, r: number) => rotate(ellipse(0, 0.7 + r, 0.098, 0.155), 0, 0.7, turn + i / 8)
  const petals = union(...Array.from({ length: 8 }, (_, i) => petal(i, 0.18)))
  const heart: Rgb = main[0] > 225 && main[1] > 110 && main[2] < 100 ? [132, 82, 48] : [252, 204, 66]
  const stem = main[1] > main[0] + 60 && main[1] > main[2] + 40 ? shade(LEAF, 0.3) : LEAF
  return [
    solid(roundRectangle(-0.028, -0.02, 0.056, 0.6, 0.02), stem),
    solid(smooth([0, 0.06], [0.16, 0.1], [0.32, 0.3], [0.14, 0.27]), stem),
    solid(smooth([0, 0.1], [-0.16, 0.14], [-0.3, 0.36], [-0.13, 0.32]), stem),
    solid(petals, main),
    shadow(union(...[0, 2, 4, 6].map((i) => petal(i + 1, 0.1))), petals, main, 0.12),
    solid(ellipse(0, 0.7, 0.115), heart),
    shadow(ellipse(light * -0.07, 0.66, 0.1), ellipse(0, 0.7, 0.115), heart, 0.18),
  ]
}

/** A round head with two ears. */
const catHead = () =>
  union(
    smooth(
      [-0.3, 0.64],
      [-0.2, 0.5],
      [0, 0.46],
      [0.2, 0.5],
      [0.3, 0.64],
      [0.24, 0.82],
      [0, 0.87],
      [-0.24, 0.82],
    ),
    polygon([-0.29, 0.68], [-0.06, 0.84], [-0.27, 1.02]),
    polygon([0.29, 0.68], [0.06, 0.84], [0.27, 1.02]),
  )

/** A sitting cat, seen from the front. */
export const cat: Draw = ({ main, light }) => {
  const dark = luma(main) < 70
  const eye: Rgb = dark ? [250, 214, 90] : [52, 40, 58]
  const soft = lighten(main, dark ? 0.3 : 0.5)
  const trunk = smooth(
    [-0.3, 0.02],
    [0, 0],
    [0.3, 0.02],
    [0.29, 0.26],
    [0.2, 0.5],
    [0, 0.58],
    [-0.2, 0.5],
    [-0.29, 0.26],
  )
  const head = catHead()
  return shifted(-0.1, [
    solid(line(0.13, [0.22, 0.07], [0.4, 0.09], [0.49, 0.2], [0.48, 0.34]), shade(main, 0.16)),
    solid(trunk, main),
    shadow(ellipse(light * -0.34, 0.2, 0.2, 0.4), trunk, main, 0.18),
    within(ellipse(0, 0.16, 0.15, 0.26), trunk, soft),
    solid(union(ellipse(-0.12, 0.035, 0.11, 0.055), ellipse(0.12, 0.035, 0.11, 0.055)), main),
    solid(head, main),
    detail(
      union(
        polygon([-0.24, 0.76], [-0.13, 0.84], [-0.235, 0.93]),
        polygon([0.24, 0.76], [0.13, 0.84], [0.235, 0.93]),
      ),
      [244, 164, 168],
    ),
    detail(union(ellipse(-0.12, 0.67, 0.042, 0.055), ellipse(0.12, 0.67, 0.042, 0.055)), eye),
    detail(ellipse(0, 0.575, 0.09, 0.055), soft),
    detail(polygon([-0.04, 0.61], [0.04, 0.61], [0, 0.565]), dark ? [244, 164, 168] : DARK),
  ])
}

/** A plump bird in profile, facing right. */
export const bird: Draw = ({ main, light }) => {
  const beak: Rgb = main[0] > 200 && main[1] > 110 && main[2] < 120 ? [206, 84, 46] : [250, 168, 48]
  const body = smooth(
    [-0.42, 0.42],
    [-0.2, 0.2],
    [0.08, 0.16],
    [0.32, 0.3],
    [0.4, 0.54],
    [0.42, 0.76],
    [0.26, 0.92],
    [0.06, 0.84],
    [-0.02, 0.66],
    [-0.2, 0.56],
  )
  const wing = smooth([-0.34, 0.36], [-0.08, 0.3], [0.14, 0.44], [0.06, 0.6], [-0.12, 0.56])
  return [
    solid(line(0.045, [0.02, 0.22], [0.02, 0.02], [0.12, 0.02]), beak),
    solid(line(0.045, [0.16, 0.22], [0.16, 0.02], [0.26, 0.02]), beak),
    solid(polygon([-0.24, 0.52], [-0.62, 0.62], [-0.66, 0.46], [-0.3, 0.34]), shade(main, 0.26)),
    solid(polygon([0.36, 0.82], [0.62, 0.7], [0.36, 0.62]), beak),
    solid(body, main),
    within(ellipse(0.2, 0.26, 0.26, 0.2), body, mix(lighten(main, 0.5), CREAM, 0.3)),
    shadow(ellipse(light * -0.5, 0.3, 0.3, 0.3), body, main, 0.12),
    solid(wing, shade(main, 0.2)),
    detail(ellipse(0.24, 0.76, 0.058), CREAM),
    detail(ellipse(0.255, 0.76, 0.034), [44, 34, 50]),
  ]
}

/** By how many pixels sides are offered: 64 around 512 pixels and more, finer for models and pictures that are smaller. */
export const grain = (side: number): number => Math.min(64, Math.max(8, 8 * Math.round(side / 64)))

/** Largest side of what is drawn after a start picture, by the side of the pictures that the model was made for. */
export const mostFrom = (side: number): number => Math.min(1024, 2 * side)

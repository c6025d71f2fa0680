/**
 * Models that come with the package, folders of `assets`: `embedded`, and its student `embedded-fast`, which draws in a
 * quarter of the calls.
 */
export const builtInModels = ["embedded", "embedded-fast"] as const
export type BuiltInModel = (typeof builtInModels)[number]

export const isBuiltIn = (name: unknown): name is BuiltInModel => builtInModels.includes(name as BuiltInModel)

import { readFile } from "node:fs/promises"
import type { Command } from "commander"
import {
  AquatintError,
  type Recipe,
  type RecipeFiles,
  readMetadata,
  readRecipe,
  recipeFiles,
} from "../index.ts"
import type { Options } from "./generate.ts"

/** What `generate` shall do, after a recipe had its say. */
export interface Asked {
  readonly prompt: string
  readonly options: Options
  readonly program?: Recipe["program"]
  /** Files of LoRAs that the prompt names by other names. */
  readonly renamed?: RecipeFiles["renamed"]
  /** The model that the picture says it was drawn with. */
  readonly drawn?: Recipe["model"]
}

/**
 * Fills in what a picture's metadata say, under what the command line says itself. What cannot be repeated is told.
 * @throws RECIPE_NONE, USAGE
 */
export async function withRecipe(
  prompt: string | undefined,
  options: Options,
  command: Command,
): Promise<Asked> {
  if (options.from === undefined) return { prompt: promptOf(prompt, options), options }
  const recipe = await recipeIn(options.from)
  const said = (key: keyof Options) => command.getOptionValueSource(key) === "cli"
  const own = Object.fromEntries(Object.entries(options).filter(([key]) => said(key as keyof Options)))
  const start = startOf(recipe, options)
  const chosen = said("model")
  const files = await recipeFiles(withoutOwn(recipe, own), options.model, {
    chosen,
    reading: (path) => !options.json && process.stderr.write(`reading ${path} for its hash\n`),
  })
  const { name } = recipe.model
  const lines = [
    ...[...start.unmet, ...recipe.unmet, ...files.missing].map((what) => `not repeated: ${what}`),
    ...files.said,
    ...(!chosen && name !== null && files.model === null
      ? [`its model, ${name}, is not in the library; drawn with ${options.model}`]
      : []),
  ]
  if (!options.json) for (const line of lines) process.stderr.write(`${line}\n`)
  const { prompt: theirs, ...settings } = recipe.request
  return {
    prompt: prompt ?? theirs ?? "",
    program: recipe.program,
    renamed: files.renamed,
    ...(files.model !== null ? { drawn: recipe.model } : {}),
    options: {
      ...options,
      ...settings,
      ...start.settings,
      ...(recipe.dtype ? { dtype: recipe.dtype } : {}),
      ...filesOf(recipe, files),
      ...own,
    } as Options,
  }
}

/** The prompt of a command without a picture to repeat; none where a file holds them. @throws USAGE */
function promptOf(prompt: string | undefined, { prompts }: Options): string {
  if (prompt !== undefined) return prompt
  if (prompts !== undefined) return ""
  throw new AquatintError("USAGE", "missing required argument 'prompt'", {
    hint: 'say what to draw: aquatint "a lighthouse at sunset"; or repeat a picture: --from picture.png',
  })
}

/** A recipe but for the files that the command line names itself. */
function withoutOwn(recipe: Recipe, own: Partial<Options>): Recipe {
  const { vae, refiner, hashes, ...rest } = recipe
  const { embeddings, ...others } = hashes ?? {}
  return {
    ...rest,
    ...(vae && own.vae === undefined ? { vae } : {}),
    ...(refiner && own.refiner === undefined ? { refiner } : {}),
    hashes: { ...others, ...(embeddings && own.embedding === undefined ? { embeddings } : {}) },
  }
}

function filesOf({ refiner }: Recipe, files: RecipeFiles): Partial<Options> {
  const { model, vae, loras, embeddings } = files
  return {
    ...(model === null ? {} : { model }),
    ...(vae === null ? {} : { vae }),
    ...(files.refiner === null ? {} : { refiner: files.refiner, refinerAt: refiner?.at }),
    lora: [...loras],
    ...(embeddings.length === 0 ? {} : { embedding: [...embeddings] }),
  }
}

/** Says where the model that was found by its name is another than the picture was drawn with. */
export function tellOther({ name, hash }: Recipe["model"], sha256: string, path: string): void {
  const digits = /^(?:sha256:)?([0-9a-f]{10,64})$/i.exec(hash ?? "")?.[1]?.toLowerCase()
  if (digits === undefined || !/\.safetensors$/i.test(path) || sha256.startsWith(digits)) return
  process.stderr.write(
    `model ${name}: the file here has another hash, ${sha256.slice(0, digits.length)}, than the picture's, ${digits}\n`,
  )
}

async function recipeIn(path: string): Promise<Recipe> {
  const recipe = readRecipe(await readMetadata(await fileBytes(path)))
  if (recipe) return recipe
  throw new AquatintError("RECIPE_NONE", `${path} does not say how it was made`, {
    hint: "programs leave this out of some files, and web sites take it away; give the prompt yourself",
    file: path,
  })
}

/** What goes with a start picture, where the command line names one. */
function startOf(
  { start }: Recipe,
  { init, mask }: Options,
): { settings: Partial<Options>; unmet: string[] } {
  if (!start) return { settings: {}, unmet: [] }
  const { strength, mask: masked, sdUpscale, upscaler } = start
  if (init === undefined)
    return {
      settings: {},
      unmet: [`it began from another picture (strength ${strength}); name it with --init`],
    }
  const repainted = masked && Object.keys(masked).length > 0
  return {
    settings: {
      strength,
      ...(mask === undefined ? {} : masked),
      ...(sdUpscale ? { sdUpscale: sdUpscale.scale ?? 2, tileOverlap: sdUpscale.overlap, upscaler } : {}),
    },
    unmet: repainted && mask === undefined ? ["it was repainted through a mask; name it with --mask"] : [],
  }
}

/** @throws INPUT_FILE */
export async function fileBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path)
  } catch (cause) {
    throw new AquatintError("INPUT_FILE", `${path} cannot be read`, {
      cause,
      file: path,
      hint: "name a PNG, JPEG or WebP file",
    })
  }
}

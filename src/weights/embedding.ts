import { fail } from "../errors.ts"
import { decodeFloats } from "./decode.ts"
import type { TensorView } from "./view.ts"

/** Textual inversion (Gal et al. 2022): the words of one file, each with its vectors for each text encoder. */
export interface EmbeddingWord {
  /** How prompts name it: the file's stem and, in diffusers' form, the tensor's key. */
  readonly words: readonly string[]
  /** Rows: vectors n d, one entry per text encoder of the model, in its order. */
  readonly vectors: readonly Float32Array[]
  readonly count: number
}

interface Encoder {
  /** `text_encoder` or `text_encoder_2`. */
  readonly name: string
  readonly size: number
}

/** Keys that A1111 and SDXL trainers give to the vectors of one word; the word is the file's name. */
const named: Record<string, string> = { clip_l: "text_encoder", clip_g: "text_encoder_2" }
const single = /^(emb_params|\*|string_to_param\.\*)$/

/**
 * The words of an embedding file: A1111's `emb_params` or `string_to_param.*`, SDXL's `clip_l` and `clip_g`, or
 * diffusers' tensors by token.
 * @param stem the file's name, without ending
 * @throws EMBEDDING_SHAPE when the vectors fit none of the encoders, EMBEDDING_NOT_ONE
 */
export async function readEmbedding(
  tensors: ReadonlyMap<string, TensorView>,
  encoders: readonly Encoder[],
  {
    stem,
    path,
    read,
  }: { stem: string; path: string; read(offset: number, length: number): Promise<Uint8Array> },
): Promise<EmbeddingWord[]> {
  const load = async (view: TensorView) => decodeFloats(view.dtype, await read(view.offset, view.length))
  const out: EmbeddingWord[] = []
  for (const { words, views } of wordsOf(tensors, stem, path)) {
    const chosen = encoders.map((encoder) => {
      const fits = views.filter(
        ([key, view]) => view.shape.at(-1) === encoder.size && (named[key] ?? encoder.name) === encoder.name,
      )
      return fits[0]?.[1] ?? misfit(path, views, encoders)
    })
    const counts = chosen.map(({ shape }) => (shape.length === 1 ? 1 : shape[0]!))
    if (counts.some((n) => n !== counts[0]))
      fail("EMBEDDING_SHAPE", `${path}: ${counts.join(" and ")} vectors for the text encoders`, {
        file: path,
        hint: "both must have the same number; fetch the file again",
      })
    const vectors: Float32Array[] = []
    for (const view of chosen) vectors.push(await load(view))
    out.push({ words, vectors, count: counts[0]! })
  }
  return out
}

/**
 * How many tokens each word of an embedding file takes in a prompt, from its header.
 * @param stem the file's name, without ending
 * @throws EMBEDDING_NOT_ONE
 */
export function embeddingCounts(
  tensors: ReadonlyMap<string, TensorView>,
  stem: string,
  path: string,
): Map<string, number> {
  const count = ({ shape }: TensorView) => (shape.length === 1 ? 1 : shape[0]!)
  return new Map(
    wordsOf(tensors, stem, path).flatMap(({ words, views }) =>
      words.map((word) => [word, count(views[0]![1])] as const),
    ),
  )
}

function wordsOf(tensors: ReadonlyMap<string, TensorView>, stem: string, path: string) {
  const paired = [...tensors.keys()].some((key) => Object.hasOwn(named, key))
  return paired ? [{ words: [stem], views: [...tensors] }] : groupsOf(tensors, stem, path)
}

function groupsOf(tensors: ReadonlyMap<string, TensorView>, stem: string, path: string) {
  const fitting = [...tensors].filter(([, { shape }]) => shape.length === 1 || shape.length === 2)
  if (fitting.length === 0 || fitting.length > 64)
    fail("EMBEDDING_NOT_ONE", `${path} holds no embedding`, {
      file: path,
      hint: "an embedding holds one small matrix of vectors per word",
    })
  const loners = fitting.length === 1
  return fitting.map(([key, view]) => ({
    words: single.test(key) ? [stem] : loners && stem !== key ? [key, stem] : [key],
    views: [[key, view]] as [string, TensorView][],
  }))
}

function misfit(path: string, views: readonly [string, TensorView][], encoders: readonly Encoder[]): never {
  const found = views.map(([key, { shape }]) => `${key} of ${shape.at(-1)}`).join(", ")
  fail(
    "EMBEDDING_SHAPE",
    `${path} has ${found} numbers a vector, the model's text encoders read ${encoders.map(({ size }) => size).join(" and ")}`,
    { file: path, hint: "it was trained for a model of another family" },
  )
}

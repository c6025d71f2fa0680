import { fail } from "../../errors.ts"
import { input, parameter, type Tensor } from "../../graph/index.ts"
import { f32, i64, type Value } from "../../runtime/engine.ts"
import { type TensorToWrite, writeSafetensors } from "../../weights/write.ts"
import type { TextInputs } from "./batches.ts"
import type { Method } from "./diffusion.ts"
import { readWeights, storedWeights, type TextPart, type TrainModel } from "./model.ts"
import { denoiserOf, encodedText } from "./networks.ts"
import type { TrainSettings } from "./options.ts"
import { type SavedType, tensorOf, type Values } from "./save.ts"
import { textNets } from "./texts.ts"

/** The learned rows of each text encoder, n d. */
const rowsName = (part: TextPart): string => `${part.name}.word`

/**
 * Textual inversion (Gal et al. 2023): the rows of a new word are learned, everything else stays. Captions name the
 * word; those that do not are given it as `a photo of WORD`.
 */
export function inversionMethod(model: TrainModel, s: TrainSettings): Method {
  const word = s.word!
  const nets = textNets(model)
  const learned = new Map(
    model.texts.map((part) => [
      rowsName(part),
      parameter(rowsName(part), [s.vectors, part.config.hidden_size]),
    ]),
  )
  const embed = (i: number, ids: Tensor): Tensor => {
    const part = model.texts[i]!
    const { tokenEmbedding, positionEmbedding } = nets[i]!.textModel.embeddings
    const mask = input(`new ${i}`, [...ids.shape, 1])
    const known = tokenEmbedding.forward(ids).mul(mask.neg().add(1))
    const own = learned
      .get(rowsName(part))!
      .gather(input(`row ${i}`, ids.shape, "i64"))
      .mul(mask)
    return known.add(own).add(positionEmbedding.weight.tensor.slice(0, 0, ids.shape[1]!))
  }
  const { predict } = denoiserOf(model, encodedText(nets, embed))
  return {
    parameters: learned,
    first: () => startRows(model, s),
    held: storedWeights(model),
    texts: wordTexts(model, word, s.vectors),
    predict,
  }
}

/** The rows a known word has, repeated for further vectors. @throws TRAIN_WORD when it is no single token */
async function startRows(model: TrainModel, s: TrainSettings): Promise<Map<string, Float32Array>> {
  const out = new Map<string, Float32Array>()
  for (const part of model.texts) {
    const ids = part.tokenizer.encode(s.start!)
    if (ids.length === 0)
      fail("TRAIN_WORD", `${s.start} has no token to start from`, { hint: "choose a common word" })
    const name = `${part.name}.text_model.embeddings.token_embedding.weight`
    const table = (await readWeights(model, [name])).get(name)!
    const size = part.config.hidden_size
    const rows = new Float32Array(s.vectors * size)
    for (let v = 0; v < s.vectors; v++) {
      const id = ids[v % ids.length]!
      rows.set(table.subarray(id * size, (id + 1) * size), v * size)
    }
    out.set(rowsName(part), rows)
  }
  return out
}

/** Ids in which the word's places hold the end token, with `new` 1 and `row` its vector there. */
function wordTexts(model: TrainModel, word: string, vectors: number): TextInputs {
  const tokenizers = model.texts.map((part) => part.tokenizer.withWords(new Map([[word, vectors]])))
  return async (texts) => {
    const out: Record<string, Value> = {}
    for (const [i, part] of model.texts.entries()) {
      const length = part.config.max_position_embeddings
      const size = texts.length * length
      const [ids, rows, mask, ends] = [
        new Array<number>(size),
        new Array<number>(size).fill(0),
        new Float32Array(size),
        [],
      ] as [number[], number[], Float32Array, number[]]
      for (const [n, text] of texts.entries()) {
        const named =
          text === "" || text.toLowerCase().includes(word.toLowerCase())
            ? text
            : `a photo of ${word}, ${text}`
        const tokens = tokenizers[i]!.encodeGroups(named)
          .flat()
          .slice(0, length - 2)
        const { bos, eos, pad, size: known } = part.tokenizer
        const all = [bos, ...tokens, eos]
        for (let t = 0; t < length; t++) {
          const id = all[t] ?? pad
          const at = n * length + t
          ids[at] = id >= known ? eos : id
          rows[at] = id >= known ? id - known : 0
          mask[at] = id >= known ? 1 : 0
        }
        ends.push(n * length + all.length - 1)
      }
      out[`ids ${i}`] = i64(ids, [texts.length, length])
      out[`row ${i}`] = i64(rows, [texts.length, length])
      out[`new ${i}`] = f32(mask, [texts.length, length, 1])
      out[`ends ${i}`] = i64(ends, [texts.length])
    }
    return out
  }
}

/** Writes the word: its vectors under the word itself, which diffusers and A1111 read; SDXL's under clip_l and clip_g. */
export async function saveWord(
  path: string,
  model: TrainModel,
  values: Values,
  { word, vectors, dtype }: { word: string; vectors: number; dtype: SavedType },
): Promise<void> {
  const single = model.texts.length === 1
  const tensors: TensorToWrite[] = model.texts.map((part, i) =>
    tensorOf(
      single ? word : (["clip_l", "clip_g"][i] ?? part.name),
      [vectors, part.config.hidden_size],
      values.get(rowsName(part))!,
      dtype,
    ),
  )
  await writeSafetensors(path, tensors, [["format", "pt"]])
}

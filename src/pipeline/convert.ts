import { AquatintError } from "../errors.ts"
import type { Engine } from "../runtime/engine.ts"
import { Evaluator } from "../runtime/evaluate.ts"
import { spawnEngine } from "../runtime/spawn.ts"
import { bundledFiles } from "../text/bundled.ts"
import {
  type ConvertNeeds,
  type ConvertOptions,
  type ConvertResult,
  type ConvertStep,
  convertSteps,
} from "../weights/convert.ts"
import { findBeside } from "./adapter-files.ts"
import { openModel } from "./stable-diffusion.ts"

export type { ConvertOptions, ConvertResult, ConvertStep }

/** A conversion: iterate over its steps, or await its result; it starts with the first of either. */
export class Conversion implements AsyncIterable<ConvertStep>, PromiseLike<ConvertResult> {
  private readonly start: () => AsyncGenerator<ConvertStep, ConvertResult>
  private result: Promise<ConvertResult> | undefined

  constructor(start: () => AsyncGenerator<ConvertStep, ConvertResult>) {
    this.start = start
  }

  /** Steps as they happen; leaving the loop stops the conversion and removes what it had written. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ConvertStep, ConvertResult> {
    if (this.result) return await this.result
    let settle: (result: ConvertResult) => void = () => {}
    let refuse: (error: unknown) => void = () => {}
    this.result = new Promise((yes, no) => {
      settle = yes
      refuse = no
    })
    this.result.catch(() => {})
    try {
      const result = yield* this.start()
      settle(result)
      return result
    } catch (error) {
      refuse(error)
      throw error
    } finally {
      refuse(new AquatintError("CANCELLED", "the conversion was left before its end", { blame: "here" }))
    }
  }

  // biome-ignore lint/suspicious/noThenProperty: a conversion can be awaited as well as iterated
  then<A = ConvertResult, B = never>(
    yes?: ((result: ConvertResult) => A | PromiseLike<A>) | null,
    no?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.finish().then(yes, no)
  }

  private async finish(): Promise<ConvertResult> {
    if (!this.result) for await (const _ of this);
    return await this.result!
  }
}

/**
 * Converts a model: `.safetensors` destinations are single files, others diffusers folders. Sources are safetensors
 * files, folders, and pickled files read as data. `source` may also be a model's name.
 * @throws CONVERT_*, MODEL_*, FILE_*, FOLDER_*, SAFETENSORS_*, TORCH_*, PICKLE_*, ZIP_*
 * @example await convert("model.ckpt", "model.safetensors", { dtype: "fp16" })
 */
export function convert(
  source: string,
  destination: string,
  options: ConvertOptions & {
    /** An engine to compute adapters' weights with; it is not ended. Default: a child process, where there is need. */
    engine?: Engine
  } = {},
): Conversion {
  return new Conversion(() => steps(source, destination, options))
}

async function* steps(
  source: string,
  destination: string,
  options: ConvertOptions & { engine?: Engine },
): AsyncGenerator<ConvertStep, ConvertResult> {
  let own: Engine | undefined
  let evaluator: Evaluator | undefined
  const needs: ConvertNeeds = {
    tokenizerFiles,
    open: openModel,
    findAdapter: (name, model) => findBeside(name, model, "adapter"),
    evaluate: (result, numbers) => {
      evaluator ??= new Evaluator(options.engine ?? (own ??= spawnEngine()))
      return evaluator.run(result, numbers)
    },
  }
  try {
    return yield* convertSteps(source, destination, options, needs)
  } finally {
    if (own) await own.close()
    else await evaluator?.release()
  }
}

/** CLIP's tokenizer as the published folders hold it; the pad token stands in special_tokens_map.json. */
async function tokenizerFiles(pad: "<|endoftext|>" | "!"): Promise<Map<string, string>> {
  const { vocab, merges } = await bundledFiles()
  const [begin, end] = ["<|startoftext|>", "<|endoftext|>"]
  const token = (content: string) => ({
    content,
    lstrip: false,
    normalized: true,
    rstrip: false,
    single_word: false,
  })
  const typed = (content: string) => ({ __type: "AddedToken", ...token(content) })
  const config = {
    add_prefix_space: false,
    bos_token: typed(begin),
    do_lower_case: true,
    eos_token: typed(end),
    errors: "replace",
    model_max_length: 77,
    pad_token: pad,
    tokenizer_class: "CLIPTokenizer",
    unk_token: typed(end),
  }
  const special = { bos_token: token(begin), eos_token: token(end), pad_token: pad, unk_token: token(end) }
  const json = (value: object) => `${JSON.stringify(value, null, 2)}\n`
  return new Map([
    ["vocab.json", vocab],
    ["merges.txt", merges],
    ["tokenizer_config.json", json(config)],
    ["special_tokens_map.json", json(special)],
  ])
}

import { type Command, Option } from "commander"
import {
  AquatintError,
  decodeImage,
  type EmbeddingRequest,
  emphases,
  type GenerateRequest,
  type GenerateResult,
  type LoadOptions,
  type LoraRequest,
  type Picture,
  StableDiffusion,
  samplerIds,
  scheduleIds,
  speeds,
} from "../index.ts"
import { another, control, lora } from "./adapters.ts"
import { addManyOptions, type ManyOptions, many, together } from "./many.ts"
import { addModeOptions, type HiresOptions, withHires } from "./modes.ts"
import { number } from "./options.ts"
import { checkTarget, type OutputOptions, save, tell, writeTrace } from "./output.ts"
import { Previews } from "./previews.ts"
import { Progress } from "./progress.ts"
import { fileBytes, tellOther, withRecipe } from "./recipe.ts"

export interface Options
  extends Omit<
      GenerateRequest,
      "prompt" | "init" | "mask" | "loras" | "embeddings" | "controls" | "hires" | "sdUpscale" | "refiner"
    >,
    HiresOptions,
    ManyOptions,
    OutputOptions {
  sdUpscale?: number
  tileOverlap?: number
  model: string
  from?: string
  init?: string
  mask?: string
  device: "auto"
  dtype: NonNullable<LoadOptions["dtype"]>
  lora?: LoraRequest[]
  embedding?: (string | EmbeddingRequest)[]
  control?: string[]
  vae?: string
  preview?: string
  previewVae?: string
  refiner?: string
  refinerAt?: number
}

/** Adds `generate`: text to image, and with a start picture image to image and inpainting. */
export function addGenerate(top: Command): void {
  const command = top
    .command("generate")
    .description("draw pictures from a prompt")
    .argument("[prompt]", "what to draw")
    .option("-m, --model <name>", "built-in name, .safetensors file, diffusers folder or hub id", "embedded")
    .option("--from <picture>", "repeat a picture of this or another program by its metadata (default: none)")
  addPictureOptions(command)
  addInputOptions(command)
  addModeOptions(command)
  addManyOptions(command)
  addOutputOptions(command)
  command
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(run)
}

/** What the picture shall be. */
function addPictureOptions(command: Command): void {
  command
    .option("-n, --negative <text>", "negative prompt (default: empty)")
    .option("--steps <n>", "denoising steps (default: 20)", number)
    .option("--cfg <scale>", "guidance scale, 1 for none (default: 7.5)", number)
    .option("--sampler <id>", `one of ${samplerIds.join(" ")} (default: the model's scheduler config)`)
    .option("--schedule <id>", `one of ${scheduleIds.join(" ")} (default: normal)`)
    .option("--eta <share>", "fresh noise of DDIM and TCD, 0..1 (default: 0)", number)
    .option("--clip-skip <n>", "1 is the text encoder's last layer (default: the model's)", number)
    .option("--seed <n>", "32-bit integer (default: random, reported)", number)
    .option("-W, --width <pixels>", "multiple of 8 (default: the model's native size)", number)
    .option("-H, --height <pixels>", "multiple of 8 (default: the model's native size)", number)
    .option("--count <n>", "number of pictures; picture i uses seed + i (default: 1)", number)
    .addOption(new Option("--rng <kind>", "noise as torch draws it").choices(["cpu", "cuda"]).default("cpu"))
    .option("--guidance-rescale <share>", "rescale of guided predictions, 0..1 (default: 0)", number)
    .addOption(
      new Option("--speed <name>", "fast leaves out work at a small price").choices(speeds).default("exact"),
    )
    .option("--step-cache <n>", "run the network's deep part at every nth step (default: by speed)", number)
    .option("--guidance-start <share>", "where on the way guidance begins (default: by speed)", number)
    .option("--guidance-end <share>", "where on the way guidance ends (default: by speed)", number)
    .option(
      "--guidance-hold <share>",
      "from where it repeats its last difference (default: by speed)",
      number,
    )
    .option(
      "--token-merge <share>",
      "merge this share of alike places for self-attention (default: 0)",
      number,
    )
}

/** What goes in beside the prompt, and how it is read. */
function addInputOptions(command: Command): void {
  const syntax = new Option("--prompt-syntax <name>", "how weights in the prompt are written")
  const emphasis = new Option("--emphasis <mode>", "what weights of A1111's syntax do")
  command
    .option("--init <picture>", "start picture (default: none)")
    .option("--strength <share>", "how much of the start picture is redrawn, 0..1 (default: 0.75)", number)
    .option("--mask <picture>", "white is repainted (default: none)")
    .option("--image-cfg <scale>", "second guidance of instruct models (default: 1.5)", number)
    .option("--lora <path[=weight]>", "LoRA, LoCon, LoHa, LoKr or DoRA; repeatable (default weight: 1)", lora)
    .option("--refiner <model>", "SDXL's refiner, or another model for the last steps (default: none)")
    .option("--refiner-at <share>", "where on the way it takes over, 0..1 (default: 0.8)", number)
    .option("--vae <path>", "another VAE: folder or file, AutoencoderKL or TAESD (default: the model's)")
    .option("--embedding <path>", "textual inversion, its word is its file's name; repeatable", another)
    .option(
      "--control <fields>",
      "model=PATH,image=PATH[,weight=1][,start=0][,end=1][,guess=true][,preprocess=canny|lines|depth]; repeatable",
      another,
    )
    .addOption(syntax.choices(["a1111", "comfy", "compel", "plain"]).default("a1111"))
    .addOption(emphasis.choices(emphases).default("original"))
}

/** Where it runs and where the result goes. */
function addOutputOptions(command: Command): void {
  const devices = ["auto", "cpu", "webgpu", "cuda", "dml", "coreml"]
  command
    .addOption(new Option("--device <name>", "where to run").choices(devices).default("auto"))
    .addOption(
      new Option("--dtype <type>", "how to compute").choices(["auto", "fp32", "int8"]).default("auto"),
    )
    .option("-o, --out <path>", "file, folder or -; .png, .jpg or .webp (default: a new file here)")
    .option("--quality <n>", "of JPEG and WebP, 1..100 (default: 90)", number)
    .option("--preview <file>", "write the unfinished picture here while drawing, as PNG (default: none)")
    .option(
      "--preview-vae <path>",
      "TAESD that decodes previews: folder or file (default: one beside the model, else rough)",
    )
    .option("--json", "print one JSON object and nothing else (default: off)")
    .option("--trace <file>", "write the tensors of the run as .safetensors (default: none)")
}

async function run(given: string | undefined, asked: Options, command: Command): Promise<void> {
  const { prompt, options, program, renamed, drawn } = await withRecipe(given, asked, command)
  const target = await checkTarget(options)
  const plan = await many(await request(prompt, options), options)
  const sd = await StableDiffusion.load(options.model, {
    device: options.device,
    dtype: options.dtype,
    frugal: plan.asks.length === 1,
    vae: options.vae,
    preview: options.preview === undefined ? undefined : (options.previewVae ?? "beside"),
    lora: (name) => renamed?.get(name),
  })
  const finer = await openRefiner(options, sd)
  const { refinerAt: at } = options
  const refined = finer ? { refiner: { model: finer, ...(at === undefined ? {} : { at }) } } : {}
  const previews = options.preview === undefined ? null : new Previews(options.preview)
  const progress = options.json || !process.stderr.isTTY ? null : new Progress(process.stderr)
  try {
    const results: GenerateResult[] = []
    // A1111 writes "Clip skip" and leaves SDXL's encoders alone
    const unread = program === "a1111" && /^sdxl/.test(sd.files.family)
    const skip = unread && command.getOptionValueSource("clipSkip") !== "cli" ? { clipSkip: undefined } : {}
    for (const asks of plan.asks) {
      const ask = { ...asks, ...skip }
      const generation = sd.generate({ ...ask, ...refined }, { trace: options.trace !== undefined })
      for await (const step of generation) {
        progress?.show(step)
        await previews?.show(step)
      }
      results.push(await generation)
    }
    progress?.done()
    const result = await together(plan, results)
    const paths = await save(result.images, target, prompt, options)
    if (options.trace) await writeTrace(options.trace, result)
    await tell(sd, result, paths, options)
    if (drawn && !options.json) tellOther(drawn, (await sd.facts).sha256, sd.files.path)
  } finally {
    progress?.done()
    await previews?.done()
    await finer?.release()
    await sd.release()
  }
}

/** The model that walks the last steps, or null; the first one is given back when it cannot be opened. */
async function openRefiner(
  { refiner, device, dtype }: Options,
  sd: StableDiffusion,
): Promise<StableDiffusion | null> {
  if (refiner === undefined) return null
  try {
    return await StableDiffusion.load(refiner, { device, dtype, frugal: true })
  } catch (error) {
    await sd.release()
    throw error
  }
}

const picture = async (path: string): Promise<Picture> => decodeImage(await fileBytes(path), {}, path)

async function request(prompt: string, options: Options): Promise<GenerateRequest> {
  const {
    model: _m,
    from: _f,
    device: _d,
    dtype: _t,
    out: _o,
    json: _j,
    trace: _tr,
    quality: _q,
    lora: loras,
    embedding: embeddings,
    control: controls,
    vae: _v,
    preview: _pv,
    previewVae: _pt,
    refiner: _r,
    refinerAt: _ra,
    init,
    mask,
    sdUpscale: scale,
    tileOverlap: overlap,
    prompts: _p,
    matrix: _mx,
    x: _x,
    y: _y,
    z: _z,
    ...rest
  } = withHires(options)
  if (mask !== undefined && init === undefined)
    throw new AquatintError("REQUEST_MASK", "a mask without a start picture", {
      hint: "name the picture to repaint with --init",
    })
  return {
    prompt,
    ...rest,
    loras,
    embeddings,
    controls: await Promise.all((controls ?? []).map((text) => control(text, picture))),
    ...(scale === undefined ? {} : { sdUpscale: { scale, overlap } }),
    ...(init === undefined ? {} : { init: await picture(init) }),
    ...(mask === undefined ? {} : { mask: await picture(mask) }),
  }
}

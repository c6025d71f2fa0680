import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { fail } from "../../errors.ts"
import { readFloats } from "../../weights/decode.ts"
import { openSafetensors, withFile } from "../../weights/open-file.ts"
import { openTorchFile } from "../../weights/torch-file.ts"
import { PythonFloat, type Saved, type TensorToSave, writeTorchFile } from "../../weights/torch-write.ts"
import type { TensorView } from "../../weights/view.ts"
import { writeWhole } from "../checkpoint.ts"
import type { TrainSettings } from "./options.ts"
import type { Placed } from "./prepare.ts"
import { saveComponent, type Values } from "./save.ts"

type Shapes = ReadonlyMap<string, readonly number[]>

/** The order in which PyTorch counts a U-Net's parameters: as diffusers' class declares its parts. */
const parts = [
  "conv_in",
  "time_embedding",
  "add_embedding",
  "down_blocks",
  "up_blocks",
  "mid_block",
  "conv_norm_out",
  "conv_out",
]

/** Names of a U-Net's weights as diffusers' `unet.parameters()` gives them. @param names in our order, `unet.` before them */
export function torchOrder(names: Iterable<string>): string[] {
  const place = (name: string) => parts.indexOf(name.split(".")[1]!)
  return [...names]
    .map((name, i) => ({ name, i }))
    .sort((a, b) => place(a.name) - place(b.name) || a.i - b.i)
    .map(({ name }) => name)
}

/**
 * Writes a checkpoint as accelerate's `save_state` leaves it in diffusers' text-to-image script: `unet/`,
 * `optimizer.bin` with AdamW's moments, `scheduler.bin`. The script goes on from it by `--resume_from_checkpoint`.
 * @param state values of a finished or running training by name, with `NAME.m` and `NAME.v`
 */
export async function writeAccelerateState(
  folder: string,
  state: Values,
  shapes: Shapes,
  s: TrainSettings,
  config: object,
): Promise<void> {
  if (s.optimizer !== "adamw")
    fail("TRAIN_CONFIG", `the state of ${s.optimizer} is no AdamW state, which the script goes on from`, {
      hint: "train with --optimizer adamw",
    })
  await mkdir(join(folder, "unet"), { recursive: true })
  const weights = new Map([...shapes.keys()].map((name) => [name, state.get(name)!]))
  await saveComponent(folder, "unet", weights, shapes, "fp32")
  await writeWhole(join(folder, "unet", "config.json"), `${JSON.stringify(config, null, 2)}\n`)
  await writeTorchFile(join(folder, "optimizer.bin"), optimizerState(state, shapes, s))
  await writeTorchFile(join(folder, "scheduler.bin"), schedulerState(s))
}

function optimizerState(state: Values, shapes: Shapes, s: TrainSettings): Saved {
  const names = torchOrder(shapes.keys())
  const tensor = (name: string, slot: string): TensorToSave => ({
    shape: shapes.get(name)!,
    data: state.get(`${name}.${slot}`)!,
  })
  const slots = names.map((name, i): [number, Saved] => [
    i,
    new Map<string, Saved>([
      ["step", { shape: [], data: Float32Array.of(s.steps) }],
      ["exp_avg", tensor(name, "m")],
      ["exp_avg_sq", tensor(name, "v")],
    ]),
  ])
  const group = new Map<string, Saved>([
    ["lr", new PythonFloat(s.rate)],
    // weights-only loading has no tuples' torch version to trip over: a list is read as well
    ["betas", [new PythonFloat(s.beta1), new PythonFloat(s.beta2)]],
    ["eps", new PythonFloat(1e-8)],
    ["weight_decay", new PythonFloat(s.weightDecay)],
    ["amsgrad", false],
    ["foreach", null],
    ["maximize", false],
    ["capturable", false],
    ["differentiable", false],
    ["fused", null],
    ["decoupled_weight_decay", true],
    ["initial_lr", new PythonFloat(s.rate)],
    ["params", names.map((_, i) => i)],
  ])
  return new Map<string, Saved>([
    ["state", new Map(slots)],
    ["param_groups", [group]],
  ])
}

/** LambdaLR's state, at the step where the training stands. */
const schedulerState = (s: TrainSettings): Saved =>
  new Map<string, Saved>([
    ["base_lrs", [new PythonFloat(s.rate)]],
    ["last_epoch", s.steps],
    ["_step_count", s.steps + 1],
    ["_is_initial", false],
    ["_get_lr_called_within_step", false],
    ["_last_lr", [new PythonFloat(s.rate)]],
    ["lr_lambdas", [null]],
  ])

/** The pictures of a training as Hugging Face's imagefolder: `train/` with `metadata.jsonl`. */
export async function writeImageFolder(folder: string, items: readonly Placed[]): Promise<void> {
  const to = join(folder, "train")
  await mkdir(to, { recursive: true })
  const lines: string[] = []
  for (const item of items) {
    const bytes = await item.read()
    const name = `${item.hash.slice(0, 24)}.${ending(bytes)}`
    await writeFile(join(to, name), bytes)
    lines.push(JSON.stringify({ file_name: name, text: item.caption }))
  }
  await writeWhole(join(to, "metadata.jsonl"), `${lines.join("\n")}\n`)
}

const ending = (bytes: Uint8Array): string => (bytes[0] === 0x89 ? "png" : bytes[0] === 0xff ? "jpg" : "webp")

/**
 * Reads a checkpoint that accelerate left: the U-Net's weights and, where `optimizer.bin` holds them, AdamW's moments as
 * `NAME.m` and `NAME.v`. The file is read as data; nothing in it is run.
 * @throws TRAIN_STATE when it belongs to another network
 */
export async function readAccelerateState(
  folder: string,
  shapes: Shapes,
): Promise<{ state: Map<string, Float32Array>; step: number }> {
  const state = new Map<string, Float32Array>()
  const file = join(folder, "unet", "diffusion_pytorch_model.safetensors")
  const { tensors } = await openSafetensors(file)
  for (const [name, shape] of shapes) {
    const view = tensors.get(name.slice("unet.".length))
    if (!view || view.shape.join() !== shape.join()) misfit(file, name)
    else state.set(name, await floatsOf(file, view))
  }
  const optimizer = join(folder, "optimizer.bin")
  return withFile(optimizer, async (source) => {
    const { tensors: found } = await openTorchFile(source)
    let step = 0
    for (const [i, name] of torchOrder(shapes.keys()).entries()) {
      for (const [slot, key] of [
        ["m", "exp_avg"],
        ["v", "exp_avg_sq"],
      ] as const) {
        const view = found.get(`state.${i}.${key}`)
        if (!view || view.shape.join() !== shapes.get(name)!.join()) misfit(optimizer, name)
        else state.set(`${name}.${slot}`, await readFloats(source, view))
      }
      const count = found.get(`state.${i}.step`)
      if (count) step = (await readFloats(source, count))[0]!
    }
    return { state, step }
  })
}

const floatsOf = (file: string, view: TensorView): Promise<Float32Array> =>
  withFile(file, (source) => readFloats(source, view))

function misfit(file: string, name: string): never {
  return fail("TRAIN_STATE", `${file} has nothing of the right shape for ${name}`, {
    file,
    hint: "name a checkpoint of the same model",
  })
}

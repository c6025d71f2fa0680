import { readdir } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import { fail } from "../errors.ts"
import { vaeComponent } from "./checkpoint.ts"
import { controlNetComponent } from "./controlnet.ts"
import { isFolder } from "./file-source.ts"
import { type FolderOptions, openComponentFolder, readConfig } from "./folder.ts"
import { t2iComponent, visionComponent } from "./guides.ts"
import { kindName, kindOf } from "./kinds.ts"
import type { Component, Family } from "./model-files.ts"
import { modernVaeKeys } from "./old-keys.ts"
import { openSafetensors } from "./open-file.ts"
import { ldmBeside } from "./single-file.ts"
import { type TensorView, Weights } from "./view.ts"

/**
 * A VAE from a folder (its own, or a model's) or a file: AutoencoderKL under LDM keys (with or without
 * `first_stage_model.`) or diffusers' keys, AutoencoderTiny under diffusers' keys. The config is config.json
 * beside the file where it names the class, else it is derived; `family` then decides the scaling factor.
 * Errors: VAE_NOT_A_VAE and those of the readers.
 */
export async function openVae(
  path: string,
  options: FolderOptions & { family?: Family } = {},
): Promise<Component> {
  if (await isFolder(path)) return openPart(path, "vae", /^Autoencoder(KL|Tiny)$/, "VAE_NOT_A_VAE", options)
  const all = (await openSafetensors(path)).tensors
  const tensors = cut(all, ["first_stage_model.", "vae."])
  if (kindOf(tensors) !== "vae") wrongKind("VAE_NOT_A_VAE", path, "VAE", all)
  const config = await configBeside(path, /^Autoencoder(KL|Tiny)$/)
  const files = [...new Set([...tensors.values()].map((view) => view.file))]
  if (config && typeof config._class_name === "string") {
    const weights = config._class_name === "AutoencoderKL" ? modernVaeKeys(tensors) : tensors
    return { className: config._class_name, config, weights, files }
  }
  if ([...tensors.keys()].some((key) => /^(encoder|decoder)\.layers\./.test(key))) return tiny(tensors, files)
  const released = releasedTiny(tensors)
  if (released) return tiny(released, files)
  const family = options.family ?? "sd1"
  const scale = (await ldmBeside(path))?.scaleFactor
  return vaeComponent(modernVaeKeys(tensors), family, family.startsWith("sdxl") ? 1024 : 512, scale)
}

/**
 * Whether these are the weights of a FaceID IP-Adapter: it has LoRAs of its own, a resampler of faces, or two layers for
 * face vectors (those of "full face", which reads CLIP, end in a norm as their third).
 */
const readsFaces = (weights: ReadonlyMap<string, unknown>): boolean =>
  [...weights.keys()].some((key) =>
    /^image_proj\.perceiver_resampler\.|^ip_adapter\.\d+\.to_\w+_lora\./.test(key),
  ) ||
  (weights.has("image_proj.proj.2.weight") && !weights.has("image_proj.proj.3.weight"))

function refuseFaces(path: string): never {
  fail("IP_ADAPTER_FACEID", `${path} is a FaceID IP-Adapter: it reads what a face-recognition network saw`, {
    file: path,
    hint: "aquatint has no such network; ip-adapter-plus-face of h94/IP-Adapter reads faces by CLIP",
  })
}

/**
 * What leads a drawing by a picture, from a folder or a file: a ControlNet (diffusers' keys or LDM's, `control_model.`), a
 * T2I-Adapter (diffusers' keys or its authors') or an IP-Adapter (`image_proj.`, `ip_adapter.`). Errors: CONTROLNET_NOT_ONE, IP_ADAPTER_FACEID.
 */
export async function openControlNet(path: string, options: FolderOptions = {}): Promise<Component> {
  const classes = /^(ControlNetModel|T2IAdapter)$/
  if (await isFolder(path)) return openPart(path, "controlnet", classes, "CONTROLNET_NOT_ONE", options)
  const all = (await openSafetensors(path)).tensors
  const kind = kindOf(all)
  const files = [...new Set([...all.values()].map((view) => view.file))]
  if (readsFaces(all)) refuseFaces(path)
  if (kind === "ip-adapter") return { className: "IPAdapter", config: {}, weights: all, files }
  if (kind !== "controlnet" && kind !== "t2i-adapter")
    return wrongKind("CONTROLNET_NOT_ONE", path, "ControlNet, T2I-Adapter or IP-Adapter", all)
  const config = await configBeside(path, classes)
  if (config) return { className: String(config._class_name), config, weights: all, files }
  return kind === "controlnet" ? controlNetComponent(cut(all, ["control_model."])) : t2iComponent(all)
}

/** CLIP's picture encoder from a folder (its own, or one with a folder `image_encoder`) or a file. Error: IMAGE_ENCODER_NOT_ONE. */
export async function openImageEncoder(path: string, options: FolderOptions = {}): Promise<Component> {
  const code = "IMAGE_ENCODER_NOT_ONE"
  if (await isFolder(path)) return openPart(path, "image_encoder", /^CLIPVisionModel/, code, options)
  const all = (await openSafetensors(path)).tensors
  if (!all.has("vision_model.embeddings.class_embedding")) wrongKind(code, path, "image encoder", all)
  const config = await configBeside(path, /^CLIPVisionModel/)
  return config
    ? { className: "CLIPVisionModelWithProjection", config, weights: all, files: [path] }
    : visionComponent(all)
}

async function openPart(
  path: string,
  part: string,
  classes: RegExp,
  code: string,
  options: FolderOptions,
): Promise<Component> {
  const inside = (await readdir(path)).includes("model_index.json") ? join(path, part) : path
  const component = await openComponentFolder(inside, options)
  if (!classes.test(component.className))
    fail(code, `${inside} holds a ${component.className}`, { file: path, hint: `a ${part} was expected` })
  return component
}

function wrongKind(
  code: string,
  path: string,
  what: string,
  tensors: ReadonlyMap<string, TensorView>,
): never {
  const kind = kindOf(tensors)
  fail(code, `${path} holds no ${what} that aquatint knows`, {
    file: path,
    ...(kind === undefined ? {} : { hint: `it looks like ${kindName(kind)}` }),
  })
}

/** Tensors under the first of these prefixes that is used, without it; all of them where none is. */
function cut(tensors: ReadonlyMap<string, TensorView>, prefixes: readonly string[]): Weights {
  const prefix = prefixes.find((p) => [...tensors.keys()].some((key) => key.startsWith(p))) ?? ""
  const out = new Weights()
  for (const [key, view] of tensors) if (key.startsWith(prefix)) out.set(key.slice(prefix.length), view)
  return out
}

/** config.json beside a file, where it belongs to a folder of this class and the file has a folder's name. */
async function configBeside(path: string, classes: RegExp) {
  if (!/^(diffusion_pytorch_model|model)\b/.test(basename(path))) return undefined
  const folder = dirname(path)
  if (!(await readdir(folder)).includes("config.json")) return undefined
  const config = await readConfig(join(folder, "config.json"))
  return classes.test(String(config._class_name ?? (config.architectures as unknown[] | undefined)?.[0]))
    ? config
    : undefined
}

/** TAESD as its author releases it: one Sequential per side, with a clamp before the decoder's layers. */
function releasedTiny(tensors: ReadonlyMap<string, TensorView>): Weights | undefined {
  const out = new Weights()
  for (const [key, view] of tensors) {
    const [, side, number, rest] = /^(?:taesd_)?(encoder|decoder)\.(\d+)\.(.+)$/.exec(key) ?? []
    if (side === undefined) return undefined
    const name = `${side}.layers.${Number(number) - (side === "decoder" ? 1 : 0)}.${rest}`
    out.set(name, { ...view, name })
  }
  return out.size > 0 ? out : undefined
}

/** AutoencoderTiny (TAESD) without a config: the published layout, latent channels from the decoder's first layer. */
function tiny(tensors: Weights, files: string[]): Component {
  const channels = (key: string, axis: number) => tensors.get(key)?.shape[axis]
  const config = {
    _class_name: "AutoencoderTiny",
    in_channels: 3,
    out_channels: 3,
    encoder_block_out_channels: [64, 64, 64, 64],
    decoder_block_out_channels: [64, 64, 64, 64],
    act_fn: "relu",
    latent_channels: channels("decoder.layers.0.weight", 1) ?? 4,
    upsampling_scaling_factor: 2,
    num_encoder_blocks: [1, 3, 3, 3],
    num_decoder_blocks: [3, 3, 3, 1],
    latent_magnitude: 3,
    latent_shift: 0.5,
    scaling_factor: 1,
  }
  return { className: "AutoencoderTiny", config, weights: tensors, files }
}

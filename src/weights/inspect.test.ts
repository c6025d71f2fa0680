import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { gunzipSync } from "node:zlib"
import { afterAll, beforeAll, expect, test } from "vitest"
import { openControlNet, openVae } from "./components.ts"
import { inspect, textReport } from "./inspect.ts"
import { openSingleFile } from "./single-file.ts"
import { byteLength, type Dtype } from "./view.ts"
import { writeSafetensors } from "./write.ts"

let dir = ""
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "aquatint-inspect-"))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

type Header = Record<string, [Dtype, number[]]>
let count = 0

/** A file of zeros with these tensors; it is as large as they say. */
async function file(header: Header, metadata: Record<string, string> = {}): Promise<string> {
  const path = join(dir, `m${count++}.safetensors`)
  const tensors = Object.entries(header).map(([name, [dtype, shape]]) => {
    const bytes = () => new Uint8Array(byteLength(dtype, shape))
    return { name, dtype, shape, bytes }
  })
  await writeSafetensors(path, tensors, Object.entries(metadata))
  return path
}

const golden = (name: string): Header => {
  const path = resolve(import.meta.dirname, `../../test/golden/weights/${name}.json.gz`)
  return JSON.parse(gunzipSync(readFileSync(path)).toString()).ldm
}

test("a checkpoint: family, components, counts and hashes", async () => {
  const path = await file(golden("sd1-one-layer"), { "modelspec.title": "tiny" })
  const found = await inspect(path)
  const sha256 = createHash("sha256").update(readFileSync(path)).digest("hex")
  expect(found).toMatchObject({
    path,
    format: "single-file",
    family: "sd1",
    variant: "base",
    prediction: "epsilon",
  })
  expect(found.components.unet).toEqual({
    class: "UNet2DConditionModel",
    tensors: 208,
    parameters: expect.any(Number),
    dtypes: ["F16"],
  })
  expect(Object.keys(found.components).sort()).toEqual(["text_encoder", "unet", "vae"])
  expect(found.hashes).toMatchObject({ sha256, autov2: sha256.slice(0, 10) })
  expect(found.hashes.autov1).toMatch(/^[0-9a-f]{8}$/)
  expect(found.hashes.autov3).toMatch(/^[0-9a-f]{12}$/)
  expect(found.metadata).toEqual({ "modelspec.title": "tiny" })
  expect(textReport(found)).toMatch(/sd1 single-file, predicts epsilon\n {2}unet .*208 tensors .*F16\n/)
})

const kohya = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
const peft = "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q"
const cases: [string, Header, Record<string, unknown>][] = [
  [
    "kohya lora",
    {
      [`${kohya}.lora_down.weight`]: ["F16", [4, 768]],
      [`${kohya}.lora_up.weight`]: ["F16", [320, 4]],
      [`${kohya}.alpha`]: ["F16", []],
      "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": ["F16", [4, 768]],
    },
    {
      format: "lora",
      family: "sd1",
      components: { unet: { class: "LoRA", tensors: 3 }, text_encoder: { tensors: 1 } },
    },
  ],
  [
    "kohya loha sd2",
    { [`${kohya}.hada_w1_a`]: ["F16", [320, 4]], [`${kohya}.hada_w1_b`]: ["F16", [4, 1024]] },
    { format: "lora", family: "sd2", components: { unet: { class: "LoHa" } } },
  ],
  [
    "peft lora sdxl",
    { [`${peft}.lora_A.weight`]: ["BF16", [4, 640]], [`${peft}.lora_B.weight`]: ["BF16", [640, 4]] },
    { format: "lora", family: "sdxl", components: { unet: { dtypes: ["BF16"] } } },
  ],
  [
    "diffusers lora",
    {
      "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight": [
        "F32",
        [4, 768],
      ],
    },
    { format: "lora", family: "sd1" },
  ],
  [
    "A1111 embedding",
    { emb_params: ["F32", [3, 768]] },
    { format: "embedding", family: "sd1", components: { embedding: { parameters: 2304 } } },
  ],
  ["diffusers embedding", { "<cat>": ["F32", [1024]] }, { format: "embedding", family: "sd2" }],
  [
    "SDXL embedding",
    { clip_l: ["F32", [2, 768]], clip_g: ["F32", [2, 1280]] },
    { format: "embedding", family: "sdxl" },
  ],
  [
    "LDM controlnet",
    {
      "control_model.zero_convs.0.0.weight": ["F16", [8, 8, 1, 1]],
      "control_model.input_blocks.1.1.proj_in.weight": ["F16", [8, 8, 1, 1]],
    },
    { format: "controlnet", family: "sd1" },
  ],
  [
    "diffusers controlnet",
    {
      "controlnet_cond_embedding.conv_in.weight": ["F16", [16, 3, 3, 3]],
      "add_embedding.linear_1.weight": ["F16", [8, 8]],
    },
    { format: "controlnet", family: "sdxl" },
  ],
  [
    "LDM vae",
    {
      "decoder.up.0.block.0.conv1.weight": ["F32", [8, 8, 3, 3]],
      "encoder.conv_in.weight": ["F32", [8, 3, 3, 3]],
    },
    { format: "vae", components: { vae: { class: "AutoencoderKL" } } },
  ],
  [
    "taesd",
    { "decoder.layers.0.weight": ["F32", [64, 4, 3, 3]] },
    { format: "vae", components: { vae: { class: "AutoencoderTiny" } } },
  ],
  [
    "ESRGAN",
    {
      "model.0.weight": ["F32", [64, 3, 3, 3]],
      "model.1.sub.0.RDB1.conv1.0.weight": ["F32", [32, 64, 3, 3]],
    },
    { format: "upscaler", components: { upscaler: { class: "RRDBNet" } } },
  ],
  [
    "Real-ESRGAN",
    { "conv_first.weight": ["F32", [64, 3, 3, 3]], "body.0.rdb1.conv1.weight": ["F32", [32, 64, 3, 3]] },
    { format: "upscaler" },
  ],
  [
    "compact upscaler",
    { "body.0.weight": ["F32", [64, 3, 3, 3]], "body.1.weight": ["F32", [64]] },
    { format: "upscaler", components: { upscaler: { class: "SRVGGNetCompact" } } },
  ],
  [
    "T2I adapter",
    {
      "adapter.body.0.resnets.0.block1.weight": ["F32", [8, 8, 3, 3]],
      "adapter.conv_in.weight": ["F32", [8, 64, 3, 3]],
    },
    { format: "t2i-adapter" },
  ],
  [
    "old T2I adapter",
    { "body.0.block1.weight": ["F32", [8, 8, 3, 3]], "conv_in.weight": ["F32", [8, 192, 3, 3]] },
    { format: "t2i-adapter" },
  ],
]

test.each(cases)("%s", async (_, header, expected) => {
  expect(await inspect(await file(header))).toMatchObject({ ...expected, prediction: null })
})

test("a file of no known kind, and metadata that would move the cursor", async () => {
  const strange = await file({ "x.y": ["F32", [2, 2, 2]] })
  await expect(inspect(strange)).rejects.toMatchObject({ code: "INSPECT_UNKNOWN", exitCode: 2 })
  const report = textReport(
    await inspect(await file({ emb_params: ["F32", [1, 768]] }, { a: "\u001b[2J\u202e!" }), {
      hashes: false,
    }),
  )
  expect(report).not.toMatch(/[^\n\P{C}]/u)
  expect(report).not.toMatch(/sha256/)
})

test("a bare U-Net, and one component's folder", async () => {
  const inner = Object.entries(golden("sdxl")).flatMap(([key, entry]) =>
    key.startsWith("model.diffusion_model.") ? [[key.slice(22), entry]] : [],
  )
  expect(await inspect(await file(Object.fromEntries(inner)))).toMatchObject({
    format: "single-file",
    family: "sdxl",
  })
  const path = join(dir, "part")
  mkdirSync(path)
  writeFileSync(
    join(path, "config.json"),
    JSON.stringify({ _class_name: "ControlNetModel", _diffusers_version: "0.42.1" }),
  )
  await writeSafetensors(join(path, "diffusion_pytorch_model.safetensors"), [
    { name: "controlnet_mid_block.weight", dtype: "F32", shape: [1], bytes: new Uint8Array(4) },
  ])
  expect(await inspect(path)).toMatchObject({
    format: "controlnet",
    components: { controlnet: { class: "ControlNetModel", tensors: 1 } },
    metadata: { _diffusers_version: "0.42.1" },
  })
})

test("a yaml of the same stem decides prediction, heads, scale and betas", async () => {
  const path = await file(golden("sd2"))
  const plain = await openSingleFile(path)
  expect(plain).toMatchObject({ prediction: "epsilon", predictionFrom: "nothing says otherwise" })
  expect(plain.scheduler).toEqual({
    _class_name: "DDIMScheduler",
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    num_train_timesteps: 1000,
    prediction_type: "epsilon",
    timestep_spacing: "leading",
    steps_offset: 1,
    clip_sample: false,
    set_alpha_to_one: false,
    rescale_betas_zero_snr: false,
  })
  expect(plain.components.get("unet")!.config.attention_head_dim).toEqual([1, 2])
  const yaml = `model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.001
    linear_end: 1.3e-2
    timesteps: 500
    scale_factor: 0.2
    unet_config:
      params: {num_head_channels: 32, image_size: 32}
`
  writeFileSync(path.replace(".safetensors", ".yaml"), yaml)
  const told = await openSingleFile(path)
  expect(told.prediction).toBe("v_prediction")
  expect(told.scheduler).toMatchObject({
    beta_start: 0.001,
    beta_end: 0.013,
    num_train_timesteps: 500,
    prediction_type: "v_prediction",
  })
  expect(told.components.get("unet")!.config.attention_head_dim).toEqual([2, 4])
  expect(told.components.get("vae")!.config.scaling_factor).toBe(0.2)
  expect((await inspect(path, { hashes: false })).prediction).toBe("v_prediction")
  writeFileSync(
    path.replace(".safetensors", ".yaml"),
    "model: {params: {parameterization: eps, unet_config: {params: {num_heads: 4, num_head_channels: -1}}}}",
  )
  expect((await openSingleFile(path)).components.get("unet")!.config.attention_head_dim).toBe(4)
  const laughs = Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(9)}]`)
  for (const bad of ["a: [", "model: {params: {parameterization: w}}", `a0: &a0 x\n${laughs.join("\n")}`]) {
    writeFileSync(path.replace(".safetensors", ".yaml"), bad)
    await expect(openSingleFile(path)).rejects.toMatchObject({ code: "CONFIG_YAML" })
  }
  rmSync(path.replace(".safetensors", ".yaml"))
  writeFileSync(path.replace(".safetensors", ".json"), '{"description": "notes of another program"}')
  expect((await openSingleFile(path)).prediction).toBe("epsilon")
})

test("markers and metadata decide prediction where no config does", async () => {
  const marked = await file({ ...golden("sdxl"), v_pred: ["F32", [0]], ztsnr: ["F32", [0]] })
  const model = await openSingleFile(marked)
  expect(model).toMatchObject({ prediction: "v_prediction", scheduler: { rescale_betas_zero_snr: true } })
  const said = await file(golden("sd2"), { "modelspec.prediction_type": "v" })
  expect((await openSingleFile(said)).prediction).toBe("v_prediction")
})

test("what is left out of a checkpoint is listed, what is unknown stays for the fit to refuse", async () => {
  const header = {
    ...golden("sd2"),
    "model.diffusion_model.strange.weight": ["F32", [1]] as [Dtype, number[]],
  }
  const model = await openSingleFile(await file(header))
  const ignored = model.ignored.map(({ name }) => name)
  expect(ignored).toContain("cond_stage_model.model.transformer.resblocks.2.attn.in_proj_weight")
  expect(ignored).toContain("cond_stage_model.model.text_projection")
  expect(ignored).toContain("model_ema.decay")
  expect(ignored).toContain("alphas_cumprod")
  expect(model.components.get("unet")!.weights.has("strange.weight")).toBe(true)
})

test("files that are no model say what they are", async () => {
  const lora = await file({ [`${kohya}.lora_down.weight`]: ["F16", [4, 768]] })
  await expect(openSingleFile(lora)).rejects.toMatchObject({
    code: "CHECKPOINT_NOT_A_MODEL",
    hint: expect.stringMatching(/--lora/),
  })
  await expect(openVae(lora)).rejects.toMatchObject({
    code: "VAE_NOT_A_VAE",
    hint: expect.stringMatching(/LoRA/),
  })
  await expect(openControlNet(lora)).rejects.toMatchObject({ code: "CONTROLNET_NOT_ONE" })
  const face = await file({
    "image_proj.proj.0.weight": ["F16", [1024, 512]],
    "image_proj.proj.2.weight": ["F16", [3072, 1024]],
    "ip_adapter.0.to_q_lora.down.weight": ["F16", [128, 320]],
  })
  await expect(openControlNet(face)).rejects.toMatchObject({
    code: "IP_ADAPTER_FACEID",
    hint: expect.stringMatching(/plus-face/),
  })
})

test("a VAE alone, with LDM keys, with a prefix, and under diffusers' keys", async () => {
  const whole = golden("sd1-four-levels")
  const part = Object.entries(whole).filter(([key]) => key.startsWith("first_stage_model."))
  const bare = Object.fromEntries(part.map(([key, entry]) => [key.slice(18), entry]))
  const want = (await openSingleFile(await file(whole))).components.get("vae")!
  const named = Object.fromEntries(
    [...want.weights].map(([key, { dtype, shape }]) => [key, [dtype, shape]]),
  ) as Header
  for (const header of [Object.fromEntries(part), bare, named]) {
    const vae = await openVae(await file(header))
    expect([...vae.weights.keys()].sort()).toEqual([...want.weights.keys()].sort())
    expect(vae.config).toEqual(want.config)
    expect(vae.weights.get("encoder.mid_block.attentions.0.to_q.weight")!.shape).toHaveLength(2)
  }
  expect((await openVae(await file(bare), { family: "sdxl" })).config.scaling_factor).toBe(0.13025)
})

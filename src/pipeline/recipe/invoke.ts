import { amount, type Json, present, type Recipe, seedOf, text } from "./recipe.ts"

/** InvokeAI's names where they differ from A1111's labels and ComfyUI's ids. */
const samplers: Readonly<Record<string, [sampler: string, schedule?: string]>> = {
  dpmpp_2m_k: ["dpmpp-2m", "karras"],
  dpmpp_2m: ["dpmpp-2m"],
  dpmpp_2m_sde: ["dpmpp-2m-sde"],
  dpmpp_2m_sde_k: ["dpmpp-2m-sde", "karras"],
  dpmpp_2s: ["dpmpp-2s-a"],
  dpmpp_2s_k: ["dpmpp-2s-a", "karras"],
  dpmpp_3m: ["dpmpp-3m-sde"],
  dpmpp_3m_k: ["dpmpp-3m-sde", "karras"],
  dpmpp_sde: ["dpmpp-sde"],
  dpmpp_sde_k: ["dpmpp-sde", "karras"],
  euler: ["euler"],
  euler_k: ["euler", "karras"],
  euler_a: ["euler-a"],
  heun: ["heun"],
  heun_k: ["heun", "karras"],
  kdpm_2: ["dpm2"],
  kdpm_2_k: ["dpm2", "karras"],
  kdpm_2_a: ["dpm2-a"],
  kdpm_2_a_k: ["dpm2-a", "karras"],
  lms: ["lms"],
  lms_k: ["lms", "karras"],
  ddim: ["ddim"],
  ddpm: ["ddpm"],
  deis: ["deis"],
  deis_k: ["deis", "karras"],
  lcm: ["lcm"],
  tcd: ["tcd"],
  pndm: ["pndm"],
  unipc: ["unipc"],
  unipc_k: ["unipc", "karras"],
}

/** `invokeai_metadata`: flat facts; prompts are in Compel's grammar, noise is the CPU's unless it says otherwise. */
export function invokeRecipe(meta: Json): Recipe | null {
  const prompt = text(meta.positive_prompt)
  if (prompt === undefined) return null
  const scheduler = text(meta.scheduler)
  const named = scheduler === undefined ? undefined : samplers[scheduler]
  const { seed, unmet } = seedOf(amount(meta.seed))
  const model = (meta.model ?? {}) as Json
  const vae = text(((meta.vae ?? {}) as Json).name)
  const loras = (Array.isArray(meta.loras) ? meta.loras : []) as {
    model?: Json
    lora?: Json
    weight?: unknown
  }[]
  return {
    program: "invokeai",
    version: text(meta.app_version) ?? null,
    request: present({
      prompt,
      negative: text(meta.negative_prompt),
      steps: amount(meta.steps),
      cfg: amount(meta.cfg_scale),
      guidanceRescale: amount(meta.cfg_rescale_multiplier),
      seed,
      sampler: named?.[0],
      schedule: named?.[1],
      width: amount(meta.width),
      height: amount(meta.height),
      clipSkip: meta.clip_skip === undefined ? undefined : (amount(meta.clip_skip) ?? 0) + 1,
      rng: meta.rand_device === "cuda" ? ("cuda" as const) : ("cpu" as const),
      promptSyntax: "compel" as const,
    }),
    ...(amount(meta.strength) === undefined ? {} : { start: { strength: amount(meta.strength)! } }),
    model: { name: text(model.name) ?? text(model.model_name) ?? null, hash: text(model.hash) ?? null },
    ...(vae === undefined ? {} : { vae: { name: vae } }),
    loras: loras.flatMap((l) => {
      const name = text(l.model?.name) ?? text(l.lora?.model_name)
      return name === undefined ? [] : [{ name, weight: amount(l.weight) ?? 1 }]
    }),
    unmet: [
      ...unmet,
      ...(scheduler !== undefined && !named ? [`scheduler ${scheduler} is not known`] : []),
      ...(Array.isArray(meta.controlnets) && meta.controlnets.length > 0 ? ["ControlNets"] : []),
    ],
  }
}

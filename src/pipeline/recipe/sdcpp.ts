/** stable-diffusion.cpp's methods that we have, as k-diffusion has them: it leaves out no level, whatever the method. */
const methods: Readonly<Record<string, [sampler: string, schedule?: string]>> = {
  euler: ["euler"],
  euler_a: ["euler-a"],
  heun: ["heun"],
  dpm2: ["dpm2"],
  lms: ["lms"],
  lcm: ["lcm"],
  tcd: ["tcd"],
  ipndm: ["ipndm"],
  "dpm++2s_a": ["dpmpp-2s-a"],
  "dpm++2m": ["dpmpp-2m"],
  "dpm++2m_sde": ["dpmpp-2m-sde"],
  ddim_trailing: ["ddim", "trailing"],
}

const schedules: Readonly<Record<string, string>> = {
  discrete: "normal",
  normal: "normal",
  default: "normal",
  karras: "karras",
  exponential: "exponential",
  ays: "ays",
  sgm_uniform: "sgm-uniform",
  simple: "simple",
  kl_optimal: "kl-optimal",
  beta: "beta",
}

/** Sampler and schedule of stable-diffusion.cpp's "euler_a karras"; nothing for those that we do not have. */
export function sdcppSampler(label: string): { sampler?: string; schedule?: string } {
  const [method = "", schedule] = label.trim().toLowerCase().split(/\s+/)
  const known = Object.hasOwn(methods, method) ? methods[method] : undefined
  if (!known || (schedule !== undefined && !Object.hasOwn(schedules, schedule))) return {}
  const named = known[1] ?? (schedule === undefined ? "normal" : schedules[schedule]!)
  return { sampler: known[0], schedule: named }
}

/**
 * The one contract between a network, a sampler and a pipeline.
 * A picture's latents are one flat `Float32Array` in `c h w` order (batch of one): samplers never need the shape.
 */

/** The trained network as it is: `x` scaled as the network expects, `t` a (possibly fractional) timestep. Returns its raw output. */
export type Predict = (x: Float32Array, t: number) => Promise<Float32Array>

/** Karras' contract: noisy latents in variance-exploding scale (x0 + sigma * noise) to the clean estimate x0. */
export type Denoise = (x: Float32Array, sigma: number) => Promise<Float32Array>

export type PredictionType = "epsilon" | "v_prediction" | "sample" | "flow_prediction"

/** One standard-normal draw of the picture's latent size; every call advances the picture's own generator. */
export type DrawNoise = () => Float32Array

/** What a sampler yields after each step. */
export interface Step {
  /** 0-based step and how many there will be (an estimate for adaptive samplers). */
  readonly index: number
  readonly total: number
  /** Latents after this step, in the sampler's own scale; after the last step they are the result. The caller may overwrite them in place. */
  readonly x: Float32Array
  /** The clean estimate, for previews. */
  readonly x0: Float32Array
}

export interface SampleRun {
  readonly predict: Predict
  /** Start latents, as `Sampling.start` or `Sampling.noised` returned them. */
  readonly x: Float32Array
  readonly noise: DrawNoise
  /** The picture's seed and its source, for samplers that were asked for Brownian noise. */
  readonly seed?: number | bigint
  readonly rng?: "cpu" | "cuda"
}

/**
 * A sampler bound to its schedule and number of steps, from a scheduler_config.json or from `--sampler`/`--schedule`.
 * Stateless between runs: `run` may be called once per picture of a batch.
 */
export interface Sampling {
  /** Timestep of each denoiser call, in order, where it is known before (empty for adaptive samplers). */
  readonly timesteps: readonly number[]
  readonly steps: number
  /** Pure noise brought to the scale of the first step (init_noise_sigma). */
  start(noise: Float32Array): Float32Array
  /** Clean latents noised to the level of the first step; image to image and inpainting. */
  noised(x0: Float32Array, noise: Float32Array): Float32Array
  /** Clean latents noised to the level that `run` reaches after step `index` (x0 itself after the last); inpainting. */
  noisedAfter(x0: Float32Array, noise: Float32Array, index: number): Float32Array
  run(run: SampleRun): AsyncGenerator<Step, Float32Array>
}

/** How often the denoiser is called, as far as it is known before. */
export const callsOf = ({ timesteps, steps }: Pick<Sampling, "timesteps" | "steps">): number =>
  timesteps.length || steps

export interface SamplingOptions {
  readonly steps: number
  /** Image to image: only the last `int(steps * strength)` steps run. 1 (or absent) is text to image. */
  readonly strength?: number
  /** Share of the noise levels at which another model has stopped: only what follows is walked (diffusers' denoising_start). */
  readonly begin?: number | undefined
  /** Share of the noise levels at which another model goes on; what is left is not walked (diffusers' denoising_end). */
  readonly end?: number | undefined
}

/** The timestep at a share of the way down, as diffusers rounds it. */
export function cutoffAt(share: number, trained: number): number {
  const exact = trained - share * trained
  const low = Math.floor(exact)
  // Python rounds halves to even
  return exact - low === 0.5 ? low + (low % 2) : Math.round(exact)
}

import type { Picture } from "../image/pixels.ts"
import type { Engine } from "../runtime/engine.ts"
import { spawnEngine } from "../runtime/spawn.ts"
import { enlarge } from "./enlarge.ts"
import { UpscaleNet } from "./upscaler.ts"
import { openUpscalerFile } from "./upscaler-files.ts"

/** An upscaling network by itself, for pictures that nobody draws. */
export interface LoadedUpscaler {
  /** The network's own factor. */
  readonly factor: number
  /**
   * Enlarges a picture, as often as it takes to reach the size, and brings it to it.
   * @returns RGB. @throws what the signal was aborted with, ENGINE_GONE
   */
  enlarge(picture: Picture, width: number, height: number, signal?: AbortSignal): Promise<Picture>
  /** Gives back the memory, and ends the engine's process where it was made here. */
  release(): Promise<void>
}

/**
 * Opens a network of the ESRGAN family, `.safetensors` or `.pth`, in an engine of its own or in the one given.
 * @throws UPSCALER_NOT_ONE, WEIGHTS_*, TORCH_*, SAFETENSORS_*
 */
export async function loadUpscaler(path: string, options: { engine?: Engine } = {}): Promise<LoadedUpscaler> {
  const opened = await openUpscalerFile(path)
  const engine = options.engine ?? spawnEngine()
  const net = new UpscaleNet(opened, engine, "cpu")
  return {
    factor: net.factor,
    enlarge: (picture, width, height, signal) =>
      enlarge(picture, width, height, (one) => net.enlarge(one, signal)),
    release: async () => {
      if (options.engine) await net.release()
      else await engine.close()
    },
  }
}

import { relative, resolve } from "node:path"
import type { InferenceSession } from "onnxruntime-common"
import type { DeviceName, SessionSpec } from "./engine.ts"
import { Sessions } from "./sessions.ts"

/** onnxruntime's name for each device. */
const providers: Record<DeviceName, string> = {
  cpu: "cpu",
  webgpu: "webgpu",
  cuda: "cuda",
  dml: "dml",
  coreml: "coreml",
  wasm: "cpu",
}

/**
 * Where relative weight locations start: the root of the file system, so that files of any folder can be mapped by one
 * session. On Windows that is the drive of the first file.
 */
export const weightRoot = (path: string): string => resolve(path, "/")

/** The text under which an ONNX model names a weight file: its path from `weightRoot`, with forward slashes. */
export const weightLocation = (path: string): string => relative(weightRoot(path), path).replaceAll("\\", "/")

function options(spec: SessionSpec): InferenceSession.SessionOptions {
  const mapped = spec.externals.filter((e) => !("data" in e))
  const given = spec.externals.filter((e): e is { path: string; data: Uint8Array } => "data" in e)
  return {
    executionProviders: [providers[spec.device]],
    // "all" would lay the weights of convolutions into blocks, by five copies, for no more speed than hold.ts gives
    graphOptimizationLevel: spec.once ? "disabled" : "extended",
    // a pattern is a second block of scratch memory beside that of the first run
    enableMemPattern: false,
    ...(spec.once ? { enableCpuMemArena: false } : {}),
    logSeverityLevel: 4,
    ...(spec.threads ? { intraOpNumThreads: spec.threads } : {}),
    ...(given.length > 0 ? { externalData: given } : {}),
    extra: {
      session: {
        intra_op: { allow_spinning: "0" },
        ...(spec.flush ? { set_denormal_as_zero: "1" } : {}),
        ...(mapped.length > 0
          ? { model_external_initializers_file_folder_path: weightRoot(mapped[0]!.path) }
          : {}),
      },
    },
  } as InferenceSession.SessionOptions
}

/** The engine in this process: onnxruntime-node. */
export const nodeEngine = (): Sessions =>
  new Sessions({ load: async () => await import("onnxruntime-node"), options })

import * as ort from "onnxruntime-web/webgpu"
import { serveWorker } from "./web.ts"

// imported at once and not on demand: onnxruntime's threads start from this very script
serveWorker(ort)

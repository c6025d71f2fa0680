export { onPoint } from "../store/index.ts"
export { jsonLog, silent } from "./log.ts"
export { defaultLimits, type Limits } from "./schemas.ts"
export { type Running, runServer, runWorker, type ServeOptions } from "./serve.ts"

/** Loaded when it is wanted: the protocol's library is large. */
export const mcpOverStdio = async (
  ...args: Parameters<typeof import("./mcp.ts").mcpOverStdio>
): Promise<void> => (await import("./mcp.ts")).mcpOverStdio(...args)

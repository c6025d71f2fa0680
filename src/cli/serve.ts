import { existsSync } from "node:fs"
import { mkdir } from "node:fs/promises"
import { homedir, totalmem } from "node:os"
import { join, resolve } from "node:path"
import { type Command, Option } from "commander"
import { AquatintError, builtInFolder, builtInModels } from "../index.ts"
import { number } from "./options.ts"

interface Options {
  role: "api" | "worker" | "all"
  host: string
  port: number
  data: string
  database?: string
  storage?: string
  model: string[]
  models: string[]
  loras: string[]
  embeddings: string[]
  upscalers: string[]
  token: string[]
  allowHost: string[]
  cors: string[]
  queueLimit: number
  clientLimit?: number
  maxPixels: number
  maxSteps: number
  memory?: number
  workers: number
  maxDeaths: number
  lease: number
  warm?: boolean
  mcp?: boolean
}

const dataFolder = () => join(process.env.XDG_DATA_HOME ?? join(homedir(), ".local", "share"), "aquatint")
const list = (value: string, before: string[]) => [...before, value]

/** Adds `serve`: HTTP interfaces, job queue, web page. */
export function addServe(top: Command): void {
  const command = top
    .command("serve")
    .description("HTTP interfaces, job queue and web page")
    .addOption(
      new Option("--role <role>", "what this process does").choices(["api", "worker", "all"]).default("all"),
    )
    .option("--host <address>", "where to listen; any but this machine's own needs --token", "127.0.0.1")
    .option("--port <n>", "port to listen on, 0 for any", number, 7860)
    .option("--data <folder>", "folder of the database and the pictures", dataFolder())
    .option("--database <place>", "SQLite file or postgres://user:password@host/name (default: in --data)")
    .option("--storage <place>", "folder or s3://bucket/prefix of the pictures (default: in --data)")
    .option("-m, --model <name>", "a model to offer, the first is the standard; repeatable", list, [])
    .option("--models <folder>", "a folder of models to offer; repeatable", list, [])
    .option("--loras <folder>", "LoRAs to offer beside those next to the models; repeatable", list, [])
    .option("--embeddings <folder>", "textual inversions likewise; repeatable", list, [])
    .option("--upscalers <folder>", "networks of the ESRGAN family likewise; repeatable", list, [])
    .option("--token <[name:]secret>", "who may ask; repeatable (or AQUATINT_TOKEN)", list, [])
    .option("--allow-host <name>", "a name this server goes by beside localhost; repeatable", list, [])
    .option("--cors <origin>", "an origin whose pages may ask; repeatable", list, [])
  addLimits(command)
  command
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
    .action(run)
}

function addLimits(command: Command): void {
  command
    .option("--queue-limit <n>", "jobs that may wait", number, 200)
    .option("--client-limit <n>", "jobs of one client that may wait (default: all)", number)
    .option("--max-pixels <n>", "largest picture", number, 2048 * 2048)
    .option("--max-steps <n>", "most denoising steps", number, 150)
    .option("--memory <gigabytes>", "memory that models may hold (default: 60 % of all)", number)
    .option("--workers <n>", "processes that draw", number, 1)
    .option("--max-deaths <n>", "ends of its process after which a job or a model is set aside", number, 3)
    .option("--lease <seconds>", "time after which a silent worker's job is given to another", number, 30)
    .option("--warm", "load the models before the first request, as many as --memory holds")
    .option("--mcp", "speak Model Context Protocol on standard input and output")
}

/** Tokens as `name:secret`, or a secret alone. */
const tokenOf = (text: string, i: number) => {
  const [, name, secret] = /^([\w.-]{1,60}):(.+)$/.exec(text) ?? []
  const token = { name: name ?? (i === 0 ? "owner" : `owner-${i + 1}`), secret: secret ?? text }
  if (token.secret.length < 16)
    throw new AquatintError("SERVE_TOKEN", "a token of less than 16 characters can be guessed", {
      hint: "make one: openssl rand -hex 24",
    })
  return token
}

const s3Keys = ({ AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN }: NodeJS.ProcessEnv) =>
  AWS_ACCESS_KEY_ID && AWS_SECRET_ACCESS_KEY
    ? { id: AWS_ACCESS_KEY_ID, secret: AWS_SECRET_ACCESS_KEY, session: AWS_SESSION_TOKEN }
    : undefined

async function settings(options: Options) {
  const { defaultLimits, jsonLog } = await import("../server/index.ts")
  const data = resolve(options.data)
  await mkdir(data, { recursive: true, mode: 0o700 }).catch((cause: Error) => {
    throw new AquatintError("SERVE_DATA", `the folder ${data} cannot be made`, {
      cause,
      hint: "choose another with --data",
    })
  })
  const given = options.token.length > 0 ? options.token : [process.env.AQUATINT_TOKEN ?? ""]
  const asked = options.model.length > 0 || options.models.length > 0
  return {
    role: options.role,
    host: options.host,
    port: options.port,
    database: options.database ?? process.env.DATABASE_URL ?? join(data, "aquatint.db"),
    storage: options.storage ?? join(data, "pictures"),
    s3: s3Keys(process.env),
    models: asked ? options.model : builtInModels.filter((name) => existsSync(builtInFolder(name))),
    folders: options.models,
    loras: options.loras,
    embeddings: options.embeddings,
    upscalers: options.upscalers,
    tokens: given.filter((text) => text !== "").map(tokenOf),
    hosts: options.allowHost.map((name) => name.toLowerCase()),
    cors: options.cors,
    limits: {
      ...defaultLimits,
      pixels: options.maxPixels,
      steps: options.maxSteps,
      queue: options.queueLimit,
      clientQueue: options.clientLimit ?? options.queueLimit,
    },
    memory: options.memory === undefined ? 0.6 * totalmem() : options.memory * 1e9,
    workers: options.workers,
    lease: options.lease * 1000,
    deaths: options.maxDeaths,
    warm: options.warm ?? false,
    log: jsonLog((line) => process.stderr.write(line)),
    program: { path: process.argv[1]!, args: process.argv.slice(2) },
  }
}

async function run(options: Options): Promise<void> {
  const owned = process.send !== undefined
  const { runServer, runWorker, mcpOverStdio, onPoint } = await import("../server/index.ts")
  const all = await settings(options)
  dieAt(process.env.AQUATINT_DIE_AT, options.role, onPoint)
  const running = options.role === "worker" ? await runWorker(all) : await runServer(all)
  const stopped = new Promise<void>((done) => {
    // in good order: jobs under way go back into the queue
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.removeAllListeners(signal)
      process.on(signal, done)
    }
    if (!owned || options.role !== "worker") return
    process.once("disconnect", done)
    // it may have gone while this process was still starting
    if (!process.connected) done()
  })
  if (options.mcp && running.service) {
    await Promise.race([mcpOverStdio(running.service, { owner: "local", client: "mcp" }), stopped])
  } else {
    if (running.address) process.stdout.write(`aquatint listens on ${running.address}\n`)
    await stopped
  }
  await running.stop()
  process.exit(0)
}

/** Tests end this process at a moment of its work: `worker:picture-half:2` is the second time it comes there. */
function dieAt(
  text: string | undefined,
  role: string,
  onPoint: (heard: (point: string) => void) => void,
): void {
  const [who, where, times = "1"] = (text ?? "").split(":")
  if (!where || (who === "worker") !== (role === "worker")) return
  let left = Number(times)
  onPoint((point) => {
    if (point === where && --left === 0) process.kill(process.pid, "SIGKILL")
  })
}

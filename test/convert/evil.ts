import { type Bytes, join, little, Opcodes, torchLegacy, torchZip, zip } from "./pickler.ts"

/** A file that must be refused, with the code of its error. */
export interface Evil {
  name: string
  bytes: Bytes
  code: RegExp
}

/** Ways to run a command or to load more code, as [module, name, kind of arguments]. */
const CALLS: [string, string, "command" | "source" | "words"][] = [
  ["os", "system", "command"],
  ["posix", "system", "command"],
  ["nt", "system", "command"],
  ["os", "popen", "command"],
  ["os", "execv", "words"],
  ["os", "remove", "command"],
  ["subprocess", "Popen", "words"],
  ["subprocess", "check_output", "words"],
  ["subprocess", "getoutput", "command"],
  ["commands", "getoutput", "command"],
  ["pty", "spawn", "words"],
  ["platform", "popen", "command"],
  ["asyncio.unix_events", "_UnixSubprocessTransport._start", "words"],
  ["builtins", "eval", "source"],
  ["builtins", "exec", "source"],
  ["builtins", "compile", "source"],
  ["builtins", "__import__", "words"],
  ["builtins", "getattr", "words"],
  ["builtins", "open", "words"],
  ["builtins", "breakpoint", "words"],
  ["__builtin__", "eval", "source"],
  ["__builtin__", "execfile", "words"],
  ["importlib", "import_module", "words"],
  ["importlib.util", "spec_from_file_location", "words"],
  ["runpy", "run_path", "words"],
  ["runpy", "_run_code", "source"],
  ["code", "InteractiveInterpreter", "words"],
  ["types", "CodeType", "words"],
  ["types", "FunctionType", "words"],
  ["timeit", "timeit", "source"],
  ["pdb", "run", "source"],
  ["profile", "run", "source"],
  ["cProfile", "runctx", "source"],
  ["pydoc", "pipepager", "command"],
  ["functools", "partial", "words"],
  ["operator", "attrgetter", "words"],
  ["operator", "methodcaller", "words"],
  ["ctypes", "CDLL", "words"],
  ["pickle", "loads", "words"],
  ["_pickle", "loads", "words"],
  ["numpy", "load", "words"],
  ["numpy.core.multiarray", "_reconstruct", "words"],
  ["numpy.testing._private.utils", "runstring", "source"],
  ["torch", "load", "words"],
  ["torch.hub", "load", "words"],
  ["torch.storage", "_load_from_bytes", "words"],
  ["torch.serialization", "load", "words"],
  ["torch._utils", "_rebuild_tensor_v3", "words"],
  ["torch._utils", "_rebuild_qtensor", "words"],
  ["torch.jit.unsupported_tensor_ops", "execWrapper", "source"],
  ["torch.utils.bottleneck.__main__", "run_autograd_prof", "source"],
  ["torch.nn.modules.linear", "Linear", "words"],
  ["torch.nn.parameter", "Parameter", "words"],
  ["torch", "Size", "words"],
  ["pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", "words"],
  ["collections", "Counter", "words"],
  ["collections", "OrderedDict.__init__", "words"],
  ["webbrowser", "open", "words"],
  ["socket", "create_connection", "words"],
  ["shutil", "rmtree", "command"],
]

function payload(p: Opcodes, [module, name, kind]: (typeof CALLS)[number], canary: string): Bytes {
  const command = `touch ${canary}`
  const args = {
    command: [p.string(command)],
    source: [p.string(`__import__('os').system('${command}')`)],
    words: [p.list(p.string("touch"), p.string(canary))],
  }[kind]
  return p.call(module, name, ...args)
}

/** Where in a checkpoint the call stands; each is a whole pickle. */
const PLACES: [string, (p: Opcodes, call: Bytes) => Bytes][] = [
  ["as the root", (p, call) => p.whole(call)],
  ["in the state dict", (p, call) => p.state(["evil", call])],
  ["as a key", (p, call) => p.whole(p.dict([call, p.tensor()]))],
  ["dropped before the end", (p, call) => p.whole(call, "0", p.dict([p.string("weight"), p.tensor()]))],
  ["as state of an object", (p, call) => p.whole(p.dict([p.string("weight"), p.tensor()]), call, "b")],
  ["as a storage", (p, call) => p.state(["evil", p.tensor(call)])],
  [
    "as hooks",
    (p, call) =>
      p.state([
        "evil",
        join(p.global("torch._utils", "_rebuild_parameter"), p.tuple(p.tensor(), p.bool(true), call), "R"),
      ]),
  ],
  [
    "beside the state dict",
    (p, call) =>
      p.whole(
        p.dict(
          [p.string("state_dict"), p.dict([p.string("weight"), p.tensor()])],
          [p.string("callbacks"), call],
        ),
      ),
  ],
]

/** Every call in three protocols, in places and containers that change from one to the next. */
export function* evilCalls(canary: string): Generator<Evil> {
  let n = 0
  for (const call of CALLS)
    for (const protocol of [n % 6, (n + 2) % 6, (n + 4) % 6]) {
      const [place, build] = PLACES[n % PLACES.length]!
      const p = new Opcodes(protocol)
      const pickle = build(p, payload(p, call, canary))
      const legacy = n % 2 === 1
      // protocols 0 and 1 cannot start a file of their own: such pickles stand inside one
      const bytes = legacy ? torchLegacy(pickle) : zip(torchZip(pickle))
      const name = `${call[0]}.${call[1]} ${place}, protocol ${protocol}, ${legacy ? "legacy" : "zip"}`
      yield { name, bytes, code: /^PICKLE_GLOBAL$/ }
      n++
    }
}

/** Opcodes that make objects or reach for code without a plain REDUCE. */
export function* evilOpcodes(canary: string): Generator<Evil> {
  const p = new Opcodes(2)
  const command = p.string(`touch ${canary}`)
  const list: [string, Bytes, RegExp?][] = [
    ["INST", join("(", command, "ios\nsystem\n")],
    ["OBJ", join("(", p.global("collections", "OrderedDict"), command, "o")],
    ["NEWOBJ", join(p.global("collections", "OrderedDict"), ")", [0x81])],
    ["NEWOBJ_EX", join(p.global("collections", "OrderedDict"), ")}", [0x92])],
    ["EXT1", join([0x82, 1])],
    ["EXT2", join([0x83, 1, 0])],
    ["EXT4", join([0x84, 1, 0, 0, 0])],
    ["PERSID", join("Pos.system\n")],
    ["EMPTY_SET", join([0x8f])],
    ["FROZENSET", join("(", [0x91])],
    ["ADDITEMS", join([0x8f], "(", [0x90])],
    ["NEXT_BUFFER", join([0x97])],
    ["READONLY_BUFFER", join([0x98])],
    ["LONG4", join([0x8b], little.u32(0x7fffffff))],
    ["a name as a value called", join(p.string("os.system"), p.tuple(command), "R"), /^PICKLE_MALFORMED$/],
    [
      "a call without a tuple",
      join(p.global("collections", "OrderedDict"), command, "R"),
      /^PICKLE_MALFORMED$/,
    ],
    ["a storage type called", p.call("torch", "FloatStorage", command), /^TORCH_TENSOR$/],
    ["state for a name", join(p.global("collections", "OrderedDict"), "}b"), /^PICKLE_MALFORMED$/],
    ["OrderedDict of a string", p.call("collections", "OrderedDict", command), /^TORCH_TENSOR$/],
    ["STACK_GLOBAL of numbers", join(p.int(1), p.int(2), [0x93]), /^PICKLE_MALFORMED$/],
    ["STACK_GLOBAL of os.system", join(p.string("os"), p.string("system"), [0x93]), /^PICKLE_GLOBAL$/],
    ["GLOBAL with a dotted name", p.global("os", "path.os.system"), /^PICKLE_GLOBAL$/],
    ["GLOBAL of a prototype", p.global("__proto__", "constructor"), /^PICKLE_GLOBAL$/],
    ["GLOBAL named toString", p.global("torch", "toString"), /^PICKLE_GLOBAL$/],
    ["GLOBAL with control characters", p.global("os\x1b[2J", "sys\x00tem"), /^PICKLE_GLOBAL$/],
  ]
  for (const [name, body, code] of list) {
    const pickle = p.state(["evil", body])
    yield { name: `${name}, zip`, bytes: zip(torchZip(pickle)), code: code ?? /^PICKLE_(OPCODE|GLOBAL)$/ }
    yield { name: `${name}, legacy`, bytes: torchLegacy(pickle), code: code ?? /^PICKLE_(OPCODE|GLOBAL)$/ }
  }
}

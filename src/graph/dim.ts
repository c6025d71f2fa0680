/**
 * Sizes of tensor axes: plain numbers, or polynomials over named unknowns (`h*w`, `floor((h-1)/2)+1`),
 * so that one traced network serves every picture size and every mistake in shapes is found while tracing.
 */
export type Dim = number | Sym

/** A named unknown, or a floored quotient of an expression. */
type Atom =
  | { readonly key: string; readonly name: string }
  | { readonly key: string; readonly of: Sym; readonly by: number }

interface Term {
  readonly coeff: number
  readonly atoms: readonly Atom[]
}

const termKey = (term: Term) => term.atoms.map((a) => a.key).join("*")

/** A size that is not a plain number; compare with `sameDim`, never with `===`. */
export class Sym {
  readonly terms: readonly Term[]
  readonly key: string

  constructor(terms: readonly Term[]) {
    this.terms = terms
    this.key = terms
      .map((t) =>
        [t.coeff === 1 && t.atoms.length ? "" : t.coeff, termKey(t)].filter((p) => p !== "").join("*"),
      )
      .join("+")
  }

  toString(): string {
    return this.key.replaceAll("+-", "-")
  }
}

/** A named unknown size, bound when the graph runs. */
export const symbol = (name: string): Sym => new Sym([{ coeff: 1, atoms: [{ key: name, name }] }])

const termsOf = (d: Dim): readonly Term[] => (typeof d === "number" ? [{ coeff: d, atoms: [] }] : d.terms)

function normal(terms: readonly Term[]): Dim {
  const sums = new Map<string, Term>()
  for (const term of terms) {
    const key = termKey(term)
    sums.set(key, { coeff: (sums.get(key)?.coeff ?? 0) + term.coeff, atoms: term.atoms })
  }
  const kept = [...sums]
    .filter(([, t]) => t.coeff !== 0)
    .sort(([a], [b]) => (a === "" ? 1 : b === "" ? -1 : a < b ? -1 : 1))
  if (kept.length === 0) return 0
  if (kept.length === 1 && kept[0]![0] === "") return kept[0]![1].coeff
  return new Sym(kept.map(([, t]) => t))
}

export const addDim = (...dims: readonly Dim[]): Dim =>
  dims.every((d) => typeof d === "number")
    ? (dims as number[]).reduce((a, b) => a + b, 0)
    : normal(dims.flatMap(termsOf))

export const mulDim = (...dims: readonly Dim[]): Dim =>
  dims.reduce((a, b) => {
    if (typeof a === "number" && typeof b === "number") return a * b
    const product = termsOf(a).flatMap((x) =>
      termsOf(b).map((y) => ({
        coeff: x.coeff * y.coeff,
        atoms: [...x.atoms, ...y.atoms].sort((p, q) => (p.key < q.key ? -1 : 1)),
      })),
    )
    return normal(product)
  }, 1)

/** floor(d / by), with everything divisible taken out of the floor. */
export function floorDiv(d: Dim, by: number): Dim {
  if (typeof d === "number") return Math.floor(d / by)
  const whole = d.terms.filter((t) => t.coeff % by === 0).map((t) => ({ ...t, coeff: t.coeff / by }))
  const rest = normal(d.terms.filter((t) => t.coeff % by !== 0))
  if (typeof rest === "number") return addDim(normal(whole), Math.floor(rest / by))
  const floored: Atom = { key: `floor((${rest})/${by})`, of: rest, by }
  return addDim(normal(whole), new Sym([{ coeff: 1, atoms: [floored] }]))
}

/** a / b where that is exact, else null. */
export function exactDiv(a: Dim, b: Dim): Dim | null {
  if (typeof a === "number" && typeof b === "number") return a % b === 0 ? a / b : null
  if (sameDim(a, b)) return 1
  const divisor = termsOf(b)
  if (divisor.length !== 1) return null
  const quotient: Term[] = []
  for (const term of termsOf(a)) {
    const atoms = [...term.atoms]
    for (const atom of divisor[0]!.atoms) {
      const at = atoms.findIndex((x) => x.key === atom.key)
      if (at < 0) return null
      atoms.splice(at, 1)
    }
    if (term.coeff % divisor[0]!.coeff !== 0) return null
    quotient.push({ coeff: term.coeff / divisor[0]!.coeff, atoms })
  }
  return normal(quotient)
}

export const sameDim = (a: Dim, b: Dim): boolean =>
  a === b || (typeof a !== "number" && typeof b !== "number" && a.key === b.key)

export const sameShape = (a: readonly Dim[], b: readonly Dim[]): boolean =>
  a.length === b.length && a.every((d, i) => sameDim(d, b[i]!))

/** The number that `d` stands for once its unknowns are bound; throws a RangeError naming one that is not. */
export function evalDim(d: Dim, env: Readonly<Record<string, number>>): number {
  if (typeof d === "number") return d
  return d.terms.reduce((sum, t) => sum + t.atoms.reduce((p, a) => p * evalAtom(a, env), t.coeff), 0)
}

function evalAtom(atom: Atom, env: Readonly<Record<string, number>>): number {
  if ("of" in atom) return Math.floor(evalDim(atom.of, env) / atom.by)
  const value = env[atom.name]
  if (value === undefined) throw new RangeError(`size ${atom.name} is not bound`)
  return value
}

/** Walks an expression bottom-up; the ONNX writer turns it into integer arithmetic on shapes. */
export function foldDim<T>(
  d: Dim,
  on: {
    num(n: number): T
    name(n: string): T
    mul(a: T, b: T): T
    add(a: T, b: T): T
    floor(a: T, by: number): T
  },
): T {
  if (typeof d === "number") return on.num(d)
  const atom = (a: Atom): T => ("of" in a ? on.floor(foldDim(a.of, on), a.by) : on.name(a.name))
  const term = (t: Term): T => {
    const product = t.atoms.map(atom)
    if (t.coeff !== 1 || product.length === 0) product.push(on.num(t.coeff))
    return product.reduce((a, b) => on.mul(a, b))
  }
  return d.terms.map(term).reduce((a, b) => on.add(a, b))
}

export const showShape = (shape: readonly Dim[]): string => `[${shape.map(String).join(", ")}]`

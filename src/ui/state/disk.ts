/** Tables of this page in IndexedDB, opened when first used. */
const names = ["steps", "prints", "files"] as const
export type TableName = (typeof names)[number]

let opening: Promise<IDBDatabase> | undefined

function database(): Promise<IDBDatabase> {
  opening ??= new Promise((done, fail) => {
    const request = indexedDB.open("aquatint", 1)
    request.onupgradeneeded = () => {
      for (const name of names) request.result.createObjectStore(name, { keyPath: "id" })
    }
    request.onsuccess = () => done(request.result)
    request.onerror = () => fail(request.error)
  })
  opening.catch(() => {
    opening = undefined
  })
  return opening
}

async function ask<T>(
  name: TableName,
  mode: IDBTransactionMode,
  run: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  const transaction = (await database()).transaction(name, mode)
  const request = run(transaction.objectStore(name))
  return new Promise((done, fail) => {
    // a write counts once it is committed
    transaction.oncomplete = () => done(request.result)
    transaction.onabort = () => fail(transaction.error ?? request.error)
  })
}

export interface Table<T extends { readonly id: string }> {
  get(id: string): Promise<T | undefined>
  all(): Promise<T[]>
  put(row: T): Promise<void>
  delete(id: string): Promise<void>
}

export function table<T extends { readonly id: string }>(name: TableName): Table<T> {
  return {
    get: (id) => ask<T | undefined>(name, "readonly", (s) => s.get(id)),
    all: () => ask<T[]>(name, "readonly", (s) => s.getAll()),
    put: async (row) => void (await ask(name, "readwrite", (s) => s.put(row))),
    delete: async (id) => void (await ask(name, "readwrite", (s) => s.delete(id))),
  }
}

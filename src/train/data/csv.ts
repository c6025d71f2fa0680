/**
 * Rows of comma-separated text (RFC 4180) by the names in the first: quotes hold commas, line breaks and doubled
 * quotes. A semicolon or tab separates where the first line has it instead of a comma.
 */
export function csvRows(text: string): { line: number; row: Record<string, string> }[] {
  const body = text.replace(/^\uFEFF/, "")
  const head = body.slice(0, (body.search(/\r|\n/) + body.length + 1) % (body.length + 1))
  const separator = [",", "\t", ";"].find((c) => head.includes(c)) ?? ","
  const records = split(body, separator)
  const names = records.shift()?.cells.map((c) => c.trim()) ?? []
  return records
    .filter(({ cells }) => cells.some((c) => c !== ""))
    .map(({ line, cells }) => ({ line, row: Object.fromEntries(names.map((n, i) => [n, cells[i] ?? ""])) }))
}

function split(text: string, separator: string): { line: number; cells: string[] }[] {
  const records: { line: number; cells: string[] }[] = []
  let cells: string[] = []
  let [cell, quoted, line, began] = ["", false, 1, 1]
  const endRecord = () => {
    cells.push(cell)
    records.push({ line: began, cells })
    ;[cells, cell, began] = [[], "", line]
  }
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!
    if (c === "\n") line++
    if (quoted) {
      if (c !== '"') cell += c
      else if (text[i + 1] === '"') cell += text[++i]
      else quoted = false
    } else if (c === '"' && cell === "") quoted = true
    else if (c === separator) {
      cells.push(cell)
      cell = ""
    } else if (c === "\n") endRecord()
    else if (c !== "\r") cell += c
  }
  if (cell !== "" || cells.length > 0) endRecord()
  return records
}

import type { ComponentChildren, TargetedEvent } from "preact"
import { useId } from "preact/hooks"
import { Icon, type IconName } from "./icon.tsx"

interface ButtonProps {
  readonly icon?: IconName
  readonly label: string
  readonly onClick: () => void
  /** `quiet` shows the icon alone, the label as a tooltip. */
  readonly kind?: "main" | "plain" | "quiet" | "danger"
  readonly hint?: string
  readonly disabled?: boolean
  readonly pressed?: boolean
  readonly expanded?: boolean
  readonly controls?: string
  readonly class?: string
}

export function Button({ icon, label, onClick, kind = "plain", hint, class: more, ...rest }: ButtonProps) {
  const quiet = kind === "quiet"
  return (
    <button
      type="button"
      class={`button ${kind} ${more ?? ""}`}
      onClick={onClick}
      title={hint ?? (quiet ? label : undefined)}
      aria-label={quiet ? label : undefined}
      disabled={rest.disabled}
      aria-pressed={rest.pressed}
      aria-expanded={rest.expanded}
      aria-controls={rest.controls}
    >
      {icon && <Icon name={icon} />}
      {!quiet && <span>{label}</span>}
    </button>
  )
}

/** A label, its control, and a word of help that the control is described by. */
export function Field({
  label,
  help,
  children,
}: {
  label: string
  help?: string
  children: (ids: { id: string; "aria-describedby": string | undefined }) => ComponentChildren
}) {
  const id = useId()
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, "aria-describedby": help ? `${id}-help` : undefined })}
      {help && (
        <small id={`${id}-help`} class="help">
          {help}
        </small>
      )}
    </div>
  )
}

interface SliderProps {
  readonly label: string
  readonly value: number | undefined
  /** Shown, and slid from, while there is no value. */
  readonly rest: number
  /** Words for standing at `rest`; the number is left out where it is not `exact`. */
  readonly restNote?: { readonly text: string; readonly exact: boolean }
  readonly min: number
  readonly max: number
  readonly step: number
  readonly help?: string
  readonly show?: (value: number) => string
  readonly onChange: (value: number) => void
}

/** One quantity: a slider that says its value. */
export function Slider({ label, value, rest, restNote, min, max, step, help, show, onChange }: SliderProps) {
  const at = value ?? rest
  const shown = (show ?? String)(at)
  const note = value === undefined ? restNote : undefined
  const text = note ? [note.exact && shown, note.text].filter(Boolean).join(" · ") : shown
  const share = max > min ? Math.min(1, Math.max(0, (at - min) / (max - min))) : 0
  const take = (event: TargetedEvent<HTMLInputElement>) => onChange(Number(event.currentTarget.value))
  return (
    <Field label={label} help={help}>
      {(ids) => (
        <div class={`slider ${value === undefined ? "resting" : ""}`}>
          <input
            {...ids}
            type="range"
            min={min}
            max={max}
            step={step}
            value={at}
            aria-valuetext={text}
            style={{ "--at": `${share * 100}%` }}
            onInput={take}
          />
          <output for={ids.id}>{text}</output>
        </div>
      )}
    </Field>
  )
}

interface SelectProps {
  readonly label: string
  readonly value: string
  readonly options: readonly { readonly id: string; readonly name: string; readonly disabled?: boolean }[]
  readonly help?: string
  readonly onChange: (value: string) => void
}

export const Select = ({ label, value, options, help, onChange }: SelectProps) => (
  <Field label={label} help={help}>
    {(ids) => (
      <div class="select">
        <select {...ids} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
          {options.map((o) => (
            <option key={o.id} value={o.id} disabled={o.disabled} selected={o.id === value}>
              {o.name}
            </option>
          ))}
        </select>
        <Icon name="down" size={16} />
      </div>
    )}
  </Field>
)

interface ChoiceProps<T extends string> {
  readonly label: string
  readonly value: T
  readonly options: readonly { readonly id: T; readonly name: string; readonly picture?: ComponentChildren }[]
  readonly onChange: (value: T) => void
}

/** A few choices side by side: radio buttons, so that arrow keys move between them. */
export function Choices<T extends string>({ label, value, options, onChange }: ChoiceProps<T>) {
  const name = useId()
  return (
    <fieldset class="choices">
      <legend>{label}</legend>
      <div class="row">
        {options.map((o) => (
          <label key={o.id} class="choice">
            <input type="radio" name={name} checked={o.id === value} onChange={() => onChange(o.id)} />
            {o.picture}
            <span>{o.name}</span>
          </label>
        ))}
      </div>
    </fieldset>
  )
}

interface NumberProps {
  readonly label: string
  readonly value: number | undefined
  readonly placeholder?: string
  readonly min: number
  readonly max: number
  readonly step?: number
  readonly onChange: (value: number | undefined) => void
}

/** A number that may be left open; what is out of range is brought into it once the reader is done typing. */
export function NumberField({ label, value, placeholder, min, max, step = 1, onChange }: NumberProps) {
  const settle = (event: TargetedEvent<HTMLInputElement>) => {
    const text = event.currentTarget.value.trim()
    const n = Number(text)
    if (text === "" || !Number.isFinite(n)) return onChange(undefined)
    const fitting = Math.min(max, Math.max(min, Math.round(n / step) * step))
    event.currentTarget.value = String(fitting)
    onChange(fitting)
  }
  return (
    <Field label={label}>
      {(ids) => (
        <input
          {...ids}
          class="text"
          type="number"
          inputMode="numeric"
          min={min}
          max={max}
          step={step}
          value={value ?? ""}
          placeholder={placeholder}
          onChange={settle}
        />
      )}
    </Field>
  )
}

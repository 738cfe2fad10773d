// A table of objects: rows are chosen by clicks and arrow keys, columns come from the rows.

import { useRef, useState } from "preact/hooks";

import type { Json } from "../data/types";
import { number } from "../words/numbers";
import { useWords } from "../words/words";

export type Row = { [key: string]: Json };

interface Props {
  label: string;
  rows: Row[];
  /** Key and heading of each column. */
  columns: [string, string][];
  most?: number;
}

export function Records({ label, rows, columns, most = 400 }: Props) {
  const say = useWords();
  const [at, setAt] = useState(0);
  const body = useRef<HTMLTableSectionElement>(null);
  const shown = rows.slice(0, most);
  const key = (event: KeyboardEvent) => {
    const moves: Record<string, number> = {
      ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1,
      PageDown: at + 20, PageUp: at - 20,
    };
    const to = moves[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = Math.min(Math.max(to, 0), shown.length - 1);
    setAt(next);
    (body.current?.rows[next] as HTMLElement | undefined)?.focus();
  };
  return (
    <div class="scroll" role="region" aria-label={label}>
      <table class="records">
        <thead><tr>{columns.map(([name, title]) => <th key={name} scope="col">{title}</th>)}</tr></thead>
        <tbody ref={body} onKeyDown={key}>
          {shown.map((row, i) => (
            <tr key={i} tabIndex={i === at ? 0 : -1} onFocus={() => setAt(i)} data-level={level(row)}>
              {columns.map(([name]) => <td key={name} class={text(row[name]).length > 40 ? "long" : ""}>{text(row[name])}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > most && <p class="quiet">{say("more_rows", { count: rows.length - most })}</p>}
    </div>
  );
}

export function rowsIn(value: Json): Row[] {
  const list = Array.isArray(value) ? value
    : value && typeof value === "object" && Array.isArray(value.rows) ? value.rows : [];
  return list.filter((one): one is Row => one !== null && typeof one === "object" && !Array.isArray(one));
}

function level(row: Row): string | undefined {
  const word = row.verdict ?? row.status ?? row.level ?? row.result;
  return typeof word === "string" ? word.toLowerCase() : undefined;
}

function text(value: Json | undefined): string {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "number") return number(value);
  if (typeof value === "boolean") return value ? "✓" : "–";
  if (Array.isArray(value) && !value.length) return "–";
  if (Array.isArray(value)) return value.every((one) => typeof one === "number") ? value.join(" × ") : value.map(text).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([k, v]) => `${k} ${text(v)}`).join(", ");
  return value.replace(/\d+\.\d{4,}/g, (digits) => number(Number(digits))); // as in orthogonal(gain=…)
}

// The model as a tree of modules, in the pattern of WAI-ARIA: one tab stop, arrow keys within.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { Branch } from "./branches";

const ROW = 23;
const WHOLE = 200;
const MARGIN = 20;

interface Props {
  label: string;
  roots: Branch[];
  selected: string | null;
  onSelect: (name: string) => void;
  /** Severity of a finding at that name. */
  flag: (name: string) => "warn" | "fail" | undefined;
}

export function Tree({ label, roots, selected, onSelect, flag }: Props) {
  const all = useMemo(() => roots.flatMap((root) => withDescendants(root)), [roots]);
  const [closed, setClosed] = useState<ReadonlySet<string>>(() => new Set());
  const [at, setAt] = useState<string | null>(null);
  const list = useRef<HTMLUListElement>(null);
  const [top, setTop] = useState(0);
  const shown = all.filter((one) => !one.above.some((name) => closed.has(name)));
  const active = shown.find((one) => one.branch.name === (at ?? selected)) ?? shown[0];

  useEffect(() => {
    if (selected === null) return;
    const above = all.find((one) => one.branch.name === selected)?.above ?? [];
    setClosed((old) => (above.some((name) => old.has(name)) ? without(old, above) : old));
    setAt(null);
    reveal(selected);
  }, [selected]);
  const reveal = (name: string | undefined) => {
    const row = shown.findIndex((one) => one.branch.name === name);
    const box = list.current;
    if (!box || row < 0) return;
    const { scrollTop, clientHeight } = box;
    if (row * ROW < scrollTop) box.scrollTop = row * ROW;
    else if ((row + 1) * ROW > scrollTop + clientHeight) box.scrollTop = (row + 1) * ROW - clientHeight;
    setTop(box.scrollTop);
  };

  const toggle = (name: string) =>
    setClosed((old) => (old.has(name) ? without(old, [name]) : new Set([...old, name])));
  const focus = (index: number) => {
    const next = shown[Math.min(Math.max(index, 0), shown.length - 1)];
    if (!next) return;
    setAt(next.branch.name);
    reveal(next.branch.name);
    requestAnimationFrame(() => list.current?.querySelector<HTMLElement>("[tabindex='0']")?.focus());
  };
  const key = (event: KeyboardEvent) => {
    if (!active) return;
    const place = shown.indexOf(active);
    const { branch } = active;
    const open = branch.children.length > 0 && !closed.has(branch.name);
    const actions: Record<string, () => void> = {
      ArrowDown: () => focus(place + 1),
      ArrowUp: () => focus(place - 1),
      Home: () => focus(0),
      End: () => focus(shown.length - 1),
      ArrowRight: () => (open ? focus(place + 1) : branch.children.length && toggle(branch.name)),
      ArrowLeft: () =>
        open ? toggle(branch.name) : focus(shown.findIndex((one) => one.branch.name === active.above.at(-1))),
      Enter: () => onSelect(branch.name),
      " ": () => onSelect(branch.name),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
  // Of a large model only what is in sight has elements, and the one that has the focus.
  const few = shown.length <= WHOLE;
  const from = few ? 0 : Math.max(0, Math.floor(top / ROW) - MARGIN);
  const to = few ? shown.length : from + MARGIN * 2 + Math.ceil((list.current?.clientHeight ?? 800) / ROW);
  const place = active ? shown.indexOf(active) : 0;
  const drawn = shown.slice(from, to).map((one, i) => ({ ...one, row: from + i }));
  if (active && (place < from || place >= to)) drawn.push({ ...active, row: place });
  return (
    <ul
      class="tree" role="tree" aria-label={label} ref={list} onKeyDown={key}
      onScroll={few ? undefined : (event) => setTop(event.currentTarget.scrollTop)}
    >
      <li class="extent" role="none" style={{ height: `${shown.length * ROW}px` }} />
      {drawn.map(({ branch, above, row }) => {
        const open = !closed.has(branch.name);
        const mark = flag(branch.name);
        return (
          <li
            key={branch.name} role="treeitem" aria-level={above.length + 1}
            aria-selected={branch.name === selected}
            {...(branch.children.length ? { "aria-expanded": open } : {})}
            tabIndex={branch === active?.branch ? 0 : -1}
            aria-setsize={shown.length} aria-posinset={row + 1}
            style={{ top: `${row * ROW}px`, paddingLeft: `${0.4 + 0.9 * above.length}rem` }}
            onClick={() => { setAt(branch.name); onSelect(branch.name); }}
          >
            <span
              class="twist" aria-hidden="true"
              onClick={(event) => { event.stopPropagation(); if (branch.children.length) toggle(branch.name); }}
            >
              {branch.children.length ? (open ? "▾" : "▸") : ""}
            </span>
            <span class="leaf">{branch.title}</span>
            <span class="module">{branch.module}</span>
            {mark && <span class={`flag ${mark}`} title={mark}>●</span>}
          </li>
        );
      })}
    </ul>
  );
}

function without(names: ReadonlySet<string>, gone: string[]): ReadonlySet<string> {
  return new Set([...names].filter((name) => !gone.includes(name)));
}

function withDescendants(branch: Branch, above: string[] = []): { branch: Branch; above: string[] }[] {
  const below = [...above, branch.name];
  return [{ branch, above }, ...branch.children.flatMap((child) => withDescendants(child, below))];
}

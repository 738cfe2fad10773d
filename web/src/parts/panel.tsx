// A card with a heading.

import type { ComponentChildren } from "preact";

interface Props {
  title: string;
  hint?: string | undefined;
  tools?: ComponentChildren;
  wide?: boolean;
  /** Stands beside two others. */
  tall?: boolean;
  children: ComponentChildren;
}

export function Panel({ title, hint, tools, wide, tall, children }: Props) {
  return (
    <section class={`panel${wide ? " wide" : ""}${tall ? " tall" : ""}`} aria-label={title}>
      <div class="panel-head">
        <h2>{title}</h2>
        {tools && <div class="tools">{tools}</div>}
      </div>
      {hint && <p class="hint">{hint}</p>}
      {children}
    </section>
  );
}

export function Facts({ rows }: { rows: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {rows.map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd>{value}</dd></div>
      ))}
    </dl>
  );
}

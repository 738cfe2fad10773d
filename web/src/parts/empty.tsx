// What stands where nothing can be shown: the reason in words.

import type { ComponentChildren } from "preact";

import { useWords } from "../words/words";

export function Empty({ title, children }: { title?: string; children: ComponentChildren }) {
  return (
    <div class="empty">
      {title && <h2>{title}</h2>}
      {children}
    </div>
  );
}

export function Failed({ reason }: { reason: string }) {
  const say = useWords();
  return <p class="failed" role="alert">{say("failed", { reason })}</p>;
}
